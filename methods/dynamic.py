"""`dynamic`: chooses again and again during training what is pruned, so that weights may come back; optionally, it also
penalises correlated filters.

Lin, Stich, Barba, Dmitriev, Jaggi: Dynamic Model Pruning with Feedback, ICLR 2020, https://arxiv.org/abs/2006.07253.
Every few steps a mask m is computed from the dense weights w, by one threshold for all layers on the mean |w| of
filters or on the |w| of single weights; these include the weights of linear layers and of the classifier. Forward pass
and gradient use m*w, and the gradient updates all of w: w <- w - lr * g(m*w). The masks freeze after 3/4 of training.

Zhu, Zhou, Li: Improving Deep Neural Network Sparsity through Decorrelation Regularization, IJCAI 2018,
https://doi.org/10.24963/ijcai.2018/453. The loss gains a * R, where R is the sum over layers of
||P - diag(P)||_F / n, and P holds the Pearson correlations of a layer's n unpruned filters.

A paper of KSC 2020 combines the two, with rate 0.6 and a = 0.7, but its released code never applies R. These settings
separate the two effects: dynamic(rate=0.6), dynamic(rate=0, decorrelation=0.7), dynamic(rate=0.6, decorrelation=0.7).

Departures: zero filters are removed as soon as the masks freeze, and the last quarter of training trains the network
that is left. A zero filter still passes on the constant that its batch norm adds, and this constant is removed with it.
Filters that have to stay because sums tie them to others stay zero; with `tied=True` tied filters share a mask, so that
residual streams shrink too. Depthwise filters have no mask of their own and go with the filters they follow. Filters
that read different inputs are not correlated.
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
    KeepAtLeast,
    Lab,
    Mask,
    Method,
    Rate,
    RoundTo,
    Strength,
    Tied,
    convolutions,
    encodable,
    encode,
    filter_groups,
    is_classifier,
    is_depthwise,
    keep_highest_overall,
    remove_lowest,
)

FREEZE = 3 / 4
PERIOD = {"filter": 4, "weight": 16}
RAMP = {"filter": 0.0, "weight": 0.5}
ALIVE = 1e-4
TINY = 1e-12

Together = Mapping[str, list[nn.Conv2d | nn.Linear]]
"""Layers that share one mask, under a name."""


@dataclass(frozen=True, kw_only=True)
class Dynamic(Method):
    name = "dynamic"
    style = ("orange", "diamond")
    paper = "Lin, Stich, Barba, Dmitriev, Jaggi: Dynamic Model Pruning with Feedback, ICLR 2020"
    searched = ("granularity",)
    strength = Strength("rate", 0.0, 0.99)

    rate: Rate = 0.6
    granularity: Annotated[Literal["filter", "weight"], "what is removed; filters are gone physically"] = "filter"
    decorrelation: Annotated[float, Ge(0), "a, the weight of the penalty on correlated filters; the authors: 0.7"] = 0.0
    period: Annotated[int | None, Ge(1), "steps between two masks; none: 4 for filters, 16 for weights"] = None
    ramp: Annotated[
        float | None,
        Interval(ge=0, le=FREEZE),
        "share of training in which the rate grows from 0, cubically; none: 0 for filters, 0.5 for weights",
    ] = None
    tied: Tied = False
    round_to: RoundTo = 1
    keep_at_least: KeepAtLeast = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tied or self.round_to > 1) and self.granularity != "filter":
            raise BenchError(f"{self}: tied and round_to go with granularity=filter")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        with lab.one_schedule():
            if self.rate and self.granularity == "filter":
                self._prune_filters(model, lab)
            elif self.rate:
                self._prune_weights(model, lab)
            lab.fit(model, penalty=self._penalty if self.decorrelation else None)
        return model

    def _prune_filters(self, model: nn.Module, lab: Lab) -> None:
        groups, left = filter_groups(model, lab, tied=self.tied)
        layers = convolutions(model)
        alone = [name for name in left if not is_depthwise(layers[name]) and not is_classifier(model, layers[name])]
        masks = {group.convolutions[0]: [layers[name] for name in group.convolutions] for group in groups}
        units = dict.fromkeys(masks, self.round_to)
        kept = self._search(model, lab, masks | {name: [layers[name]] for name in alone}, units)
        zeros = {name: int((~kept[name]).sum()) for name in masks}
        widths = {"tied": self.tied, "round_to": self.round_to}
        remove_lowest(model, lab, lambda group: kept[group.convolutions[0]].flatten(), count=zeros, **widths)
        for name in alone:
            layer, stay = layers[name], int(kept[name].sum())
            if stay < layer.out_channels:
                encode(layer, Mask(kept[name][:, :, 0, 0].repeat(1, layer.weight.shape[1]), layer.weight))
                lab.note(name, f"{stay} of {layer.out_channels} filters kept, the others zero: {left[name]}")

    def _prune_weights(self, model: nn.Module, lab: Lab) -> None:
        layers = encodable(model, lab, dropped_kernels=False, linear=True)
        if not layers:
            raise BenchError(f"{self}: an earlier method has encoded every convolution and linear layer")
        for name, kept in self._search(model, lab, {name: [layer] for name, layer in layers.items()}).items():
            encode(layers[name], Mask(kept, layers[name].weight))
            lab.note(name, f"{int(kept.sum())} of {kept.numel()} weights kept")

    def _search(
        self, model: nn.Module, lab: Lab, masks: Together, units: Mapping[str, int] | None = None
    ) -> dict[str, Tensor]:
        """Train with changing masks until they freeze; filters of a layer go `units` at a time.

        Returns what is kept, bool, by the names of `masks`: [Co, 1, 1, 1] for filters, the weight's shape for weights.
        """

        def update(rate: float) -> dict[str, Tensor]:
            score = filter_magnitudes if self.granularity == "filter" else weight_magnitudes
            scores = {name: score(layers) for name, layers in masks.items()}
            kept = keep_highest_overall(scores, rate, units=units, keep_at_least=self.keep_at_least)
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
        """s_t = s_f * (1 - (1 - t / T_r)^3) until t = T_r, then s_f; t is `progress`, from 0 to 1."""
        ramp = RAMP[self.granularity] if self.ramp is None else self.ramp
        return self.rate * (1 - (1 - progress / ramp) ** 3) if progress < ramp else self.rate

    def _penalty(self, model: nn.Module) -> Any:
        layers = convolutions(model).values()
        return self.decorrelation * sum(correlation(layer.weight, layer.groups) for layer in layers)


class StraightThrough(nn.Module):
    """Sets to zero what is not kept; the gradient passes unchanged, so that zero weights may come back."""

    kept: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kept", torch.ones_like(weight, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.kept * weight - weight).detach()


def filter_magnitudes(layers: list[nn.Conv2d]) -> Tensor:
    """Mean |w| of every filter over all layers that share the mask, from the dense weights: [Co, 1, 1, 1]."""
    rows = [layer.parametrizations.weight.original.detach().flatten(1) for layer in layers]
    return torch.cat(rows, 1).abs().mean(1)[:, None, None, None]


def weight_magnitudes(layers: list[nn.Conv2d | nn.Linear]) -> Tensor:
    """|w| of the layer's dense weights, in the weight's shape."""
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
