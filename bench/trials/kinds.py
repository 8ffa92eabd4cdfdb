"""Kinds of machines: what of a machine belongs to the identity of a trial that is measured there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from bench.system.environment import describe_device
from bench.training.loop import training_precision


@dataclass(frozen=True)
class Kind:
    """A device as records name it, and the precision in which convolutions are trained on it."""

    device: str
    training: str

    @classmethod
    def of(cls, device: torch.device) -> Kind:
        """The kind of this machine, with the number of threads that torch has now."""
        return cls(describe_device(device), training_precision(device))

    @property
    def identity(self) -> dict[str, Any]:
        """The part of a trial's identity that depends on the machine."""
        return {"precision": {"training": self.training, "measuring": "float32"}, "device": self.device}
