"""Encoded layers, a small network of them, and how close its executable form must come to it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.encodings import ChannelKernels, Mask, Plain, Quantized, ScaledKernels, SharedFilters, SharedWeights
from bench.encodings.base import Codebook, Encoding, encode
from bench.networks.layers import convolutions

Make = Callable[..., nn.Module]


def assert_same(got: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest output."""
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5 * max(1e-6, expected.abs().max().item())


def shared(groups: int, weight: Tensor) -> Encoding:
    """Half as many filters as there are, each used in every group."""
    k = max(1, len(weight) // groups // 2)
    return SharedFilters(torch.arange(len(weight)) % k, weight[:k].clone(), groups)


def by_channel(groups: int, weight: Tensor) -> Encoding:
    """Every third input channel dropped, the others with two kernels each."""
    channels, filters = weight.shape[1] * groups, len(weight) // groups
    sizes = torch.tensor([0 if channel % 3 == 0 else min(2, filters) for channel in range(channels)])
    labels = torch.arange(filters).expand(channels, -1) % sizes.clamp(min=1)[:, None]
    return ChannelKernels(sizes, labels, torch.randn(int(sizes.sum()), *weight.shape[2:]), groups)


def by_codebook(groups: int, weight: Tensor) -> Encoding:
    """Kernels from a codebook; filter 1 of each group has scales of zero."""
    labels = torch.arange(weight[:, :, 0, 0].numel()).view(weight.shape[:2]) % 3
    scales = torch.rand(weight.shape[:2]) + 0.5
    scales.unflatten(0, (groups, -1))[:, 1] = 0
    book = Codebook(torch.randn(3, *weight.shape[2:]))
    return ScaledKernels(book, labels, torch.zeros_like(labels), scales, 1, groups)


def masked(groups: int, weight: Tensor) -> Encoding:
    """Filters 0 and 3 and, in each group, input 1 are zero."""
    kept = torch.ones(weight.shape[:2], dtype=torch.bool)
    kept[[0, 3]], kept[:, 1] = False, False
    return Mask(kept, weight)


def by_weight(groups: int, weight: Tensor) -> Encoding:
    """Two values, of which the first two filters of each group have but one."""
    labels = torch.randint(0, 2, weight.shape)
    labels.unflatten(0, (groups, -1))[:, :2] = 1
    return SharedWeights(labels, torch.tensor([-0.5, 0.25]))


def rounded(groups: int, weight: Tensor) -> Encoding:
    inner = shared(groups, weight)
    return Quantized(inner, 8, [inner.initial_filters])  # type: ignore[arg-type]


def plain(groups: int, weight: Tensor) -> Encoding:
    return Plain(weight)


def few_kernels(inputs: int, filters: int, size: int = 3) -> nn.Conv2d:
    """Three kernels for all of the layer, each with a scale of its own."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(inputs, filters, size, padding=1, stride=2)
    book = torch.randn(3, size, size, generator=generator)
    labels = torch.randint(0, 3, (filters, inputs), generator=generator)
    layer.weight.data = book[labels] * torch.randn(filters, inputs, 1, 1, generator=generator)
    return layer


def half_shared(make_model: Make) -> nn.Module:
    model = make_model()
    for layer in convolutions(model).values():
        encode(layer, shared(1, layer.weight.detach()))
    return model


def four_layers() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), few_kernels(64, 64)]
    model = nn.Sequential(*parts).eval()
    encode(model[0], masked(1, model[0].weight.detach()))  # type: ignore[arg-type]
    encode(model[2], shared(1, model[2].weight.detach()))  # type: ignore[arg-type]
    encode(model[4], shared(1, model[4].weight.detach()))  # type: ignore[arg-type]
    return model
