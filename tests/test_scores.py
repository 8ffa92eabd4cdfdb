"""What a method hands over to be removed: mistakes are one line with the layer's name, what is right goes."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as fuzzing
from hypothesis import strategies as st
from torch import Tensor, nn

from bench import (
    BenchError,
    FilterGroup,
    Lab,
    drop_lowest,
    filter_groups,
    filter_macs,
    group_scores,
    image_readers,
    keep_highest,
    keep_highest_overall,
    remove_filters,
    remove_lowest,
)
from bench.pruning.scores import checked_scores
from bench.system.errors import BadArgument, MethodFault

MakeLab = Callable[..., Lab]
LAYERS = {"first": 6, "second": 5}


class Small(nn.Module):
    """Two convolutions that can lose filters, one with batch norm, and a third that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1)
        self.third = nn.Conv2d(5, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.third(self.second(self.norm(self.first(images)).relu()).relu()).mean((2, 3))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def rising(group: FilterGroup) -> Tensor:
    return torch.arange(group.channels)


WRONG_SCORES = [
    (lambda n: torch.ones(2), "the scores of 'first' should be 6 numbers, one for each filter, not 2 numbers"),
    (lambda n: torch.ones(n, 3), r"the scores of 'first' should be 6 numbers, one for each filter, not shape \[6, 3\]"),
    (lambda n: torch.tensor(1.0), r"not shape \[\]"),
    (lambda n: [1.0] * n, "the scores of 'first' should be a tensor of 6 numbers, one for each filter, not a list"),
    (lambda n: np.ones(n), "not a ndarray"),
    (lambda n: 1.0, "not a float"),
    (
        lambda n: torch.ones(n, dtype=torch.complex64),
        "the scores of 'first' should be real numbers, not torch.complex64",
    ),
    (lambda n: torch.full((n,), torch.nan), "6 of the 6 scores of 'first' are NaN or infinite"),
    (lambda n: torch.tensor([torch.inf] + [1.0] * (n - 1)), "1 of the 6 scores of 'first' are NaN or infinite"),
]


@pytest.mark.parametrize(("scores", "told"), WRONG_SCORES)
@pytest.mark.parametrize(
    "how", [{"rates": 0.5}, {"rates": 0.5, "overall": True}, {"count": 3}, {"count": {"first": 3}}]
)
def test_wrong_scores_name_the_layer_and_remove_nothing(
    scores: Callable[[int], Any], told: str, how: dict[str, Any], model: nn.Module, make_lab: MakeLab
) -> None:
    before = deepcopy(model.state_dict())
    with pytest.raises(MethodFault, match=told) as caught:
        remove_lowest(model, make_lab(), lambda group: scores(group.channels), **how)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float16, torch.bfloat16, torch.uint8, torch.float64])
def test_scores_of_any_real_kind_are_right(dtype: torch.dtype, model: Any, make_lab: MakeLab) -> None:
    kept = model.first.weight[3:].detach().clone()
    assert (
        remove_lowest(
            model, make_lab(), lambda group: rising(group).to(dtype).requires_grad_(dtype.is_floating_point), 0.5
        )
        == 6
    )
    assert torch.equal(model.first.weight, kept) and model.second.out_channels == 2


