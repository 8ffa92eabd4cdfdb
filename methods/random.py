"""`random`: the control for `l1`. It removes as much from the same layers, but chooses at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from bench import (
    BenchError,
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
class Random(Method):
    name = "random"
    style = ("light grey", "x")
    control = True
    strength = Strength("rate", 0.0, 0.99)

    rate: Rate = 0.5
    granularity: Annotated[Literal["filter", "kernel", "weight"], "what is removed; filters are gone physically"] = (
        "filter"
    )
    rates: Rates = ""
    skip: Skip = ()
    tied: Tied = False
    round_to: RoundTo = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tied or self.round_to > 1) and self.granularity != "filter":
            raise BenchError(f"{self}: tied and round_to go with granularity=filter")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        def random_scores(*shape: int) -> Tensor:
            return torch.rand(shape, generator=lab.generator)

        linear = self.granularity == "weight"
        rates = layer_rates(model, self.rate, self.rates, self.skip, linear=linear)
        if self.granularity == "filter":
            widths = {"tied": self.tied, "round_to": self.round_to}
            remove_lowest(model, lab, lambda group: random_scores(group.channels), rates, **widths)
        else:
            axes = 2 if self.granularity == "kernel" else 4
            drop_lowest(model, lab, lambda layer: random_scores(*layer.weight.shape[:axes]), rates, linear=linear)
        lab.fit(model)
        return model
