"""`random`: the control of `l1`, as many filters removed from the same layers, but drawn by lot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from bench import FilterGroup, Lab, LayerRanges, Method, Positions, layer_rates, remove_lowest


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    name = "random"
    control = True

    rate: Annotated[float, Interval(ge=0, lt=1), "share of the filters removed in every layer"] = 0.5
    rates: Annotated[LayerRanges, "other rates for some layers, as in '2-19=0.6,20=0.3'; the stem is 1"] = ""
    skip: Annotated[Positions, "layers left alone; the stem is 1"] = ()
    tied: Annotated[bool, "prune residual streams too, not only inside blocks"] = False

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        def score(group: FilterGroup, gone: Mapping[str, set[int]]) -> Tensor:
            return torch.rand(group.channels, generator=lab.generator)

        remove_lowest(model, lab, score, layer_rates(model, self.rate, self.rates, self.skip), tied=self.tied)
        lab.fit(model)
        return model