@given(shape=st.lists(st.integers(0, 7), max_size=3), channels=st.integers(1, 7), bad=st.sampled_from([0.0, torch.nan]))
@fuzzing(max_examples=60)
def test_only_one_finite_number_for_each_filter_passes(shape: list[int], channels: int, bad: float) -> None:
    scores = torch.full(shape, bad)
    if shape == [channels] and not torch.isnan(torch.tensor(bad)):
        assert torch.equal(checked_scores(scores, "a.b", (channels,)), scores)
    else:
        with pytest.raises(MethodFault, match=r"'a\.b'"):
            checked_scores(scores, "a.b", (channels,))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, "either rates or count, and not both"),
        ({"rates": 0.5, "count": 3}, "either rates or count, and not both"),
        ({"rates": {"first": 0.5}}, "rates has no entry for 'second'"),
        ({"rates": {"first": 0.5, "second": 0.5, "frist": 0.5}}, "rates names 'frist', and the network has no"),
        ({"rates": {"first": 1.0, "second": 0.5}}, "the rate of 'first' should be a number from 0 up to .* not 1.0"),
        ({"rates": float("nan")}, "the rate of 'first' should be .* not nan"),
        ({"rates": "0.5"}, "the rate of 'first' should be .* not '0.5'"),
        ({"rates": {"first": 0.5, "second": 0.25}, "overall": True}, "goes with one rate, not 0.25 and 0.5"),
        ({"count": -1}, "count should be a whole number of at least 0, not -1"),
        ({"count": 2.5}, "count should be a whole number of at least 0, not 2.5"),
        ({"count": True}, "count should be a whole number of at least 0, not True"),
        ({"count": {"first": 6}}, "'first' has 6 filters and one has to stay, so 6 cannot go"),
        ({"count": {"first": "x"}}, "the count of 'first' should be a whole number"),
        ({"count": {"frist": 1}}, "count names 'frist', and the network has no"),
        ({"count": {"third": 1}}, "'third' cannot lose filters: its filters are the network's outputs"),
        ({"count": {"first": 1}, "overall": True}, "overall=True goes with rates or with one count"),
    ],
)
def test_wrong_rates_and_counts_are_told(how: dict[str, Any], told: str, model: nn.Module, make_lab: MakeLab) -> None:
    with pytest.raises(BenchError, match=told):
        remove_lowest(model, make_lab(), rising, **how)
    assert model.get_submodule("first").out_channels == 6


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({"rates": 0.5}, [3, 2]),
        ({"rates": {"first": 0.5, "second": 0.0}}, [3, 5]),
        ({"rates": {"first": 0.5, "second": 0}, "overall": True}, [3, 5]),
        ({"rates": 0.5, "overall": True}, [3, 3]),  # floor(11 / 2) of 0, 1, 2, 0, 1, 2 go, the first of equals first
        ({"count": 3}, [4, 4]),
        ({"count": 100}, [1, 1]),
        ({"count": {"second": np.int64(2)}}, [6, 3]),
        ({"count": {}}, [6, 5]),
    ],
)
def test_one_function_removes_by_rates_and_by_counts(
    how: dict[str, Any], left: list[int], model: Any, make_lab: MakeLab
) -> None:
    lab = make_lab()
    assert remove_lowest(model, lab, rising, **how) == 11 - sum(left)
    assert [model.first.out_channels, model.second.out_channels] == left
    assert lab.notes["first"] == f"{left[0]} of 6 filters kept"


def test_a_group_without_scores_keeps_its_filters_and_all_without_are_a_mistake(model: Any, make_lab: MakeLab) -> None:
    lab = make_lab()
    for how in ({"rates": 0.5}, {"count": 3}):
        with pytest.raises(MethodFault, match="the score gave None for every group"):
            remove_lowest(model, lab, lambda group: None, **how)
    remove_lowest(model, lab, lambda group: rising(group) if group.batch_norms else None, count=100)
    assert (model.first.out_channels, model.second.out_channels) == (1, 5)
    assert lab.notes["second"] == "all filters kept: the method does not score its filters"


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (
            lambda layer: torch.ones(2),
            r"'first' should be shape \[6, 3\], one for each kernel or weight or shape \[6, 3, 3, 3\]",
        ),
        (lambda layer: torch.full(layer.weight.shape, torch.nan), "162 of the 162 scores of 'first' are NaN"),
        (lambda layer: layer.weight.abs().tolist(), "'first' should be a tensor of .* not a list"),
    ],
)
@pytest.mark.parametrize("overall", [False, True])
def test_scores_of_weights_are_checked_too(
    score: Any, told: str, overall: bool, model: nn.Module, make_lab: MakeLab
) -> None:
    with pytest.raises(MethodFault, match=told):
        drop_lowest(model, make_lab(), score, 0.5, overall=overall)
    with pytest.raises(MethodFault, match="rates has no entry for 'second'"):
        drop_lowest(model, make_lab(), lambda layer: layer.weight.abs(), {"first": 0.5}, overall=overall)


