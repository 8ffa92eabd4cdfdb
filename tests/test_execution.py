"""The executable form of one layer against the decoded layer it was made from, and its size against hand counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.encodings.base import Encoding, encode
from bench.execution.choice import smallest
from bench.execution.executable import execute
from bench.execution.factored import Factored
from bench.execution.layers import forms_of
from bench.execution.reduced import reduced_forms, take
from bench.networks.layers import fold, on_device

from .layers_to_execute import (
    assert_same,
    by_channel,
    by_codebook,
    by_weight,
    few_kernels,
    masked,
    plain,
    rounded,
    shared,
)

SIDE = 12

ENCODINGS = (shared, by_channel, by_codebook, masked, by_weight, rounded, plain)
SHAPES: tuple[dict[str, object], ...] = (
    {},
    {"padding": 1, "stride": 2},
    {"padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"padding": "same", "dilation": 3},
)


@pytest.mark.parametrize("make", ENCODINGS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_every_encoding_gives_the_decoded_outputs(
    make: Callable[[int, Tensor], Encoding],
    groups: int,
    bias: bool,
    layout: torch.memory_format,
    options: dict[str, object],
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 8, 3, groups=groups, bias=bias, **options)  # type: ignore[arg-type]
    encode(layer, make(groups, layer.weight.detach()))
    model = on_device(nn.Sequential(layer), torch.device("cpu"))
    images = torch.randn(2, 12, SIDE, SIDE).contiguous(memory_format=layout)
    found = execute(model, images, smallest)
    with torch.no_grad():
        assert_same(found.network(images), model(images))
    assert (found.layers["0"].form == "dense") == (make is plain)
    assert not any(isinstance(module, Encoding) for module in found.network.modules())


@pytest.mark.parametrize(
    ("make", "groups", "computed", "form"),
    [
        (shared, 1, (4, 12), "4 filters + gather"),
        (shared, 2, (4, 6), "4 filters + gather"),  # 2 of 4 in each group
        (by_channel, 1, (2, 8), "8 inputs, 2 filters + gather"),  # two kernels a channel, in turns: every second filter
        (by_codebook, 2, (6, 6), "6 filters + gather"),
        (by_codebook, 1, (7, 12), "7 filters + gather"),
        (masked, 1, (6, 11), "11 inputs, 6 filters + gather"),
        (masked, 2, (8, 5), "10 inputs"),  # group 2 needs all its filters, so group 1 computes two zeros
        (by_weight, 1, (7, 12), "7 filters + gather"),
    ],
)
def test_what_is_computed_by_hand(
    make: Callable[[int, Tensor], Encoding], groups: int, computed: tuple[int, int], form: str
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 8, 3, groups=groups)
    encode(layer, make(groups, layer.weight.detach()))
    decoded = fold(nn.Sequential(layer))[0]
    first = reduced_forms(decoded)[0]
    assert (tuple(first.layer.weight.shape[:2]), first.description) == (computed, form)


def test_few_kernels_a_channel_are_convolved_first_by_hand() -> None:
    layer = few_kernels(12, 64)
    (form,) = forms_of(layer)
    assert isinstance(form, Factored) and form.description == "12 inputs by 3 kernels + 1x1"
    assert form.weights == 3 * 12 * 9 + 36 * 64
    images = torch.randn(2, 12, 9, 9)
    assert_same(form(images), layer(images))
    assert_same(form(images[0]), layer(images[0]))
    half = fold(nn.Sequential(layer)).double()[0]
    assert_same(forms_of(half)[0](images.double()), half(images.double()))


def test_channels_with_many_kernels_stay_in_a_dense_convolution() -> None:
    layer = few_kernels(32, 64)
    layer.weight.data[:, :5] = torch.randn(64, 5, 3, 3)  # five are dense, three more fill up the eight
    layer.weight.data[:, 30:] = 0  # two are not read
    layer.weight.data[:, 20:30] = layer.weight.data[:, 20:30, :1, :1] * torch.randn(1, 10, 3, 3)  # one kernel each
    *others, form = forms_of(layer)
    assert isinstance(form, Factored) and [other.description for other in others] == ["30 inputs"]
    assert form.description == "22 inputs by 3 kernels + 1x1, 8 inputs"
    assert form.weights == 8 * 64 * 9 + (12 * 3 + 10) * (9 + 64)
    images = torch.randn(2, 32, 9, 9).contiguous(memory_format=torch.channels_last)
    assert_same(form(images), layer(images))


def test_kernels_of_full_rank_are_not_factored() -> None:
    assert forms_of(nn.Conv2d(16, 64, 3)) == forms_of(nn.Conv2d(16, 64, 1)) == forms_of(nn.Linear(4, 4)) == []
    assert forms_of(nn.Conv2d(64, 64, 3, groups=64)) == []


@given(
    groups=st.sampled_from([1, 2, 4]),
    each=st.integers(1, 4),
    width=st.integers(1, 4),
    seed=st.integers(0, 1000),
    bias=st.booleans(),
)
def test_any_pattern_of_equal_and_zero_weights(groups: int, each: int, width: int, seed: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda most, *shape: torch.randint(0, most, shape, generator=generator)  # noqa: E731
    layer = nn.Conv2d(groups * width, groups * each, 3, padding=1, groups=groups, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[draw(len(layer.weight), len(layer.weight))])
        layer.weight *= draw(3, len(layer.weight), 1, 1, 1) > 0
        layer.weight *= draw(3, 1, width, 1, 1) > 0
    images = torch.randn(2, groups * width, 5, 5, generator=generator)
    parts = layer.weight.detach().unflatten(0, (groups, each))
    distinct = [len({tuple(row) for row in part.flatten(1).tolist() if any(row)}) for part in parts]
    for form in reduced_forms(layer):
        with torch.no_grad():
            assert_same(form(images), layer(images))
        if form.outputs is not None:
            assert len(form.layer.weight) == max(1, *distinct) * max(1, sum(count > 0 for count in distinct))


def test_a_linear_layer_and_one_without_batch_axis() -> None:
    linear = nn.Linear(6, 4)
    with torch.no_grad():
        linear.weight[2] = linear.weight[0]
        linear.weight[1], linear.weight[:, 5] = 0, 0
    for values in (torch.randn(6), torch.randn(2, 6), torch.randn(2, 3, 6)):
        forms = reduced_forms(linear)
        assert [tuple(form.layer.weight.shape) for form in forms] == [(2, 5), (2, 6), (4, 5)]
        for form in forms:
            assert_same(form(values), linear(values))
    layer = nn.Conv2d(2, 4, 1)
    layer.weight.data[1:] = layer.weight.data[0]
    image = torch.randn(2, 5, 5)
    assert_same(reduced_forms(layer)[0](image), layer(image))


def test_a_layer_of_zeros_gives_its_bias() -> None:
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.data.zero_()
    form = reduced_forms(layer)[0]
    assert tuple(form.layer.weight.shape) == (1, 1, 3, 3)
    assert torch.equal(form(torch.randn(1, 3, 5, 5)), layer.bias.view(1, 4, 1, 1).expand(1, 4, 3, 3))  # type: ignore[union-attr]


def test_a_gather_keeps_the_layout() -> None:
    index = torch.tensor([2, 0, 0, 3])
    for layout in (torch.contiguous_format, torch.channels_last):
        values = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout)
        found = take(values, index, -3, pads=True)
        assert found.is_contiguous(memory_format=layout)
        assert torch.equal(found, torch.cat([values, torch.zeros(2, 1, 4, 5)], 1)[:, index])
