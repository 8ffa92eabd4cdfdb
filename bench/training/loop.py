"""The one training loop, which trains baselines and compressed networks alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import cos, isfinite, pi
from typing import Protocol

import torch
from torch import Tensor, nn

from bench.data.feed import Batch, Feed
from bench.system.errors import BenchError, Diverged
from bench.system.progress import bar
from bench.training.order import Order

Penalty = Callable[[nn.Module], Tensor]
AfterStep = Callable[[int, int], None]

WARM_UP = 0.1
"""Share of the schedule in which the learning rate rises."""
NO_VARIANCE = "more than 1 value per channel"
"""Part of torch's message for a batch that batch norm cannot normalise. That message names neither the batch nor a
remedy."""
CHECKED_STEPS = 50
"""Updates between two checks of the loss; each check waits for the device."""


class Keeper(Protocol):
    """Keeps the state of one training, so that it can go on after a kill."""

    def restore(self, model: nn.Module, optimiser: torch.optim.SGD, order: torch.Generator) -> int:
        """Load a state that was kept, and return the number of updates made until then; 0 if there is none."""

    def after(self, step: int, model: nn.Module, optimiser: torch.optim.SGD, order: Order) -> None:
        """Keep the state after an update and its `after_step`, if it is time to."""


def fit(
    model: nn.Module,
    feed: Feed,
    epochs: float,
    *,
    lr: float,
    generator: torch.Generator,
    penalty: Penalty | None = None,
    after_step: AfterStep | None = None,
    snapshot: Keeper | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    only: Sequence[nn.Module] = (),
    description: str = "training",
) -> None:
    """Train `model` in place: SGD with Nesterov momentum, the one-cycle schedule, mixed precision on CUDA.

    `epochs` are passes over `feed`, `lr` is the peak learning rate and `generator` draws the order of the images.
    `penalty(model)` is added to the cross-entropy. `after_step(step, steps)` is called after each update, from step 1.
    Training continues from the `snapshot`, if it holds a state, and lets it keep its own. `span` is the part of the
    schedule that this training covers, from 0 to 1. With `only`, other layers stay as they are. No gradients are left.
    Raises Diverged if the loss is not finite; BenchError without images or trainable parameters, or for tiny batches.
    """
    steps = max(1, round(epochs * feed.steps))
    with _frozen_but(model, only), bar(description, steps) as advance:
        optimiser = _optimiser(model, feed, lr, description)
        advance(done := snapshot.restore(model, optimiser, generator) if snapshot else 0)
        update = _stepper(model, optimiser, feed.device, penalty, description)
        order = Order(feed, generator)
        for step, (images, labels) in enumerate(order.take(steps, done), start=done + 1):
            optimiser.param_groups[0]["lr"] = lr * one_cycle(span[0] + (span[1] - span[0]) * (step - 1) / steps)
            loss = update(images, labels)
            if after_step is not None:
                after_step(step, steps)
            if step % CHECKED_STEPS == 0 or step == steps:
                _require_finite(loss.item(), description, step, steps)
            if snapshot is not None:
                snapshot.after(step, model, optimiser, order)
            advance(1)
        optimiser.zero_grad()
    model.eval()


def _require_finite(loss: float, description: str, step: int, steps: int) -> None:
    if not isfinite(loss):
        raise Diverged(f"{description}: the loss is {loss} at step {step} of {steps}")


@contextmanager
def _frozen_but(model: nn.Module, only: Sequence[nn.Module]) -> Iterator[None]:
    """Within this block the network is in training mode; with `only`, these layers alone are, and are trainable."""
    model.train(not only)
    trainable = {parameter for layer in only for parameter in layer.parameters()}
    frozen = [p for p in model.parameters() if only and p.requires_grad and p not in trainable]
    for layer in only:
        layer.train()
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _optimiser(model: nn.Module, feed: Feed, lr: float, description: str) -> torch.optim.SGD:
    """The one optimiser that everything is trained with, over all trainable parameters."""
    if not len(feed):
        raise BenchError(f"{description}: there are no training images")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise BenchError(f"{description}: nothing in the network is trainable, requires_grad is off everywhere")
    recipe = feed.recipe
    return torch.optim.SGD(parameters, lr=lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True)


def _stepper(
    model: nn.Module, optimiser: torch.optim.SGD, device: torch.device, penalty: Penalty | None, description: str
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that makes one update from images and labels, and returns the loss."""
    criterion = nn.CrossEntropyLoss()

    def update(images: Tensor, labels: Tensor) -> Tensor:
        with explained(description, len(images)), autocast(device):
            loss: Tensor = criterion(model(images), labels)
        if penalty is not None:
            loss = loss + penalty(model)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss

    return update


@contextmanager
def explained(description: str, images: int) -> Iterator[None]:
    """Around a pass in training mode: raises BenchError if batch norm cannot normalise so few images."""
    try:
        yield
    except ValueError as error:
        if NO_VARIANCE not in str(error):
            raise
        raise BenchError(f"{description}: {_too_small(images)}") from error


def _too_small(images: int) -> str:
    size = "1 image" if images == 1 else f"{images} images"
    return (
        f"batch normalisation needs more than one value per channel, and a batch of {size} gives one; "
        "use more training images or a larger batch_size"
    )


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate at `progress` from 0 to 1: a linear rise over the first tenth, a cosine to zero.

    After the 1cycle policy (Smith and Topin: Super-Convergence, 2018, https://arxiv.org/abs/1708.07120), which falls
    linearly.
    """
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.5 * (1 + cos(pi * (progress - WARM_UP) / (1 - WARM_UP)))


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the CUDA device has it; full precision elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=training_precision(device) == "bfloat16")


def training_precision(device: torch.device) -> str:
    """The precision in which convolutions are trained: `bfloat16` or `float32`."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if supported else "float32"


def take(feed: Feed, generator: torch.Generator, steps: int) -> Iterator[Batch]:
    """`steps` augmented batches, pass after pass over the images."""
    return Order(feed, generator).take(steps)
