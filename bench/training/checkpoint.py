"""The state of a training on disk: tensors and JSON in a safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bench.system.files import write_atomically
from bench.training.network_state import load_momenta, momenta
from bench.training.order import Order

MODEL, MOMENTUM, ORDER, NOISE, CUDA_NOISE = "model.", "momentum.", "order", "noise", "cuda_noise"


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: tensors, and facts in plain JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    @classmethod
    def copy(cls, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> Checkpoint:
        """A copy in memory, which later steps of a training do not change."""
        copied = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
        }
        return cls(copied, facts)

    @classmethod
    def read(cls, path: Path, key: str) -> Checkpoint | None:
        """None if there is no such file, if it is damaged, and if it was written with another key."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != key:
                    return None
                facts = json.loads(metadata["facts"])
                return cls({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, KeyError):
            return None

    def write(self, path: Path, key: str) -> None:
        """`key` identifies the training; it is needed to read the file again."""
        write_atomically(path, save(self.tensors, metadata={"key": key, "facts": json.dumps(self.facts)}))

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Snapshot:
    """The state of one training after its last complete pass, in the file `path`.

    `key` identifies the training; the state of another is ignored.
    """

    path: Path
    key: str

    def after(self, step: int, model: nn.Module, optimiser: torch.optim.SGD, order: Order) -> None:
        """Write weights, momentum and all random states if `step` completes a pass."""
        if step % order.steps:
            return
        tensors = prefixed(MODEL, model.state_dict()) | prefixed(MOMENTUM, momenta(optimiser))
        tensors |= {ORDER: order.generator.get_state(), NOISE: torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors[CUDA_NOISE] = torch.cuda.get_rng_state()
        Checkpoint.copy(tensors, {"step": step}).write(self.path, self.key)

    def restore(self, model: nn.Module, optimiser: torch.optim.SGD, order: torch.Generator) -> int:
        """Load the saved state and return the number of updates made so far; 0 if this training has no saved state."""
        saved = Checkpoint.read(self.path, self.key)
        if saved is None:
            return 0
        load_momenta(optimiser, saved.part(MOMENTUM))
        model.load_state_dict(saved.part(MODEL))
        order.set_state(saved.tensors[ORDER])
        torch.set_rng_state(saved.tensors[NOISE])
        if CUDA_NOISE in saved.tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(saved.tensors[CUDA_NOISE])
        return int(saved.facts["step"])

    def forget(self) -> None:
        """Delete the file, once the training is over."""
        self.path.unlink(missing_ok=True)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names that begin with `prefix`."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}
