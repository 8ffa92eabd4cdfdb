"""`magnitude`: the control that is hard to beat; single weights of the smallest magnitude are set to zero.

Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015, in one shot. The
classifier and other linear layers stay dense, as in Blalock et al. (MLSys 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Interval
from torch import nn

from bench import Lab, Layers, Method, drop_lowest, layer_rates


@dataclass(frozen=True, kw_only=True)
class Magnitude(Method):
    name = "magnitude"
    paper = "Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015"
    control = True

    rate: Annotated[float, Interval(ge=0, lt=1), "share of the weights of convolutions set to zero"] = 0.5
    scope: Annotated[Literal["network", "layer"], "one threshold for all layers, or the same share of every layer"] = (
        "network"
    )
    skip: Annotated[Layers, "layers left alone: positions (the stem is 1) or patterns of names"] = ()

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        rates = layer_rates(model, self.rate, skip=self.skip)
        drop_lowest(model, lab, lambda layer: layer.weight.abs(), rates, overall=self.scope == "network")
        lab.fit(model)
        return model
