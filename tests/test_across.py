"""Methods across tasks, against hand counts and another library."""

from __future__ import annotations

import math
import random
from typing import Any

import moocore
import numpy
import pandas
import pytest

from bench.leaderboard.across import FLOOR, compare_methods, hypervolume
from bench.leaderboard.board import to_markdown, to_text
from bench.leaderboard.summary import summarise
from bench.records.record import Record


def volume(points: list[tuple[float, float]]) -> float:
    kept, gain = (pandas.Series(figures, dtype=float) for figures in zip(*points, strict=True))
    return hypervolume(kept, gain)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 8.0)], 3.0),
        ([(0.95, 8.0)], 1.5),
        ([(1.0, 2.0), (0.95, 8.0)], 1 * 1 + 2 * 0.5),
        ([(0.95, 8.0), (1.0, 2.0), (0.94, 4.0)], 2.0),
        ([(1.01, 2.0)], 1.1),
        ([(0.9, 1000.0), (0.5, 2.0), (1.0, 1.0), (1.0, 0.5)], 0.0),
        ([(1.0, 8.0), (math.nan, 64.0), (1.0, math.nan)], 3.0),
    ],
)
def test_hypervolume_by_hand(points: list[tuple[float, float]], expected: float) -> None:
    assert volume(points) == pytest.approx(expected)


def test_nothing_measured_is_no_hypervolume_of_zero() -> None:
    assert math.isnan(volume([(1.0, math.nan)]))


def test_hypervolume_against_moocore() -> None:
    draw = random.Random(0)
    for count in range(1, 40):
        points = [(draw.uniform(0.8, 1.05), 2 ** draw.uniform(-1, 6)) for _ in range(count)]
        scaled = numpy.array([[(kept - FLOOR) / (1 - FLOOR), math.log2(gain)] for kept, gain in points])
        assert volume(points) == pytest.approx(moocore.hypervolume(scaled, ref=[0, 0], maximise=True))


def make_records(figures: dict[str, dict[str, list[tuple[float, float]]]]) -> pandas.DataFrame:
    """Of a task and a method its settings: share kept of a top-1 of 0.8, and gain in size, half of that in MACs."""
    records = [
        Record(
            fingerprint=f"{dataset} {method} {index}",
            status="ok",
            method=method,
            setting="none" if method == "none" else f"{method}(k={index})",
            model="resnet20",
            dataset=dataset,
            weights="w",
            seed=0,
            budget_epochs=1.0,
            device="cpu",
            started_at="2026-01-01T00:00:00+00:00",
            top1=0.8 * kept,
            top1_drop=0.8 - 0.8 * kept,
            compression_ratio=gain,
            macs_ratio=None if method == "tic" else 2 * gain,
        )
        for dataset, methods in figures.items()
        for method, settings in methods.items()
        for index, (kept, gain) in enumerate(settings)
    ]
    return pandas.DataFrame([vars(record) for record in records])


FIGURES = {
    "a": {"none": [(1.0, 1.0)], "tic": [(1.0, 8.0), (0.95, 16.0)], "kse": [(1.0, 2.0)]},
    "b": {"none": [(1.0, 1.0)], "tic": [(0.95, 4.0)], "kse": [(1.0, 4.0)]},
    "c": {"none": [(1.0, 1.0)], "kse": [(0.95, 4.0)], "l1": [(0.95, 4.0)]},
}


def test_ranks_and_volumes_by_hand() -> None:
    """Only methods that met are ranked together: kse and none on a, b and c; tic with both on a and b; l1 nowhere."""
    all_three, two = compare_methods(summarise(make_records(FIGURES)))
    assert [[task[1] for task in block.tasks] for block in (all_three, two)] == [["a", "b", "c"], ["a", "b"]]
    assert list(all_three.board["method"]) == ["kse", "none"] and set(two.board["method"]) == {"tic", "kse", "none"}
    expected: dict[str, dict[str, Any]] = {
        # Size: in a tic 3.5, kse 1; in b kse 2, tic 1.
        "tic": {"tasks": 2, "settings": 3, "rank_size": 1.5, "rank_size_sd": 0.5**0.5, "hypervolume_size": 2.25},
        "kse": {"tasks": 2, "settings": 2, "rank_size": 1.5, "rank_size_sd": 0.5**0.5, "hypervolume_size": 1.5},
        "none": {"tasks": 2, "settings": 2, "rank_size": 3.0, "rank_size_sd": 0.0, "hypervolume_size": 0.0},
    }
    board = two.board.set_index("method")
    for method, figures in expected.items():
        for name, value in figures.items():
            assert board.loc[method, name] == pytest.approx(value, nan_ok=True), (method, name)
    # MACs: tic has none measured, and is not ranked; latency was measured nowhere.
    assert list(board.loc[["kse", "none"], "rank_macs"]) == [1, 2]
    assert board.loc["kse", "hypervolume_macs"] == pytest.approx((2 + 3) / 2)
    assert math.isnan(board.loc["tic", "rank_macs"]) and math.isnan(board.loc["tic", "hypervolume_macs"])
    assert board["rank_latency"].isna().all()
    wide = all_three.board.set_index("method")
    assert wide.loc["kse", "hypervolume_size"] == pytest.approx((1 + 2 + 1) / 3) and wide.loc["none", "rank_size"] == 2


def test_a_gain_that_is_missing_in_one_task_is_not_ranked() -> None:
    records = make_records(FIGURES)
    records.loc[(records["dataset"] == "b") & (records["method"] == "kse"), "macs_ratio"] = math.nan
    board = compare_methods(summarise(records))[0].board.set_index("method")
    assert math.isnan(board.loc["kse", "rank_macs"]) and board.loc["none", "rank_macs"] == 1


def test_other_budgets_are_no_meeting() -> None:
    """tic with ten epochs and kse with one have not met, though their tasks are the same."""
    records = make_records({name: FIGURES[name] for name in ("a", "b")})
    records.loc[records["method"] == "tic", "budget_epochs"] = 10.0
    (block,) = compare_methods(summarise(records))
    assert set(block.board["method"]) == {"kse", "none"} and len(block.tasks) == 2
    dense = records[records["method"] == "none"].assign(budget_epochs=10.0, fingerprint=["x", "y"])
    blocks = compare_methods(summarise(pandas.concat([records, dense])))
    assert sorted(sorted(block.board["method"]) for block in blocks) == [["kse", "none"], ["none", "tic"]]


def test_the_comparison_is_shown_where_methods_share_two_tasks() -> None:
    everything = summarise(make_records(FIGURES))
    assert "**Methods across 3 tasks: a, b, c**" in to_markdown(everything)
    assert "| kse | 3 | 3 | 1.0 ±0.0 | 1.33 | 1.0 ±0.0 | 2.17 | – | – |" in to_markdown(everything)
    assert "Methods across 2 tasks: a, b\n" in to_text(everything)
    single = everything[everything["dataset"] == "a"]
    assert "across" not in to_markdown(single) and "across" not in to_text(single)
