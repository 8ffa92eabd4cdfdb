"""A writer and a reader that put levels of few bits where an encoding writes floats. They wrap others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from bench.encodings.base import Codebook, Reader, Writer
from bench.encodings.grid import HALF, Grid, largest_level, own_rows
from bench.system.errors import BenchError


@dataclass
class LevelWriter:
    """Takes levels where an encoding writes floats, and packs them."""

    writer: Writer
    width: int

    def floats(self, values: Tensor) -> None:
        if not values.isfinite().all():
            raise BenchError("a weight is NaN or infinite, which has no level")
        if self.width == HALF:
            self.writer.halves(values)
        else:
            self.writer.integers(values.round().long() + largest_level(self.width), self.width)

    halves = floats

    def integers(self, values: Tensor, width: int) -> None:
        self.writer.integers(values, width)

    def codebook(self, codebook: Codebook) -> int:
        return self.writer.codebook(codebook)


@dataclass
class LevelReader:
    """Gives back the levels that a `LevelWriter` packed."""

    reader: Reader
    width: int

    def floats(self, *shape: int) -> Tensor:
        if self.width == HALF:
            return self.reader.halves(*shape)
        return (self.reader.integers(self.width, *shape) - largest_level(self.width)).float()

    halves = floats

    def integers(self, width: int, *shape: int) -> Tensor:
        return self.reader.integers(width, *shape)

    def codebook(self, index: int, bits: int | None = None) -> Codebook:
        return self.reader.codebook(index, self.width)


def write_book(writer: Writer, book: Codebook) -> None:
    """A codebook's kernels: floats, or levels and steps where it is quantized."""
    if grid := book.grid:
        LevelWriter(writer, grid.width).floats(grid.levels(book.trained))
        grid.store(writer)
    else:
        writer.floats(book.centroids)


def read_book(reader: Reader, shape: Sequence[int], bits: int | None) -> Codebook:
    """What `write_book` wrote, with `bits` bits a number if it was quantized."""
    if bits is None:
        return Codebook(reader.floats(*shape))
    levels = LevelReader(reader, bits).floats(*shape)
    grid = Grid.restore(reader, bits, own_rows(levels))
    book = Codebook(grid.numbers(levels))
    book.quantize(bits, grid)
    return book
