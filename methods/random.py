"""`random`: the control of `l1`, as much removed from the same layers, but drawn by lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Tensor, nn

from bench import BenchError, Lab, LayerRanges, Layers, Method, drop_lowest, layer_rates, remove_lowest


@dataclass(frozen=True, kw_only=True)
class Random(Method):
    name = "random"
    control = True

    rate: Annotated[float, Interval(ge=0, lt=1), "share removed from every layer"] = 0.5
    granularity: Annotated[Literal["filter", "kernel", "weight"], "what is removed; filters are gone physically"] = (
        "filter"
    )
    rates: Annotated[LayerRanges, "other rates for some layers, as in '2-19=0.6,20=0.3'; the stem is 1"] = ""
    skip: Annotated[Layers, "layers left alone: positions (the stem is 1) or patterns of names"] = ()
    tied: Annotated[bool, "filters: prune residual streams too, not only inside blocks"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tied and self.granularity != "filter":
            raise BenchError(f"{self}: tied goes with granularity=filter")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        def lots(*shape: int) -> Tensor:
            return torch.rand(shape, generator=lab.generator)

        rates = layer_rates(model, self.rate, self.rates, self.skip)
        if self.granularity == "filter":
            remove_lowest(model, lab, lambda group, _: lots(group.channels), rates, tied=self.tied)
        else:
            axes = 2 if self.granularity == "kernel" else 4
            drop_lowest(model, lab, lambda layer: lots(*layer.weight.shape[:axes]), rates)
        lab.fit(model)
        return model
