"""Kernels or single weights set to zero for good: the lowest of each layer, or of all layers together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.encodings import Mask
from bench.encodings.base import encodable, encode
from bench.pruning.rates import only_rate, removed_count
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from bench.training.lab import Lab

LayerScore = Callable[[nn.Conv2d], Tensor]
"""One number for each kernel [Co, Ci / groups] or each weight [Co, Ci / groups, h, w] of a convolution."""


def drop_lowest(
    model: nn.Module, lab: Lab, score: LayerScore, rates: Mapping[str, float], *, overall: bool = False
) -> None:
    """Set to zero what scores lowest, each layer's own share or, `overall`, one share of all layers together.

    What is scored, kernels or weights, is what is dropped; it stays zero in training. At least one of every layer
    stays. Layers with rate 0 in `rates` (by convolution name) are left alone; `overall`, the others must have the same
    rate. Of equal scores the first goes first. The per-layer table says how many are kept.
    """
    free = encodable(model, lab, dropped_kernels=False)
    if not free:
        raise BenchError("an earlier method has encoded every convolution, and nothing is left to set to zero")
    layers = {name: layer for name, layer in free.items() if rates[name] > 0}
    for name in free.keys() - layers.keys():
        lab.note(name, "its rate is 0, or it is skipped")
    scores = {name: score(layer).detach().cpu() for name, layer in layers.items()}
    if overall:
        kept = keep_highest_overall(scores, only_rate(rates))
    else:
        kept = {name: _own(scores[name], rates[name]) for name in layers}
    for name, layer in layers.items():
        encode(layer, Mask(kept[name].to(layer.weight.device), layer.weight))
        lab.note(name, f"{int(kept[name].sum())} of {kept[name].numel()} {_unit(kept[name])} kept")


def keep_highest(scores: Tensor, count: int) -> Tensor:
    """Whether each is among the `count` highest; bool, the shape of `scores`. Of equal scores the last stay."""
    kept = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[scores.flatten().sort(stable=True).indices[scores.numel() - count :]] = True
    return kept.view(scores.shape)


def keep_highest_overall(scores: Mapping[str, Tensor], rate: float) -> dict[str, Tensor]:
    """Which stay when the share `rate` of all layers' scores goes, by one threshold; bool, by name.

    The best of a layer that would lose everything stays beside.
    """
    if not scores:
        return {}
    everything = torch.cat([values.flatten() for values in scores.values()])
    keep = floor(len(everything) * (1 - Fraction(str(rate))))
    parts = keep_highest(everything, keep).split([values.numel() for values in scores.values()])
    kept = {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
    return {name: part if part.any() else keep_highest(scores[name], 1) for name, part in kept.items()}


def _own(scores: Tensor, rate: float) -> Tensor:
    return keep_highest(scores, scores.numel() - removed_count(scores.numel(), rate))


def _unit(kept: Tensor) -> str:
    return "kernels" if kept.dim() == 2 else "weights"
