"""`l1`: weights of small magnitude go, whole filters of them, kernels, or one by one.

Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017. In every layer the filters F_j
are ranked by s_j = sum |F_j|; the m smallest go in one shot, with the slices of the following layers that read them
and their batch-norm entries, and the network is trained again. Of residual blocks the first convolution is pruned.

The paper's networks (layers counted from the stem):
    ResNet-56-A   l1(rate=0.1, skip=(16, 20, 38, 54))
    ResNet-56-B   l1(rates='1-19=0.6,20-37=0.3,38-55=0.1', skip=(16, 18, 20, 34, 38, 54))
    ResNet-110-A  l1(rate=0, rates='1-37=0.5', skip=36)
    VGG-16-A      l1(rate=0, rates='1=0.5,8-13=0.5')
Kernels are what Son et al. (ECCV 2018) drop before they cluster: l1(granularity=kernel, rate=0.5)+tic(k=128).

Departures: with `tied=True` residual streams shrink too, their scores summed over all convolutions that write to the
stream (the paper ranks them by the shortcut's projection alone); bottlenecks lose filters of both inner convolutions.
With `scope=network`, for which the paper has no rule, filters and kernels compare by their mean |w|.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from bench import BenchError, FilterGroup, Lab, LayerRanges, Layers, Method, drop_lowest, layer_rates, remove_lowest


@dataclass(frozen=True, kw_only=True)
class L1(Method):
    name = "l1"
    paper = "Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, ICLR 2017"

    rate: Annotated[float, Interval(ge=0, lt=1), "share removed"] = 0.5
    granularity: Annotated[Literal["filter", "kernel", "weight"], "what is removed; filters are gone physically"] = (
        "filter"
    )
    scope: Annotated[Literal["layer", "network"], "the lowest of every layer, or of all layers together"] = "layer"
    rates: Annotated[LayerRanges, "other rates for some layers, as in '2-19=0.6,20=0.3'; the stem is 1"] = ""
    skip: Annotated[Layers, "layers left alone: positions (the stem is 1) or patterns of names"] = ()
    tied: Annotated[bool, "filters: prune residual streams too, not only inside blocks"] = False
    greedy: Annotated[bool, "filters: do not count weights whose input is already removed"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.greedy and (self.scope, self.granularity) != ("layer", "filter"):
            raise BenchError(f"{self}: greedy goes with scope=layer and granularity=filter, layer after layer")
        if self.tied and self.granularity != "filter":
            raise BenchError(f"{self}: tied goes with granularity=filter")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        overall = self.scope == "network"
        rates = layer_rates(model, self.rate, self.rates, self.skip)

        def score(group: FilterGroup, gone: Mapping[str, set[int]]) -> Tensor:
            sums, weights = sum_magnitudes(model, group, gone if self.greedy else {})
            return sums / weights if overall else sums

        if self.granularity == "filter":
            remove_lowest(model, lab, score, rates, tied=self.tied, overall=overall)
        elif self.granularity == "kernel":
            drop_lowest(model, lab, lambda layer: layer.weight.abs().mean((2, 3)), rates, overall=overall)
        else:
            drop_lowest(model, lab, lambda layer: layer.weight.abs(), rates, overall=overall)
        lab.fit(model)
        return model


def sum_magnitudes(model: nn.Module, group: FilterGroup, gone: Mapping[str, set[int]]) -> tuple[Tensor, int]:
    """s_j, summed over the group's convolutions, without the input channels that are `gone`; [channels].

    Also how many weights were added up for each.
    """
    scores, weights = torch.zeros(group.channels, dtype=torch.double), 0
    for name in group.convolutions:
        magnitudes = model.get_submodule(name).weight.detach().abs().sum((2, 3), dtype=torch.double).cpu()
        magnitudes[:, sorted(gone.get(name, ()))] = 0
        scores += magnitudes.sum(1)
        weights += model.get_submodule(name).weight[0].numel()
    return scores, weights
