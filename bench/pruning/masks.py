"""Kernels or single weights that are set to zero and stay zero: the lowest of each layer, or of all layers together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.encodings import Mask
from bench.encodings.base import encodable, encode
from bench.networks.layers import Layer
from bench.pruning.rates import only_rate, removed_count
from bench.pruning.scores import checked_limits, checked_rates, checked_scores, whole
from bench.pruning.widths import lowest_overall
from bench.system.errors import BenchError, MethodFault

if TYPE_CHECKING:
    from bench.training.lab import Lab

LayerScore = Callable[[Any], Tensor]
"""One number for each kernel [Co, Ci / groups] or each weight [Co, Ci / groups, h, w] of a convolution, or for each
weight [Co, Ci] of a linear layer."""


def drop_lowest(
    model: nn.Module,
    lab: Lab,
    score: LayerScore,
    rates: Mapping[str, float] | float,
    *,
    overall: bool = False,
    linear: bool = False,
    keep_at_least: float = 0.0,
) -> None:
    """Set the kernels or weights with the lowest scores to zero; they stay zero in training.

    `score(layer)` gives one finite number for each kernel or for each weight; its shape says which of the two are
    dropped. With `linear=True`, weights of linear layers and of the classifier are dropped too; otherwise only
    convolutions are scored. `rates` are the shares to drop: one number, or one for each layer by name (`layer_rates`).
    Every layer loses its own share. With `overall=True`, one share of all layers together is dropped, wherever the
    lowest are, and all rates other than 0 must be the same. Layers with rate 0 are left alone. At least one kernel or
    weight of every layer stays, and at least the share `keep_at_least`; of equal scores, the first is dropped first.
    The per-layer table says how many are kept.

    MethodFault for scores, rates or a limit that cannot be used; BenchError if every such layer is already encoded.
    """
    free = encodable(model, lab, dropped_kernels=False, linear=linear)
    if not free:
        every = "convolution and linear layer" if linear else "convolution"
        raise BenchError(f"an earlier method has encoded every {every}, and nothing is left to set to zero")
    by_layer = checked_rates(rates, model, free, linear=linear)
    layers = {name: layer for name, layer in free.items() if by_layer[name] > 0}
    for name in free.keys() - layers.keys():
        lab.note(name, "its rate is 0, or it is skipped")
    scores = {name: _scores(name, layer, score) for name, layer in layers.items()}
    if overall:
        rate = only_rate(rates if isinstance(rates, Mapping) else by_layer)
        kept = keep_highest_overall(scores, rate, keep_at_least=keep_at_least)
    else:
        least = checked_limits(keep_at_least, {name: some.numel() for name, some in scores.items()})
        kept = {name: _own(scores[name], by_layer[name], least[name]) for name in layers}
    for name, layer in layers.items():
        encode(layer, Mask(kept[name].to(layer.weight.device), layer.weight))
        lab.note(name, f"{int(kept[name].sum())} of {kept[name].numel()} {_unit(kept[name], layer)} kept")


def keep_highest(scores: Tensor, count: int) -> Tensor:
    """Which of the scores are among the `count` highest: bool, the shape of `scores`. Of equal scores the last stay.

    Raises MethodFault for scores that are not finite, and for fewer than `count` scores.
    """
    if whole(count, "count") > scores.numel():
        raise MethodFault(f"count={count}: there are only {scores.numel()} scores")
    if not scores.isfinite().all():
        raise MethodFault("scores are NaN or infinite, so nothing is ranked")
    return _highest(scores, count)


def keep_highest_overall(
    scores: Mapping[str, Tensor],
    rate: float,
    *,
    units: Mapping[str, int] | None = None,
    keep_at_least: float = 0.0,
) -> dict[str, Tensor]:
    """Which scores stay when the share `rate` of all layers' scores is dropped by one threshold: bool, by layer name.

    A layer that would lose everything keeps its highest score; nothing else is dropped instead. With `keep_at_least`
    every layer keeps that share of its scores, and others are dropped instead. With `units` every layer that loses any
    keeps a multiple of its unit. Of equal scores the last stay. Raises MethodFault, with the layer's name, for scores
    that are not finite, or for a rate or share outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise MethodFault(f"rate={rate!r}: expected a number from 0 to 1")
    if not scores:
        return {}
    least = checked_limits(keep_at_least, {name: some.numel() for name, some in scores.items()})
    everything = torch.cat([values.flatten() for values in scores.values()])
    if not everything.isfinite().all():
        for name, values in scores.items():
            checked_scores(values, name, values.shape)
    keep = floor(len(everything) * (1 - Fraction(str(rate))))
    units = {name: units.get(name, 1) if units else 1 for name in scores}
    if keep_at_least or max(units.values()) > 1:
        gone = lowest_overall(scores, len(everything) - keep, units, least)
        return {name: _without(scores[name], gone[name]) for name in scores}
    parts = _highest(everything, keep).split([values.numel() for values in scores.values()])
    kept = {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}
    return {name: part if part.any() else _highest(scores[name], 1) for name, part in kept.items()}


def _highest(scores: Tensor, count: int) -> Tensor:
    kept = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[scores.flatten().sort(stable=True).indices[scores.numel() - count :]] = True
    return kept.view(scores.shape)


def _without(scores: Tensor, gone: Tensor) -> Tensor:
    kept = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    kept[gone] = False
    return kept.view(scores.shape)


def _scores(name: str, layer: Layer, score: LayerScore) -> Tensor:
    shape = layer.weight.shape
    if isinstance(layer, nn.Linear):
        return checked_scores(score(layer), name, shape, each="weight")
    return checked_scores(score(layer), name, shape[:2], shape, each="kernel or weight")


def _own(scores: Tensor, rate: float, least: int) -> Tensor:
    return _highest(scores, max(least, scores.numel() - removed_count(scores.numel(), rate)))


def _unit(kept: Tensor, layer: Layer) -> str:
    return "kernels" if kept.dim() < layer.weight.dim() else "weights"
