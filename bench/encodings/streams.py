"""The three streams of an artifact: 32-bit floats, 16-bit floats and packed whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from bench.encodings.base import Codebook
from bench.encodings.levels import read_book, write_book
from bench.encodings.packing import pack, unpack
from bench.system.errors import BenchError

STREAMS = {"float32": torch.float32, "float16": torch.float16, "packed": torch.uint8}


@dataclass
class StreamWriter:
    """Collects what encodings store. Each array of packed numbers starts on a whole byte."""

    float_parts: list[Tensor] = field(default_factory=list)
    half_parts: list[Tensor] = field(default_factory=list)
    bit_parts: list[Tensor] = field(default_factory=list)
    books: list[Codebook] = field(default_factory=list)

    def floats(self, values: Tensor) -> None:
        self.float_parts.append(values.detach().cpu().float().flatten())

    def halves(self, values: Tensor) -> None:
        self.half_parts.append(values.detach().cpu().half().flatten())

    def integers(self, values: Tensor, width: int) -> None:
        self.bit_parts.append(pack(values, width))

    def codebook(self, codebook: Codebook) -> int:
        for index, known in enumerate(self.books):
            if known is codebook:
                return index
        write_book(self, codebook)
        self.books.append(codebook)
        return len(self.books) - 1

    def tensors(self) -> dict[str, Tensor]:
        """Each stream that is not empty, as one tensor [n]."""
        parts = dict(zip(STREAMS, (self.float_parts, self.half_parts, self.bit_parts), strict=True))
        return {name: torch.cat(tensors) for name, tensors in parts.items() if tensors}


@dataclass
class StreamReader:
    """Hands out the numbers in the order in which they were written.

    Reading past the end of a stream raises BenchError before anything is allocated. Numbers of width 0 take no room in
    the file, so their count is limited by `largest`, the count of numbers in the whole network.
    """

    streams: Mapping[str, Tensor]
    book_shapes: list[list[int]]
    largest: int
    books: dict[int, Codebook] = field(default_factory=dict)
    position: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STREAMS, 0))

    def floats(self, *shape: int) -> Tensor:
        return self._take("float32", prod(shape)).view(shape).clone()

    def halves(self, *shape: int) -> Tensor:
        return self._take("float16", prod(shape)).view(shape).float()

    def integers(self, width: int, *shape: int) -> Tensor:
        count = prod(shape)
        if width == 0 and count > self.largest:
            raise BenchError(f"a weight claims {count} labels, the whole network has {self.largest} numbers")
        return unpack(self._take("packed", (count * width + 7) // 8), width, count).view(shape)

    def codebook(self, index: int, bits: int | None = None) -> Codebook:
        if index not in self.books:
            self.books[index] = read_book(self, self.book_shapes[index], bits)
        return self.books[index]

    def finish(self) -> None:
        """Raise BenchError if a stream holds more than was read."""
        for stream, values in self.streams.items():
            if self.position[stream] != len(values):
                raise BenchError(f"the {stream} stream holds {len(values) - self.position[stream]} numbers too many")

    def _take(self, stream: str, count: int) -> Tensor:
        values, start = self.streams.get(stream, torch.empty(0, dtype=STREAMS[stream])), self.position[stream]
        if not 0 <= count <= len(values) - start:
            raise BenchError(f"the {stream} stream ends early: {count} numbers wanted, {len(values) - start} left")
        self.position[stream] = start + count
        return values[start : start + count]
