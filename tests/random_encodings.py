"""Encodings of random kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.encodings import ChannelKernels, ScaledKernels
from bench.encodings.base import Codebook


def scaled(outputs: int, inputs: int, k: int, transforms: int, *, dropped: int = 0, groups: int = 1) -> ScaledKernels:
    generator = torch.Generator().manual_seed(0)
    draw = lambda most: torch.randint(0, most, (outputs, inputs), generator=generator)  # noqa: E731
    scales = torch.rand(outputs, inputs, generator=generator).half().float() + 0.5
    scales.view(-1)[:dropped] = 0
    book = Codebook(torch.randn(k, 3, 3, generator=generator))
    return ScaledKernels(book, draw(k), draw(transforms), scales, transforms, groups)


def channels(sizes: Tensor, filters: int, groups: int = 1) -> ChannelKernels:
    generator = torch.Generator().manual_seed(0)
    labels = torch.stack(
        [
            torch.arange(filters) if size in (0, filters) else torch.randint(0, size, (filters,), generator=generator)
            for size in sizes.tolist()
        ]
    )
    return ChannelKernels(sizes, labels, torch.randn(int(sizes.sum()), 3, 3, generator=generator), groups)
