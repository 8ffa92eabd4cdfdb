"""Weights or whole kernels set to zero and left out of the file.

Which weights are kept is written in the shorter of two ways: one bit for each, or the sorted positions of the kept ones
in the code of Elias (1974) and Fano (1971): low bits as they are, high bits as counts in unary, close to the entropy.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from bench.encodings.base import Encoding, Reader, Writer
from bench.networks.work import Work


class Mask(Encoding):
    """Only some of the weights; the others are zero and stay zero. `weight` holds the values.

    For a convolution's weight [Co, Ci / groups, h, w], `kept` is bool [Co, Ci / groups] for whole kernels, or has the
    weight's shape for single weights. For a linear layer's weight [Co, Ci] it is [Co, Ci].
    """

    kind = "mask"
    quantizable = True
    kept: Tensor

    def __init__(self, kept: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        self.drops_kernels_only = kept.dim() < weight.dim()
        self.register_buffer("kept", kept)
        self.initial_weight = self.forward(weight.detach())  # quantization does not see what is dropped

    def forward(self, *stored: Tensor) -> Tensor:
        spread = (1,) * (len(self.shape) - self.kept.dim())
        return stored[0] * self.kept.view(*self.kept.shape, *spread)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_weight.to(weight)

    def _count(self) -> int:
        """Weights kept."""
        return int(self.kept.sum()) * prod(self.shape[self.kept.dim() :])

    def params(self, *stored: Tensor) -> int:
        return self._count()

    def macs(self, work: Work) -> int:
        """Multiply-adds of the weights that are kept."""
        return round(work.macs * self._count() / prod(self.shape))

    def describe(self, work: Work) -> dict[str, float | int | str]:
        return {
            "kept": "kernels" if self.drops_kernels_only else "weights",
            "density": self.kept.double().mean().item(),
        }

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        count = write_kept(writer, self.kept)
        writer.floats(stored[0][self.kept])
        return {"kernels": self.drops_kernels_only, "count": count}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        units = shape[:2] if facts["kernels"] else shape
        kept = read_kept(reader, facts["count"], units)
        weight = torch.zeros(shape)
        weight[kept] = reader.floats(int(kept.sum()), *shape[len(units) :])
        return cls(kept, weight)


def write_kept(writer: Writer, kept: Tensor) -> int | None:
    """Write which entries are kept, bool of any shape. Returns their number if they are written by position, if not
    None."""
    count, positions = int(kept.sum()), kept.numel()
    if elias_fano_bits(positions, count) < positions:
        write_positions(writer, kept.flatten().nonzero()[:, 0], positions)
        return count
    writer.integers(kept, 1)
    return None


def read_kept(reader: Reader, count: int | None, shape: tuple[int, ...]) -> Tensor:
    """Read what `write_kept` wrote; `count` is what it returned."""
    if count is None:
        return reader.integers(1, *shape).bool()
    kept = torch.zeros(prod(shape), dtype=torch.bool)
    kept[read_positions(reader, count, prod(shape))] = True
    return kept.view(shape)


def low_bits(positions: int, count: int) -> int:
    """How many bits of a position are written as they are: about log2 of the mean gap."""
    return max(0, (positions // max(1, count)).bit_length() - 1)


def elias_fano_bits(positions: int, count: int) -> int:
    """Bits that `write_positions` writes for `count` of `positions` positions."""
    low = low_bits(positions, count)
    return count * (low + 1) + (positions >> low) + 1 if count else 0


def write_positions(writer: Writer, sorted_positions: Tensor, positions: int) -> None:
    """Write increasing numbers in [0, `positions`); int64 [count]."""
    count = len(sorted_positions)
    low = low_bits(positions, count)
    writer.integers(sorted_positions & ((1 << low) - 1), low)
    unary = torch.zeros(elias_fano_bits(positions, count) - count * low, dtype=torch.long)
    high = (sorted_positions >> low).cpu()
    unary[high + torch.arange(count)] = 1
    writer.integers(unary, 1)


def read_positions(reader: Reader, count: int, positions: int) -> Tensor:
    """What `write_positions` wrote."""
    low = low_bits(positions, count)
    lower = reader.integers(low, count)
    unary = reader.integers(1, elias_fano_bits(positions, count) - count * low)
    return (unary.nonzero()[:, 0] - torch.arange(count)) << low | lower
