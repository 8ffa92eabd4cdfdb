"""The uncompressed network: what everything else is compared with."""

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from bench import Lab, Method


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """Changes nothing; with `train` it spends the budget all the same, as the methods do."""

    name = "none"
    control = True

    train: Annotated[bool, "fine-tune the dense network for the whole budget"] = False

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        if self.train:
            lab.fit(model)
        return model
