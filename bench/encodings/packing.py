"""Packing whole numbers of any width in bits, without gaps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def width_of(count: int) -> int:
    """Bits that tell `count` values apart: ceil(log2 count), 0 for one value."""
    return max(0, (count - 1).bit_length())


def pack(values: Tensor, width: int) -> Tensor:
    """Numbers in [0, 2**width) of any shape as bytes, lowest bit first; uint8 [ceil(n * width / 8)]."""
    numbers = values.detach().cpu().flatten().numpy().astype(np.int64)
    if len(numbers) and (numbers.min() < 0 or int(numbers.max()) >> width):
        raise ValueError(f"{numbers.min()}..{numbers.max()} does not fit {width} bits")
    bits = np.zeros((len(numbers), width), dtype=np.uint8)
    for bit in range(width):
        bits[:, bit] = (numbers >> bit) & 1
    return torch.from_numpy(np.packbits(bits.reshape(-1), bitorder="little"))


def unpack(packed: Tensor, width: int, count: int) -> Tensor:
    """The `count` numbers that `pack` packed; int64 [count]."""
    bits = np.unpackbits(packed.numpy(), count=count * width, bitorder="little").reshape(count, width)
    numbers = np.zeros(count, dtype=np.int64)
    for bit in range(width):
        numbers |= bits[:, bit].astype(np.int64) << bit
    return torch.from_numpy(numbers)
