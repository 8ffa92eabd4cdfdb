"""`dynamic`: what is pruned is chosen anew during training, and may come back; filters can be kept unlike each other.

Lin, Stich, Barba, Dmitriev, Jaggi: Dynamic Model Pruning with Feedback, ICLR 2020. Every few steps a mask m is made
from the dense weights w: one threshold for all layers, on the mean |w| of filters or on the |w| of single weights.
Forward and gradient use m*w, and the gradient goes to all of w: w <- w - lr * g(m*w). After 3/4 of training the masks
freeze.

Zhu, Zhou, Li: Improving Deep Neural Network Sparsity through Decorrelation Regularization, IJCAI 2018. The loss gains
a * R, R the sum over layers of ||P - diag(P)||_F / n, with P the Pearson correlations of a layer's n unpruned filters.

A paper of KSC 2020 joins the two, with rate 0.6 and a = 0.7; its released code never applies R. Here
    dynamic(rate=0.6), dynamic(rate=0, decorrelation=0.7), dynamic(rate=0.6, decorrelation=0.7)
tell one from the other.

Departures: zero filters are removed as soon as the masks freeze, and the last quarter trains the network that is left.
A zero filter still hands on a constant, what its batch norm adds, and that goes with it. Filters that have to stay,
since sums tie them to others, stay zero; with `tied=True` tied filters share a mask, so that residual streams shrink
too. Depthwise filters go with those they follow and have no mask; filters that read other inputs are not correlated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench import (
    BenchError,
    Lab,
    Mask,
    Method,
    convolutions,
    encodable,
    encode,
    filter_groups,
    is_classifier,
    is_depthwise,
    keep_highest_overall,
    remove_chosen,
)

FREEZE = 3 / 4
PERIOD = {"filter": 4, "weight": 16}
RAMP = {"filter": 0.0, "weight": 0.5}
ALIVE = 1e-4
TINY = 1e-12

Together = Mapping[str, list[nn.Conv2d]]
"""Layers that share one mask, under a name."""


@dataclass(frozen=True, kw_only=True)
class Dynamic(Method):
    name = "dynamic"
    paper = "Lin, Stich, Barba, Dmitriev, Jaggi: Dynamic Model Pruning with Feedback, ICLR 2020"

    rate: Annotated[float, Interval(ge=0, lt=1), "share of all filters, or weights, that goes"] = 0.6
    granularity: Annotated[Literal["filter", "weight"], "what goes; filters are gone physically"] = "filter"
    decorrelation: Annotated[float, Ge(0), "a, what correlated filters cost; the authors' 0.7"] = 0.0
    period: Annotated[int | None, Ge(1), "steps from mask to mask; none: 4 for filters, 16 for weights"] = None
    ramp: Annotated[
        float | None,
        Interval(ge=0, le=FREEZE),
        "share of training in which the rate grows from 0, cubically; none: 0 for filters, 0.5 for weights",
    ] = None
    tied: Annotated[bool, "filters: those tied by sums share a mask, so that residual streams shrink too"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.granularity != "filter":
            raise BenchError(f"{self}: tied goes with granularity=filter")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        with lab.one_schedule():
            if self.rate and self.granularity == "filter":
                self._prune_filters(model, lab)
            elif self.rate:
                self._prune_weights(model, lab)
            lab.fit(model, penalty=self._penalty if self.decorrelation else None)
        return model

    def _prune_filters(self, model: nn.Module, lab: Lab) -> None:
        groups, left = filter_groups(model, lab.example_input, tied=self.tied)
        layers = convolutions(model)
        alone = [name for name in left if not is_depthwise(layers[name]) and not is_classifier(model, layers[name])]
        masks = {group.convolutions[0]: [layers[name] for name in group.convolutions] for group in groups}
        kept = self._search(model, lab, masks | {name: [layers[name]] for name in alone})
        chosen = [(~kept[group.convolutions[0]]).flatten().nonzero()[:, 0].tolist() for group in groups]
        remove_chosen(model, lab, groups, chosen, left)
        for name in alone:
            layer, count = layers[name], int(kept[name].sum())
            if count < layer.out_channels:
                encode(layer, Mask(kept[name][:, :, 0, 0].repeat(1, layer.weight.shape[1]), layer.weight))
                lab.note(name, f"{count} of {layer.out_channels} filters kept, the others zero: {left[name]}")

    def _prune_weights(self, model: nn.Module, lab: Lab) -> None:
        layers = encodable(model, lab, dropped_kernels=False)
        if not layers:
            raise BenchError(f"{self}: an earlier method has encoded every convolution")
        for name, kept in self._search(model, lab, {name: [layer] for name, layer in layers.items()}).items():
            encode(layers[name], Mask(kept, layers[name].weight))
            lab.note(name, f"{int(kept.sum())} of {kept.numel()} weights kept")

    def _search(self, model: nn.Module, lab: Lab, masks: Together) -> dict[str, Tensor]:
        """Train with changing masks until they freeze; bool [Co, 1, 1, 1] of filters, or of single weights."""

        def update(rate: float) -> dict[str, Tensor]:
            score = filter_magnitudes if self.granularity == "filter" else weight_magnitudes
            kept = keep_highest_overall({name: score(layers) for name, layers in masks.items()}, rate)
            for name, layers in masks.items():
                for layer in layers:
                    layer.parametrizations.weight[0].kept = kept[name]
            return kept

        def after_step(step: int, steps: int) -> None:
            if step % (self.period or PERIOD[self.granularity]) == 0:
                update(self.rate_at(FREEZE * step / steps))

        masked = [layer for layers in masks.values() for layer in layers]
        for layer in masked:
            parametrize.register_parametrization(layer, "weight", StraightThrough(layer.weight))
        update(self.rate_at(0))
        lab.fit(model, FREEZE * lab.remaining, self._penalty if self.decorrelation else None, after_step)
        kept = update(self.rate)
        for layer in masked:  # what is not kept is now zero
            parametrize.remove_parametrizations(layer, "weight")
        return kept

    def rate_at(self, progress: float) -> float:
        """s_t = s_f * (1 - (1 - t / T_r)^3) until T_r, from then on s_f; of `progress` from 0 to 1."""
        ramp = RAMP[self.granularity] if self.ramp is None else self.ramp
        return self.rate * (1 - (1 - progress / ramp) ** 3) if progress < ramp else self.rate

    def _penalty(self, model: nn.Module) -> Any:
        layers = convolutions(model).values()
        return self.decorrelation * sum(correlation(layer.weight, layer.groups) for layer in layers)


class StraightThrough(nn.Module):
    """Sets to zero what is not kept; the gradient passes as it is, so that what is zero may come back."""

    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.kept * weight - weight).detach()


def filter_magnitudes(layers: list[nn.Conv2d]) -> Tensor:
    """Mean |w| of every filter, over all layers that share the mask; dense weights, [Co, 1, 1, 1]."""
    rows = [layer.parametrizations.weight.original.detach().flatten(1) for layer in layers]
    return torch.cat(rows, 1).abs().mean(1)[:, None, None, None]


def weight_magnitudes(layers: list[nn.Conv2d]) -> Tensor:
    """|w| of a layer, dense; its shape."""
    return layers[0].parametrizations.weight.original.detach().abs()


def correlation(weight: Tensor, groups: int = 1) -> Tensor:
    """||P - diag(P)||_F / n over the n filters of `weight` [Co, Ci / groups, h, w] that are not zero."""
    filters = weight.flatten(1)
    alive = filters.detach().abs().mean(1) > ALIVE
    reads = torch.arange(len(filters), device=weight.device) * groups // len(filters)
    pairs = (alive[:, None] & alive & (reads[:, None] == reads)).fill_diagonal_(False)
    centred = filters - filters.mean(1, keepdim=True)
    units = centred / (centred.square().sum(1, keepdim=True) + TINY).sqrt()
    return (units @ units.T * pairs).norm() / alive.sum().clamp(min=1)
