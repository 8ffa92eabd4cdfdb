"""Any encoding with numbers of few bits: its floats become packed levels and steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.encodings.base import Encoding, Reader, Writer
from bench.encodings.grid import Grid, checked_width
from bench.encodings.levels import LevelReader, LevelWriter
from bench.encodings.origin import find_encoding
from bench.networks.work import Work
from bench.system.errors import BenchError


class Plain(Encoding):
    """The weight as it is, in 32-bit floats: what `Quantized` holds where no other method has encoded a weight."""

    kind = "plain"
    quantizable = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape, self.initial_weight = tuple(weight.shape), weight.detach()

    def forward(self, *stored: Tensor) -> Tensor:
        return stored[0].view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_weight.to(weight)

    def macs(self, work: Work) -> int:
        return work.macs

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        writer.floats(stored[0])
        return {}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        return cls(reader.floats(*shape))


class Quantized(Encoding):
    """The encoding `inner`, with each tensor that it trains rounded to `bits` bits (see `Grid`) before it is decoded.

    `stored` are the tensors that `inner` trains, with their current values. Its codebooks are rounded too, each only
    once even if several layers share it. A file holds what `inner` stores, with levels of `bits` bits in place of
    floats, and then the steps. MACs are those of `inner`: their numbers have fewer bits, but there are not fewer MACs.
    """

    kind = "quantized"

    def __init__(self, inner: Encoding, bits: int, stored: Sequence[Tensor], grids: Sequence[Grid] = ()) -> None:
        super().__init__()
        self.inner, self.width, self.shape = inner, bits, inner.shape
        self.initial = [tensor.detach().clone() for tensor in stored]
        if not grids:
            rows = inner.step_rows(*self.initial)
            grids = [Grid.fitted(*pair) for pair in zip(self.initial, [bits] * len(rows), rows, strict=True)]
        self.grids = nn.ModuleList(grids)
        for book in inner.codebooks():
            book.quantize(bits)

    @property
    def content(self) -> Encoding:
        return self.inner

    def forward(self, *stored: Tensor) -> Tensor:
        weight: Tensor = self.inner(*[grid(tensor) for grid, tensor in zip(self.grids, stored, strict=True)])
        return weight

    def right_inverse(self, weight: Tensor) -> Any:
        tensors = tuple(tensor.to(weight) for tensor in self.initial)
        return tensors if len(tensors) > 1 else tensors[0]

    def formula_bits(self) -> float:
        """The paper's bits, with levels and steps in place of floats."""
        return self.bits() + self.inner.formula_bits() - self.inner.bits()

    def macs(self, work: Work) -> int:
        return self.inner.macs(work)

    def macs_full(self, work: Work) -> int:
        return self.inner.macs_full(work)

    def params(self, *stored: Tensor) -> int:
        return self.inner.params(*stored)

    def describe(self, work: Work) -> dict[str, float | int | str]:
        steps = sum(len(grid.steps) for grid in self._grids())
        return self.inner.describe(work) | {"content": self.inner.kind, "number_bits": self.width, "steps": steps}

    def _grids(self) -> list[Grid]:
        return [grid for grid in self.grids if isinstance(grid, Grid)]

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        grids = self._grids()
        levels = [grid.levels(tensor) for grid, tensor in zip(grids, stored, strict=True)]
        facts = self.inner.store(LevelWriter(writer, self.width), *levels)
        for grid in grids:
            grid.store(writer)
        return {**facts, "content": self.inner.kind, "bits": self.width}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        bits, content = checked_width(facts["bits"]), find_encoding(str(facts["content"]), None)
        if not content.quantizable:
            raise BenchError(f"the encoding {content.kind!r} cannot be quantized")
        inner = content.restore(LevelReader(reader, bits), shape, facts)
        originals = inner.right_inverse(torch.zeros(shape))
        levels = [originals] if isinstance(originals, Tensor) else list(originals)
        grids = [Grid.restore(reader, bits, rows) for rows in inner.step_rows(*levels)]
        stored = [grid.numbers(tensor) for grid, tensor in zip(grids, levels, strict=True)]
        return cls(inner, bits, stored, grids)
