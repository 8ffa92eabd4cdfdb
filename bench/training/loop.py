"""The one training loop: every baseline and every method's training goes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import cos, isfinite, pi

import torch
from torch import Tensor, nn

from bench.data.feed import Batch, Feed
from bench.system.errors import BenchError, Diverged
from bench.system.progress import bar
from bench.training.checkpoint import Snapshot

Penalty = Callable[[nn.Module], Tensor]
AfterStep = Callable[[int, int], None]

WARM_UP = 0.1


def fit(
    model: nn.Module,
    feed: Feed,
    epochs: float,
    *,
    lr: float,
    generator: torch.Generator,
    penalty: Penalty | None = None,
    after_step: AfterStep | None = None,
    snapshot: Snapshot | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    description: str = "training",
) -> None:
    """Train in place for `epochs` passes: SGD, Nesterov momentum, the one-cycle schedule, mixed precision on CUDA.

    `penalty(model)` is added to the cross-entropy; `after_step(step, steps)` is called after each update, steps
    counted from 1. A `snapshot` is taken up, and kept after every pass. `span` is the part of the schedule that this
    training is, from 0 to 1. Raises Diverged when the loss is no number.
    """
    steps = max(1, round(epochs * feed.steps))
    recipe = feed.recipe
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise BenchError(f"{description}: nothing in the network is trainable, requires_grad is off everywhere")
    optimiser = torch.optim.SGD(
        parameters, lr=lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    criterion = nn.CrossEntropyLoss()
    done = snapshot.restore(model, optimiser, generator) if snapshot else 0
    model.train()
    with bar(description, steps) as advance:
        advance(done)
        for step, (images, labels) in enumerate(take(feed, generator, steps - done), start=done + 1):
            optimiser.param_groups[0]["lr"] = lr * one_cycle(span[0] + (span[1] - span[0]) * (step - 1) / steps)
            with autocast(feed.device):
                loss = criterion(model(images), labels)
            if penalty is not None:
                loss = loss + penalty(model)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if after_step is not None:
                after_step(step, steps)
            if (step % 50 == 0 or step == steps) and not isfinite(loss.item()):
                raise Diverged(f"{description}: the loss is {loss.item()} at step {step} of {steps}")
            if snapshot is not None and step % feed.steps == 0:
                snapshot.save(step, model, optimiser, generator)
            advance(1)
    model.eval()


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate: a linear rise over the first tenth, then a cosine to zero."""
    if progress < WARM_UP:
        return 0.05 + 0.95 * progress / WARM_UP
    return 0.5 * (1 + cos(pi * (progress - WARM_UP) / (1 - WARM_UP)))


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the CUDA device has it; full precision elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=training_precision(device) == "bfloat16")


def training_precision(device: torch.device) -> str:
    """`bfloat16` or `float32`: what convolutions are trained in."""
    supported = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if supported else "float32"


def take(feed: Feed, generator: torch.Generator, steps: int) -> Iterator[Batch]:
    """`steps` augmented batches, pass after pass."""
    left = steps
    while left > 0:
        for batch in feed.epoch(generator):
            yield batch
            left -= 1
            if left == 0:
                return
