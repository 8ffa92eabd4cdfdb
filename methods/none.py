"""`none`: the uncompressed network, with which everything else is compared."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from bench import Lab, Method


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Changes nothing. With `train` it spends the budget on training, as the methods do."""

    name = "none"
    style = ("darkest grey", "diamond-tall")
    control = True
    tested = ("none", "none(train=True)")

    train: Annotated[bool, "fine-tune the dense network for the whole budget"] = False

    @property
    def trains(self) -> bool:
        return self.train

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        if self.train:
            lab.fit(model)
        return model
