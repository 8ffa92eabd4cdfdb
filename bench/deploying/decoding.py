"""Encodings as ONNX: what each stores, in small integer tensors, and the standard operators that decode it.

A runtime decodes once, when it loads the file, and computes with the decoded weights: onnxruntime and OpenVINO fold
constants. Only weights that are plain numbers of 3 to 8 bits use DequantizeLinear, for which a runtime may also have
integer kernels.

An encoding of another package is decoded before it is written, unless it registers here: `decode.register`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.deploying.graph import FLOAT, HALF, INT32, Part
from bench.encodings import (
    ChannelKernels,
    Mask,
    Plain,
    Quantized,
    ScaledKernels,
    SharedFilters,
    SharedWeights,
)
from bench.encodings.base import Codebook, Encoding
from bench.encodings.grid import HALF as HALF_WIDTH
from bench.encodings.grid import Grid, largest_level
from bench.encodings.packing import width_of


@dataclass(frozen=True)
class Stored:
    """A trained tensor, how it is rounded if it is quantized, and factors [n] for its steps, if any."""

    values: Tensor
    grid: Grid | None = None
    factors: Tensor | None = None

    @property
    def has_steps(self) -> bool:
        return self.grid is not None and self.grid.width != HALF_WIDTH

    def write(self, part: Part, kept: Tensor | None = None) -> str:
        """Write all entries, or the `kept` ones one after another: as numbers, or as levels that `scale` turns into
        numbers."""
        values = self.values.detach()
        values = values if self.grid is None else self.grid.levels(values)
        values = values if kept is None else values[kept]
        if self.grid is None:
            return part.floats(values)
        if not self.has_steps:
            return part.halves(values)
        largest = largest_level(self.grid.width)
        levels = part.apply("Cast", part.integers(values.long() + largest, self.grid.width), to=FLOAT)
        return part.apply("Sub", levels, part.array(np.array(largest, dtype=np.float32)))

    def scale(self, part: Part, written: str) -> str:
        """The numbers for what `write` wrote, once it has the shape of the whole tensor."""
        if self.grid is None or not self.has_steps:
            return written
        steps = self.steps(part)
        return part.apply("Mul", written, part.shape(steps, [-1, *[1] * (self.values.dim() - 1)]))

    def numbers(self, part: Part) -> str:
        return self.scale(part, self.write(part))

    def steps(self, part: Part) -> str:
        """The step of each entry of the first axis, or one for all; [n] or [1]."""
        assert self.grid is not None
        rows, steps = self.grid.rows.cpu(), self.grid.steps.cpu()
        if self.factors is not None:
            return part.floats(steps[rows].double() * self.factors)
        if len(steps) == 1 or torch.equal(rows, torch.arange(len(steps))):
            return part.floats(steps)
        return part.apply("Gather", part.floats(steps), part.indices(rows, width_of(len(steps))))


@dataclass
class Books:
    """The codebooks of a network, each once, with its flipped and turned kernels."""

    parts: list[Part] = field(default_factory=list)
    entries: dict[tuple[int, int], str] = field(default_factory=dict)

    def kernels(self, book: Codebook, permutations: Tensor) -> str:
        """[k * T, h * w]: each kernel in each of its T forms."""
        key = id(book), len(permutations)
        if key not in self.entries:
            part = Part(f"codebook{len(self.parts)}")
            rows = part.shape(Stored(book.trained, book.grid).numbers(part), [len(book), -1])
            forms = part.indices(permutations, width_of(permutations.shape[1]))
            self.entries[key] = part.shape(part.apply("Gather", rows, forms, axis=1), [-1, permutations.shape[1]])
            self.parts.append(part)
        return self.entries[key]


def spread(part: Part, values: str, kept: Tensor, shape: Sequence[int]) -> str:
    """Zeros, with the rows of `values` in turn where `kept` is true; in `shape`, whose first axes are those of `kept`.

    One bit per entry says which are kept. The row of an entry is the number of kept entries before it.
    """
    if not kept.any():
        return part.floats(torch.zeros(tuple(shape)))
    flags = part.integers(kept.flatten().long(), 1)
    counted = part.apply("CumSum", part.apply("Cast", flags, to=INT32), part.array(np.array(0, dtype=np.int64)))
    one, zero = (part.array(np.array(number, dtype=np.int32)) for number in (1, 0))
    rows = part.apply("Max", part.apply("Sub", counted, one), zero)
    whole = part.shape(part.apply("Gather", values, rows), shape)
    ones = part.shape(part.apply("Cast", flags, to=FLOAT), [*kept.shape, *[1] * (len(shape) - kept.dim())])
    return part.apply("Mul", whole, ones)


def has_steps(encoding: Encoding) -> bool:
    """Whether the weight is levels times a step for each filter, so that filters are scaled by scaling steps."""
    return isinstance(encoding, Quantized) and isinstance(encoding.inner, Plain) and encoding.width != HALF_WIDTH


@singledispatch
def decode(encoding: Encoding, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    """Add the nodes to `part` that compute a layer's weight from `stored`, in its shape. Returns the weight's name, or
    None for an encoding that is unknown here. `books` holds the codebooks that layers share."""
    return None


@decode.register
def _(encoding: Quantized, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    grids = [grid for grid in encoding.grids if isinstance(grid, Grid)]
    rounded = [Stored(each.values, grid, each.factors) for each, grid in zip(stored, grids, strict=True)]
    return decode(encoding.inner, part, rounded, books)


@decode.register
def _(encoding: Plain, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    (weight,) = stored
    if weight.grid is None:
        return None
    if not weight.has_steps or weight.grid.width == 2:
        return weight.numbers(part)
    levels = weight.grid.levels(weight.values.detach()).cpu().numpy().astype(np.int8)
    written = part.four_bits(levels) if weight.grid.width <= 4 else part.array(levels)
    return part.apply("DequantizeLinear", written, weight.steps(part), axis=0)


@decode.register
def _(encoding: Mask, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    (weight,) = stored
    return weight.scale(part, spread(part, weight.write(part, encoding.kept), encoding.kept, encoding.shape))


@decode.register
def _(encoding: SharedFilters, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    return part.apply("Gather", stored[0].numbers(part), part.indices(encoding.labels, width_of(encoding.k)))


@decode.register
def _(encoding: SharedWeights, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    kept: Any = encoding.kept
    labels = encoding.labels if kept is None else encoding.labels[kept]
    weights = part.apply("Gather", stored[0].numbers(part), part.indices(labels, width_of(encoding.k)))
    return weights if kept is None else spread(part, weights, kept, encoding.shape)


@decode.register
def _(encoding: ChannelKernels, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    """A kernel's row is where the kernels of its channel begin, plus its label."""
    (channels, filters), present = encoding.rows.shape, encoding._present()
    starts = encoding.sizes.cumsum(0) - encoding.sizes
    labels = (encoding.rows - starts[:, None]).where(present, 0)
    begin = part.indices(starts.clamp(max=max(0, int(encoding.sizes.sum()) - 1))[:, None], 32)
    rows = part.apply("Add", part.indices(labels, width_of(filters)), begin)
    kernels = part.apply("Gather", stored[0].numbers(part), rows)
    if not present.all():
        flags = part.apply("Cast", part.integers(present.long()[:, :, None, None], 1), to=FLOAT)
        kernels = part.apply("Mul", kernels, flags)
    grouped = part.shape(kernels, [encoding.groups, channels // encoding.groups, filters, *encoding.shape[2:]])
    return part.shape(part.apply("Transpose", grouped, perm=[0, 2, 1, 3, 4]), encoding.shape)


@decode.register
def _(encoding: ScaledKernels, part: Part, stored: Sequence[Stored], books: Books) -> str | None:
    kernels = books.kernels(encoding.codebook, encoding.permutations)
    width = width_of(len(encoding.codebook) * len(encoding.permutations))
    labels = part.indices(encoding.labels.where(encoding.kept, 0), width)
    weight = part.shape(part.apply("Gather", kernels, labels), encoding.shape)
    factors = part.shape(_scales(part, encoding, stored[0]), [*encoding.kept.shape, 1, 1])
    return part.apply("Mul", weight, factors)


def _scales(part: Part, encoding: ScaledKernels, scales: Stored) -> str:
    """[Co, Ci / groups], 16-bit floats in value, 0 where a kernel is dropped."""
    kept = encoding.kept if encoding.drops else None
    if scales.has_steps:
        written = scales.write(part, kept)
    else:
        written = part.halves(scales.values.detach() if kept is None else scales.values.detach()[kept])
    whole = written if kept is None else spread(part, written, kept, kept.shape)
    if not scales.has_steps:
        return whole
    return part.apply("Cast", part.apply("Cast", scales.scale(part, whole), to=HALF), to=FLOAT)
