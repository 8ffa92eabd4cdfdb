"""Batch-norm statistics, estimated again for the weights that a network has now.

Mean and variance of a channel depend on the weights before it. Pruning or rounding changes the outputs of a layer, and
the old statistics no longer fit. Wu and Johnson: Rethinking "Batch" in BatchNorm, 2021,
https://arxiv.org/abs/2105.07576, section 3 (there "PreciseBN"); for pruned networks Li et al.: EagleEye, ECCV 2020,
https://arxiv.org/abs/2007.02491.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.data.feed import Batch
from bench.networks.state_dicts import digest
from bench.training.loop import explained

START = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
"""The statistics of a normalisation layer, and their values before any batch."""


def with_statistics(model: nn.Module) -> list[nn.Module]:
    """The layers whose running statistics training updates: batch norm of every kind, and layers built like it.

    Frozen layers are left out: those without a momentum, with a momentum of 0, or with `track_running_stats` off.
    """
    return [module for module in model.modules() if _updates(module)]


def _updates(module: Any) -> bool:
    has_statistics = any(isinstance(module._buffers.get(name), Tensor) for name in ("running_mean", "running_var"))
    return has_statistics and getattr(module, "track_running_stats", True) and getattr(module, "momentum", 0) != 0


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Batch], description: str = "batch-norm statistics") -> None:
    """Replace the running statistics of `model`, in place, by their averages over `batches`.

    The mean of a channel becomes the average of the batches' means, and its variance the average of their unbiased
    variances, as in `torch.optim.swa_utils.update_bn`. Unlike there, only layers with statistics are in training mode:
    dropout and stochastic depth are off, and nothing random is drawn. A layer that does not run keeps its statistics;
    if it runs several times in a pass, all runs count. The passes are in float32, as in testing. Weights, other
    buffers, and the modes and momenta of all layers are the same afterwards.

    Raises BenchError for batches that batch norm cannot normalise.
    """
    with _averaging(with_statistics(model)), _only_training(model, with_statistics(model)), parametrize.cached():
        for images, _ in batches:
            with explained(description, len(images)):
                model(images)


@contextmanager
def _averaging(layers: list[nn.Module]) -> Iterator[None]:
    """Within this block the statistics are averages over all that the layers see in it.

    The n-th call has a momentum of 1/n, which works for every kind of layer; only batch norm knows a momentum of None.
    """
    calls = Counter[nn.Module]()

    def begin(layer: Any, _: object) -> None:
        calls[layer] += 1
        if calls[layer] == 1:
            for name, value in START.items():
                if (buffer := layer._buffers.get(name)) is not None:
                    buffer.fill_(value)
        layer.momentum = 1 / calls[layer]

    momenta = [layer.momentum for layer in layers]
    handles = [layer.register_forward_pre_hook(begin) for layer in layers]
    try:
        yield
    finally:
        for layer, momentum, handle in zip(layers, momenta, handles, strict=True):
            layer.momentum = momentum
            handle.remove()


@contextmanager
def _only_training(model: nn.Module, layers: list[nn.Module]) -> Iterator[None]:
    """Within this block these layers are in training mode, and nothing else of the network is."""
    modes = {module: module.training for module in model.modules()}
    chosen = set(layers)
    try:
        for module in modes:
            module.training = module in chosen
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def weights_digest(model: nn.Module) -> str:
    """Identifies everything that a network computes with, except for its running statistics."""
    return digest({name: value for name, value in model.state_dict().items() if not is_statistic(name)})


def is_statistic(name: str) -> bool:
    """Whether a tensor of this name is a running statistic."""
    return name.rpartition(".")[2] in START
