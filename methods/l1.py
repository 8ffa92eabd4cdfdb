"""`l1`: removes weights of small magnitude, as whole filters, as kernels, or one by one.

Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017, https://arxiv.org/abs/1608.08710.
In every layer the filters F_j are ranked by s_j = sum |F_j|. The m smallest are removed in one shot, together with
their batch-norm entries and the slices of the following layers that read them. Then the network is trained again. In
residual blocks the first convolution is pruned.

The paper's networks (layers counted from the stem):
    ResNet-56-A   l1(rate=0.1, skip=(16, 20, 38, 54))
    ResNet-56-B   l1(rates='1-19=0.6,20-37=0.3,38-55=0.1', skip=(16, 18, 20, 34, 38, 54))
    ResNet-110-A  l1(rate=0, rates='1-37=0.5', skip=36)
    VGG-16-A      l1(rate=0, rates='1=0.5,8-13=0.5') of vgg16_512_cifar, which has the paper's hidden linear layer
Son et al. (ECCV 2018) drop kernels before they cluster the rest: l1(granularity=kernel, rate=0.5)+tic(k=128).

Filters and kernels are those of convolutions; single weights go from linear layers and the classifier too. Numbers in
`skip` and `rates` count convolutions, as the paper does; linear layers are skipped by name, as in skip=('fc', 16).

Departures: bottlenecks lose filters of both inner convolutions. With `tied=True` residual streams shrink too, and the
scores are summed over all convolutions that write to the stream; the paper ranks by the shortcut's projection alone.
The paper has no rule for `scope=network`; filters and kernels are then compared by their mean |w|.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from bench import (
    BenchError,
    FilterGroup,
    KeepAtLeast,
    Lab,
    Method,
    Rate,
    Rates,
    RoundTo,
    Skip,
    Strength,
    Tied,
    drop_lowest,
    layer_rates,
    remove_lowest,
)


@dataclass(frozen=True, kw_only=True)
class L1(Method):
    name = "l1"
    style = ("green", "triangle-down")
    paper = "Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017"
    searched = ("granularity",)
    strength = Strength("rate", 0.0, 0.99)

    rate: Rate = 0.5
    granularity: Annotated[Literal["filter", "kernel", "weight"], "what is removed; filters are gone physically"] = (
        "filter"
    )
    scope: Annotated[Literal["layer", "network"], "the lowest of every layer, or of all layers together"] = "layer"
    rates: Rates = ""
    skip: Skip = ()
    tied: Tied = False
    round_to: RoundTo = 1
    keep_at_least: KeepAtLeast = 0.0
    greedy: Annotated[bool, "filters: do not count weights whose input is already removed"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.greedy and (self.scope, self.granularity) != ("layer", "filter"):
            raise BenchError(f"{self}: greedy goes with scope=layer and granularity=filter, layer after layer")
        if (self.tied or self.round_to > 1) and self.granularity != "filter":
            raise BenchError(f"{self}: tied and round_to go with granularity=filter")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        linear = self.granularity == "weight"
        rates = layer_rates(model, self.rate, self.rates, self.skip, linear=linear)
        overall, least = self.scope == "network", self.keep_at_least

        def score(group: FilterGroup) -> Tensor:
            sums, weights = sum_magnitudes(model, group, group.gone if self.greedy else {})
            return sums / weights if overall else sums

        def magnitudes(layer: nn.Module) -> Tensor:
            return layer.weight.abs() if self.granularity == "weight" else layer.weight.abs().mean((2, 3))

        if self.granularity == "filter":
            widths = {"tied": self.tied, "round_to": self.round_to, "keep_at_least": least}
            remove_lowest(model, lab, score, rates, overall=overall, **widths)
        else:
            drop_lowest(model, lab, magnitudes, rates, overall=overall, linear=linear, keep_at_least=least)
        lab.fit(model)
        return model


def sum_magnitudes(model: nn.Module, group: FilterGroup, gone: Mapping[str, Set[int]]) -> tuple[Tensor, int]:
    """s_j, summed over the group's convolutions, without the input channels that are `gone`: float64 [channels].

    Also returns how many weights were summed for each filter.
    """
    scores, weights = torch.zeros(group.channels, dtype=torch.double), 0
    for name in group.convolutions:
        magnitudes = model.get_submodule(name).weight.detach().abs().sum((2, 3), dtype=torch.double).cpu()
        magnitudes[:, sorted(gone.get(name, ()))] = 0
        scores += magnitudes.sum(1)
        weights += model.get_submodule(name).weight[0].numel()
    return scores, weights
