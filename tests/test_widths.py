"""Widths that a device likes, and a limit on what a layer may lose: `round_to` and `keep_at_least`."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench import Lab, convolutions, keep_highest_overall, remove_lowest
from bench.networks.zoo import create_model
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.pruning.widths import fewest, lowest_overall, rounded_counts
from bench.system.errors import BenchError, MethodFault
from bench.trials.baseline import load_task
from bench.trials.points import Point, Search, aims_of
from bench.trials.ruler import Ruler

MakeLab = Callable[..., Lab]
REMOVERS = [
    "l1(rate=0.4",
    "l1(rate=0.4, scope=network",
    "l1(rate=0.4, greedy=true",
    "random(rate=0.4",
    "taylor(rate=0.4, steps=3",
    "dynamic(rate=0.4",
]
NETWORKS = ["resnet20", "mobilenetv2_050"]

layers = st.lists(
    st.tuples(st.integers(1, 70), st.floats(0, 0.99), st.floats(0, 1)),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize(("count", "share", "stay"), [(10, 0.1, 1), (20, 0.1, 2), (21, 0.1, 3), (5, 0.0, 1), (7, 1, 7)])
def test_the_fewest_are_the_share_rounded_up_and_one_in_any_case(count: int, share: float, stay: int) -> None:
    assert fewest(count, share) == stay


@given(layers, st.sampled_from([1, 2, 3, 4, 8, 16]))
def test_rounded_counts_are_allowed_and_near(drawn: list[tuple[int, float, float]], unit: int) -> None:
    channels = [width for width, *_ in drawn]
    counts = [int(rate * width) for width, rate, _ in drawn]
    least = [fewest(width, share) for width, _, share in drawn]
    lost = rounded_counts(counts, channels, least, unit)
    for count, gone, width, low in zip(counts, lost, channels, least, strict=True):
        kept = width - gone
        assert low <= kept <= width
        assert kept == width or kept % unit == 0
        assert count or not gone, "a layer that is to lose nothing loses nothing"
        assert gone == 0 or abs(kept - max(width - count, ceil(low / unit) * unit)) <= unit


@given(st.lists(st.tuples(st.integers(2, 70), st.floats(0, 0.99)), min_size=1, max_size=12))
def test_without_rules_counts_stay_as_they_are(drawn: list[tuple[int, float]]) -> None:
    counts = [int(rate * width) for width, rate in drawn]
    ones = [1] * len(drawn)
    assert rounded_counts(counts, [width for width, _ in drawn], ones, 1) == counts


def test_rounding_errors_cancel_out_over_layers() -> None:
    """At a rate of 0.43, 36 or 37 of 64 filters stay: one layer of three keeps 32 and two keep 40."""
    assert [64 - lost for lost in rounded_counts([28] * 6, [64] * 6, [1] * 6, 8)] == [40, 32, 40, 32, 40, 32]
    assert [64 - lost for lost in rounded_counts([27] * 6, [64] * 6, [1] * 6, 8)] == [40, 32, 40, 40, 32, 40]


def by_hand(scores: dict[str, list[int]], total: int, units: dict[str, int], least: dict[str, int]) -> dict[str, int]:
    """Blocks are taken one at a time, the lowest mean first."""
    left = {name: sorted(some) for name, some in scores.items()}
    gone = 0
    while True:
        offers = []
        for name, some in left.items():
            size = len(some) % units[name] or units[name]
            if len(some) - size >= least[name]:
                offers.append((sum(some[:size]) / size, list(scores).index(name), size, name))
        if not offers or gone + min(offers)[2] > total:
            return {name: len(scores[name]) - len(some) for name, some in left.items()}
        _, _, size, name = min(offers)
        left[name] = left[name][size:]
        gone += size


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=25), min_size=1, max_size=5), st.data())
def test_blocks_go_as_when_they_are_taken_one_at_a_time(drawn: list[list[int]], data: Any) -> None:
    scores = {str(number): some for number, some in enumerate(drawn)}
    units = {name: data.draw(st.sampled_from([1, 2, 4, 8])) for name in scores}
    least = {name: fewest(len(some), data.draw(st.floats(0, 1))) for name, some in scores.items()}
    total = data.draw(st.integers(0, sum(map(len, drawn))))
    tensors = {name: torch.tensor(some) for name, some in scores.items()}
    gone = lowest_overall(tensors, total, units, least)
    assert {name: len(some) for name, some in gone.items()} == by_hand(scores, total, units, least)
    for name, indices in gone.items():
        assert sorted(scores[name])[: len(indices)] == [scores[name][j] for j in indices.tolist()]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("setting", REMOVERS)
def test_every_method_that_removes_filters_keeps_multiples(setting: str, network: str, make_lab: MakeLab) -> None:
    torch.manual_seed(0)
    dense = create_model(network, 4, 3)
    widths = {name: layer.out_channels for name, layer in convolutions(dense).items()}
    lab = make_lab()
    model = parse(f"{setting}, round_to=8)")[0].compress(dense, lab)
    changed = {
        name: layer.out_channels for name, layer in convolutions(model).items() if layer.weight.shape[0] != widths[name]
    }
    assert changed and all(width % 8 == 0 for width in changed.values()), changed
    own = [name for name in changed if "follows" not in lab.notes[name]]
    assert own and all(
        f"{changed[name]} of {widths[name]} filters kept, in multiples of 8" in lab.notes[name] for name in own
    )


@pytest.mark.parametrize(
    "setting",
    ["l1(rate=0.9, scope=network", "taylor(rate=0.9, steps=4", "dynamic(rate=0.9", "l1(rate=0.9"],
)
@pytest.mark.parametrize("round_to", [1, 8])
def test_no_layer_loses_more_than_it_may(setting: str, round_to: int, make_lab: MakeLab) -> None:
    torch.manual_seed(0)
    dense = create_model("resnet20", 4, 3)
    for number, layer in enumerate(convolutions(dense).values()):  # the later the layer, the weaker its filters
        layer.weight.data *= 0.8**number
    widths = {name: layer.out_channels for name, layer in convolutions(dense).items()}
    options = f", keep_at_least=0.3, round_to={round_to})"
    model = parse(setting + options)[0].compress(dense, make_lab())
    left = {name: int((layer.weight.abs().sum((1, 2, 3)) > 0).sum()) for name, layer in convolutions(model).items()}
    assert all(left[name] >= ceil(0.3 * widths[name]) for name in left), left
    at_the_limit = [name for name in left if left[name] < 0.55 * widths[name]]
    assert at_the_limit


@pytest.mark.parametrize(
    "setting",
    ["magnitude(rate=0.9", "l1(rate=0.9, granularity=weight, scope=network", "dynamic(rate=0.9, granularity=weight"],
)
def test_no_layer_loses_more_weights_than_it_may(setting: str, make_lab: MakeLab) -> None:
    torch.manual_seed(0)
    dense = create_model("resnet20", 4, 3)
    convolutions(dense)["layer2.0.conv1"].weight.data *= 1e-4
    shares = {}
    for limit in (0.0, 0.25):
        torch.manual_seed(0)
        model = parse(f"{setting}, keep_at_least={limit})")[0].compress(create_copy(dense), make_lab())
        weight = convolutions(model)["layer2.0.conv1"].weight
        shares[limit] = float((weight != 0).double().mean())
    assert shares[0.0] < 0.01 and shares[0.25] == 0.25


def create_copy(model: nn.Module) -> nn.Module:
    copy = create_model("resnet20", 4, 3)
    copy.load_state_dict(model.state_dict())
    return copy


def test_a_limit_moves_what_goes_to_other_layers() -> None:
    scores = {"low": torch.arange(10.0), "high": torch.arange(100.0, 110.0)}
    free = keep_highest_overall(scores, 0.5)
    limited = keep_highest_overall(scores, 0.5, keep_at_least=0.4)
    paired = keep_highest_overall(scores, 0.5, units={"low": 4}, keep_at_least=0.4)
    assert [int(kept.sum()) for kept in free.values()] == [1, 10]  # the last one comes on top
    assert [int(kept.sum()) for kept in limited.values()] == [4, 6]
    assert [int(kept.sum()) for kept in paired.values()] == [4, 6]


@pytest.mark.parametrize("method", ["l1(granularity=kernel", "random(granularity=weight", "dynamic(granularity=weight"])
def test_rounding_goes_with_filters(method: str) -> None:
    with pytest.raises(BenchError, match="tied and round_to go with granularity=filter"):
        parse(f"{method}, round_to=8)")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("round_to=0", "round_to should be greater than or equal to 1"),
        ("keep_at_least=1", "keep_at_least should be less than 1"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(option: str, told: str) -> None:
    with pytest.raises(BenchError, match=told):
        parse(f"taylor({option})")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"round_to": 0}, "round_to should be a whole number of at least 1, not 0"),
        ({"keep_at_least": 1.5}, "keep_at_least should be a share from 0 to 1, or numbers by layer, not 1.5"),
        ({"keep_at_least": {"conv1": -1}}, "keep_at_least of 'conv1' should be a whole number of at least 0, not -1"),
    ],
)
def test_a_methods_mistake_names_the_limit(limits: dict[str, Any], told: str, make_lab: MakeLab) -> None:
    with pytest.raises(MethodFault, match=told):
        remove_lowest(
            create_model("resnext50_32x4d", 4, 3), make_lab(), lambda group: torch.arange(group.channels), 0.5, **limits
        )


@pytest.mark.parametrize(("setting", "size"), [("l1(round_to=8)", 2), ("l1(round_to=8)", 3)])
@pytest.mark.parametrize("network", ["resnet20", "mobilenetv2_050"])
def test_the_operating_point_is_still_met(setting: str, size: float, network: str, image_folder: Path) -> None:
    dataset = registry.open_dataset(f"folder:{image_folder}", None)
    cpu = torch.device("cpu")
    ruler = Ruler(load_task(network, dataset, "scratch", cpu), cpu)
    (aim,) = aims_of(parse(setting), [Point("size", size)])
    answer = Search(ruler).find(aim)
    assert not answer.missed and aim.point.is_met(answer.ratio), answer
