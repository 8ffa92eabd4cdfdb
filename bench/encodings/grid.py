"""Numbers of few bits: whole multiples of a step, with one step for each row of a tensor; or 16-bit floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.system.errors import BenchError

if TYPE_CHECKING:
    from bench.encodings.base import Reader, Writer

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 16)
"""Bits a number; 16 stands for 16-bit floats, which need no step."""
HALF = 16
STEP_BITS = 16
"""Steps are bfloat16, whose range is that of 32-bit floats, so that a filter of tiny weights keeps its step. Eight
significant bits are enough, because the weights are divided by the step that is stored."""
SHARES = torch.linspace(1, 0.2, 41).tolist()
"""Shares of a row's largest magnitude that are tried as its largest level, the largest first."""
NORM = 2.4
"""Power of the error that the choice of a step minimises, as in GPTQ's code, https://github.com/IST-DASLab/gptq.
Squares cut off too many large weights: ResNet-20 on Fashion-MNIST at 3 bits has a top-1 of 76% with squares, 88% with
this power, and 87% without any cut."""
SMALLEST = torch.finfo(torch.bfloat16).tiny


def largest_level(bits: int) -> int:
    """2**(bits - 1) - 1. Levels go from minus this to this, so 0 is a level, and each level's negative is one too."""
    return int(2 ** (bits - 1)) - 1


class Grid(nn.Module):
    """Rounds a float tensor to `bits` bits. The gradient passes through unchanged (straight-through estimator).

    Entry i of the tensor's first axis has the step `steps[rows[i]]`; `rows` int64 [n], `steps` [r]. Its numbers become
    level * step, levels being whole and limited by `largest_level(bits)`. With 16 bits they become 16-bit floats, and
    there are no steps.
    """

    rows: Tensor
    steps: Tensor

    def __init__(self, bits: int, rows: Tensor, steps: Tensor) -> None:
        super().__init__()
        self.width = bits
        self.register_buffer("rows", rows)
        self.register_buffer("steps", steps)

    @classmethod
    def fitted(cls, values: Tensor, bits: int, rows: Tensor) -> Grid:
        """The grid whose steps round `values` with about the least error (see `best_steps`)."""
        rows = rows.to(values.device)
        return cls(bits, rows, values.new_zeros(0) if bits == HALF else best_steps(values.detach(), bits, rows))

    def forward(self, values: Tensor) -> Tensor:
        rounded: Tensor = _StraightThrough.apply(values, self.numbers(self.levels(values)))
        return rounded

    def levels(self, values: Tensor) -> Tensor:
        """What is stored for `values`: whole numbers or 16-bit floats, as a float32 tensor in the shape of `values`."""
        if self.width == HALF:
            largest = torch.finfo(torch.float16).max
            return values.detach().clamp(-largest, largest).half().float()
        return _rounded(values.detach(), self._steps_of(values), largest_level(self.width))

    def numbers(self, levels: Tensor) -> Tensor:
        """The numbers that the levels stand for."""
        return levels if self.width == HALF else levels * self._steps_of(levels)

    def _steps_of(self, values: Tensor) -> Tensor:
        return self.steps[self.rows].view(-1, *[1] * (values.dim() - 1))

    @property
    def step_bits(self) -> int:
        """Bits of the steps, without the levels."""
        return len(self.steps) * STEP_BITS

    def store(self, writer: Writer) -> None:
        """Write the steps."""
        writer.integers(self.steps.bfloat16().view(torch.int16), STEP_BITS)

    @classmethod
    def restore(cls, reader: Reader, bits: int, rows: Tensor) -> Grid:
        """The grid with the steps that `store` wrote."""
        count = 0 if bits == HALF or not len(rows) else int(rows.max()) + 1
        return cls(bits, rows, reader.integers(STEP_BITS, count).short().view(torch.bfloat16).float())


def own_rows(values: Tensor) -> Tensor:
    """One row for each entry of the first axis; a vector is one row. int64 [n]."""
    count = len(values)
    return torch.zeros(count, dtype=torch.long) if values.dim() == 1 else torch.arange(count)


def best_steps(values: Tensor, bits: int, rows: Tensor) -> Tensor:
    """For each row the step with the least error among those whose largest level is one of `SHARES`; [r].

    The error is the sum of |rounded - value| ** `NORM`.

    With few bits it pays to cut off the largest numbers of a row, so that the others are rounded less. A row of zeros
    gets the step 1.
    """
    flat = values.reshape(len(rows), -1) if values.numel() else values.new_zeros(len(rows), 1)
    count = int(rows.max()) + 1 if len(rows) else 0
    largest = flat.new_zeros(count).scatter_reduce(0, rows, flat.abs().amax(1), "amax")
    best, least = torch.ones_like(largest), torch.full_like(largest, float("inf"))
    for share in SHARES:
        steps = (largest * (share / largest_level(bits))).bfloat16().float()
        steps = torch.where(steps >= SMALLEST, steps, 1)
        own = steps[rows, None]
        missed = (_rounded(flat, own, largest_level(bits)) * own - flat).abs().pow(NORM).sum(1)
        errors = torch.zeros_like(least).index_add(0, rows, missed)
        best, least = torch.where(errors < least, steps, best), torch.minimum(errors, least)
    return best


def _rounded(values: Tensor, steps: Tensor, largest: int) -> Tensor:
    return (values / steps).round().clamp(-largest, largest)


def checked_width(bits: Any) -> int:
    """The number of bits in an untrusted file; BenchError if it is not one of `WIDTHS`."""
    if not isinstance(bits, int) or bits not in WIDTHS:
        raise BenchError(f"numbers of {bits!r} bits; expected {', '.join(map(str, WIDTHS))}")
    return bits


class _StraightThrough(torch.autograd.Function):
    """`rounded` itself, to the last bit, with the gradient of `values`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rounded: Tensor) -> Tensor:
        return rounded.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None
