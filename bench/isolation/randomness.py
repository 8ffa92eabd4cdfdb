"""The global random generators, from which other people's code may draw."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

NOISE, CUDA_NOISE, PYTHON, NUMPY = "noise", "cuda_noise", "python_noise", "numpy_noise"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within this block, Python, NumPy and torch are seeded with `seed`; afterwards their states are restored.

    So the random numbers of one trial have no effect on the next. Generators of devices other than the CPU are seeded
    too, but not restored.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@dataclass(frozen=True)
class Randomness:
    """The states of the global generators, and of the one of a CUDA `device`, in a form that can be written down."""

    device: torch.device
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    """Plain JSON."""

    @classmethod
    def now(cls, device: torch.device) -> Randomness:
        tensors = {NOISE: torch.get_rng_state()}
        if device.type == "cuda":
            tensors[CUDA_NOISE] = torch.cuda.get_rng_state(device)
        numpy: Any = np.random.get_state()
        version, words, gauss = random.getstate()
        facts = {PYTHON: [version, list(words), gauss], NUMPY: [numpy[0], numpy[1].tolist(), *numpy[2:]]}
        return cls(device, tensors, facts)

    @classmethod
    def read(cls, device: torch.device, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Randomness:
        """From what was written down. Any exception where that is no state of these generators."""
        kept = {name: tensors[name] for name in (NOISE, *([CUDA_NOISE] if device.type == "cuda" else []))}
        read = cls(device, kept, {name: facts[name] for name in (PYTHON, NUMPY)})
        torch.Generator().set_state(kept[NOISE])
        random.Random().setstate(read._python)
        np.random.RandomState().set_state(read._numpy)
        if (noise := kept.get(CUDA_NOISE)) is not None:
            torch.Generator(device).set_state(noise)
        return read

    def restore(self) -> None:
        """Set the generators to these states."""
        torch.set_rng_state(self.tensors[NOISE])
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(self.tensors[CUDA_NOISE], self.device)

    @property
    def _python(self) -> tuple[Any, ...]:
        version, words, gauss = self.facts[PYTHON]
        return version, tuple(words), gauss

    @property
    def _numpy(self) -> tuple[Any, ...]:
        name, words, *rest = self.facts[NUMPY]
        return name, np.array(words, dtype=np.uint32), *rest
