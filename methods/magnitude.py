"""`magnitude`: a control that is hard to beat. It sets the individual weights of smallest magnitude to zero.

Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015,
https://arxiv.org/abs/1506.02626; here in one shot. As in the paper, linear layers and the classifier are pruned like
convolutions. Blalock et al. (MLSys 2020, https://arxiv.org/abs/2003.03033) leave the classifier dense: skip it by its
name, as in magnitude(skip=fc).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import nn

from bench import KeepAtLeast, Lab, Method, Rate, Skip, Strength, drop_lowest, layer_rates


@dataclass(frozen=True, kw_only=True)
class Magnitude(Method):
    name = "magnitude"
    style = ("grey", "cross")
    paper = "Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, NIPS 2015"
    control = True
    strength = Strength("rate", 0.0, 0.999)

    rate: Rate = 0.5
    scope: Annotated[Literal["network", "layer"], "one threshold for all layers, or the same share of every layer"] = (
        "network"
    )
    skip: Skip = ()
    keep_at_least: KeepAtLeast = 0.0

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        rates = layer_rates(model, self.rate, skip=self.skip, linear=True)
        overall = self.scope == "network"
        limits = {"linear": True, "keep_at_least": self.keep_at_least}
        drop_lowest(model, lab, lambda layer: layer.weight.abs(), rates, overall=overall, **limits)
        lab.fit(model)
        return model
