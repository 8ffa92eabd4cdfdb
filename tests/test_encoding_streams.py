"""Encodings and packed numbers against themselves after a round trip through the streams of a file."""

from __future__ import annotations

from math import ceil, log2

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.encodings import ChannelKernels, Mask, SharedFilters
from bench.encodings.base import Encoding, encode, stored_tensors
from bench.encodings.mask import elias_fano_bits, read_positions, write_positions
from bench.encodings.packing import pack, unpack, width_of
from bench.encodings.streams import StreamReader, StreamWriter
from bench.networks.work import Work

from .random_encodings import channels, scaled


@given(st.integers(0, 20), st.data())
def test_unpack_is_the_inverse_of_pack(width: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2**width - 1), max_size=70))
    packed = pack(torch.tensor(numbers, dtype=torch.long), width)
    assert packed.dtype == torch.uint8 and len(packed) == ceil(len(numbers) * width / 8)
    assert unpack(packed, width, len(numbers)).tolist() == numbers


@given(st.integers(1, 100_000))
def test_width_is_the_least_that_tells_values_apart(count: int) -> None:
    assert 2 ** width_of(count) >= count and (count == 1 or 2 ** (width_of(count) - 1) < count)


def test_packing_refuses_what_does_not_fit() -> None:
    for numbers in ([8], [-1]):
        with pytest.raises(ValueError, match="does not fit 3 bits"):
            pack(torch.tensor(numbers), 3)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.sampled_from([1, 2, 4, 8]), st.data())
def test_scaled_kernels_survive_the_streams(
    outputs: int, inputs: int, k: int, transforms: int, data: st.DataObject
) -> None:
    dropped = data.draw(st.integers(0, outputs * inputs))
    assert_survives(scaled(outputs, inputs, k, transforms, dropped=dropped))


@given(st.integers(1, 3), st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(1, 6))
def test_channel_kernels_survive_the_streams(groups: int, kept: list[int], filters: int) -> None:
    sizes = torch.tensor([min(size, filters) for size in kept] * groups)
    if sizes.any():
        assert_survives(channels(sizes, filters, groups))


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.data())
def test_channel_kernels_with_some_dropped_survive_the_streams(
    groups: int, channels: int, filters: int, data: st.DataObject
) -> None:
    bits = data.draw(
        st.lists(st.booleans(), min_size=groups * channels * filters, max_size=groups * channels * filters)
    )
    kept = torch.tensor(bits).view(groups * channels, filters)
    alive = kept.sum(1)
    sizes = torch.tensor([data.draw(st.integers(0, count)) for count in alive.tolist()])
    labels = (kept.cumsum(1) - 1).clamp(min=0)
    for channel in ((sizes > 0) & (sizes < alive)).nonzero()[:, 0].tolist():
        labels[channel] = torch.randint(0, int(sizes[channel]), (filters,))
    if sizes.any():
        encoding = ChannelKernels(sizes, labels, torch.randn(int(sizes.sum()), 3, 3), groups, kept)
        assert_survives(encoding)
        decoded = encoding(encoding.initial_kernels).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        assert not decoded[~kept].any() and decoded[kept & (sizes > 0)[:, None]].flatten(1).any(1).all()


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5))
def test_shared_filters_survive_the_streams(groups: int, each: int, k: int, inputs: int) -> None:
    labels = torch.randint(0, k, (groups * each,))
    encoding = SharedFilters(labels, torch.randn(k, inputs, 3, 3), groups)
    assert_survives(encoding)
    assert encoding.bits() == k * inputs * 9 * 32 + groups * each * ceil(log2(k))
    computed = sum(len({int(label) for label in part}) for part in labels.view(groups, each))
    assert encoding.macs(Work(groups * each * 7, 1, 1)) == computed * 7


@given(st.integers(1, 4), st.integers(1, 4), st.booleans(), st.floats(0, 1))
def test_masks_survive_the_streams(outputs: int, inputs: int, kernels: bool, density: float) -> None:
    shape = (outputs, inputs) if kernels else (outputs, inputs, 3, 3)
    kept = torch.rand(shape, generator=torch.Generator().manual_seed(outputs + 7 * inputs)) < density
    weight = torch.randn(outputs, inputs, 3, 3)
    mask = Mask(kept, weight)
    assert_survives(mask)
    assert torch.equal(mask(weight), torch.where(kept[:, :, None, None] if kernels else kept, weight, 0))
    values = int(kept.sum()) * (9 if kernels else 1)
    assert mask.macs(Work(outputs * inputs * 9 * 5, 1, 1)) == values * 5 and mask.params(weight) == values
    assert values * 32 <= mask.bits() <= values * 32 + kept.numel()


@given(st.integers(1, 5000), st.data())
def test_positions_survive_in_close_to_their_entropy(positions: int, data: st.DataObject) -> None:
    chosen = sorted(data.draw(st.sets(st.integers(0, positions - 1), max_size=60)))
    writer = StreamWriter()
    write_positions(writer, torch.tensor(chosen, dtype=torch.long), positions)
    assert read_positions(StreamReader(writer.tensors(), [], positions), len(chosen), positions).tolist() == chosen
    if chosen:
        # Elias (1974): within two bits a position of log2 of the mean gap.
        assert elias_fano_bits(positions, len(chosen)) <= len(chosen) * (2 + max(0, log2(positions / len(chosen)))) + 1


def assert_survives(encoding: Encoding) -> None:
    inputs = encoding.shape[1]
    groups = getattr(encoding, "groups", 1)
    layer = nn.Conv2d(inputs * groups, encoding.shape[0] if encoding.shape[0] % groups == 0 else groups, 3)
    layer.weight = nn.Parameter(torch.zeros(encoding.shape))
    encode(layer, encoding)
    writer = StreamWriter()
    facts = encoding.store(writer, *stored_tensors(layer))
    streams = writer.tensors()
    reader = StreamReader(streams, [list(book.centroids.shape) for book in writer.books], 10**6)
    again = type(encoding).restore(reader, tuple(encoding.shape), facts)
    copy = nn.Conv2d(1, 1, 3)
    copy.weight = nn.Parameter(torch.zeros(encoding.shape))
    encode(copy, again)
    assert torch.equal(copy.weight, layer.weight)
    assert again.bits() == encoding.bits()
    written = sum(8 * value.numel() * value.element_size() for value in streams.values())
    shared = sum(book.bits for book in encoding.codebooks())
    assert encoding.bits() + shared <= written < encoding.bits() + shared + 8 * 16