def test_masks_from_scores_name_what_is_wrong() -> None:
    with pytest.raises(MethodFault, match="1 of the 2 scores of 'b' are NaN or infinite"):
        keep_highest_overall({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])}, 0.5)
    with pytest.raises(MethodFault, match="rate=1.5: expected a number from 0 to 1"):
        keep_highest_overall({"a": torch.ones(2)}, 1.5)
    with pytest.raises(MethodFault, match="count=3: there are only 2 scores"):
        keep_highest(torch.ones(2), 3)
    with pytest.raises(MethodFault, match="NaN or infinite"):
        keep_highest(torch.tensor([torch.nan, 1.0]), 1)


def test_scores_of_a_group_name_the_convolution_that_lacks_them() -> None:
    group = FilterGroup(convolutions=("a", "b"), channels=2)
    with pytest.raises(MethodFault, match="scores has no entry for 'b'"):
        group_scores(group, {"a": torch.ones(2)})
    with pytest.raises(MethodFault, match="the scores of 'b' should be 2 numbers, one for each filter, not 3 numbers"):
        group_scores(group, {"a": torch.ones(2), "b": torch.ones(3)})
    with pytest.raises(MethodFault, match="costs has no entry for 'b'"):
        group_scores(group, {"a": torch.ones(2), "b": torch.ones(2)}, costs={"a": 1.0})


@pytest.mark.parametrize(
    ("indices", "told"),
    [
        ([6], "'first' has filters 0 to 5, not 6"),
        ([-1], "a filter of 'first' should be a whole number of at least 0, not -1"),
        ([0.5], "a filter of 'first' should be a whole number of at least 0, not 0.5"),
        ("01", "the filters of 'first' should be whole numbers in a list, not a str"),
        (3, "the filters of 'first' should be whole numbers in a list, not a int"),
        (range(6), "'first' would lose all of its 6 filters; one has to stay"),
    ],
)
def test_wrong_filter_numbers_are_told(indices: Any, told: str, model: nn.Module, make_lab: MakeLab) -> None:
    with pytest.raises(MethodFault, match=told):
        remove_filters(model, make_lab(), {"first": indices})
    remove_filters(model, make_lab(), {"first": torch.tensor([0, 5, 5])})
    assert model.get_submodule("first").out_channels == 4


def test_the_lab_stands_for_its_example_input(model: nn.Module, make_lab: MakeLab) -> None:
    lab = make_lab()
    for function in (filter_groups, image_readers, filter_macs):
        assert function(model, lab) == function(model, lab.example_input)  # type: ignore[operator]
        with pytest.raises(BadArgument, match="expected the lab, or images of shape"):
            function(model, torch.zeros(3, 32, 32))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "tied", "expected"),
    [
        ("resnet20", False, {("layer1.0.conv1",): ("layer1.0.bn1",)}),
        ("test_resnet", True, {("conv1.6", "layer1.0.conv2"): ("bn1", "layer1.0.bn2")}),
        ("lcnet_035", False, {("conv_stem",): ("bn1", "blocks.0.0.bn1")}),  # with that of its depthwise follower
        (
            "densenet121",
            False,
            {("features.denseblock1.denselayer1.conv1",): ("features.denseblock1.denselayer1.norm2",)},
        ),
        ("test_nfnet", False, None),
    ],
)
def test_a_group_knows_its_batch_norms(
    name: str, tied: bool, expected: dict[Any, Any] | None, make_model: Callable[..., nn.Module], make_lab: MakeLab
) -> None:
    model = make_model(name)
    groups, _ = filter_groups(model, make_lab(), tied=tied)
    norms = {group.convolutions: group.batch_norms for group in groups}
    for group in groups:
        assert all(len(model.get_submodule(norm).weight) == group.channels for norm in group.batch_norms)
    if expected is None:
        assert norms and not any(norms.values())
    else:
        assert expected.items() <= norms.items(), norms
