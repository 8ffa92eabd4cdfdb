"""What `bench find` is asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench.search.goal import COSTS, GAINS, Bound, goal_of
from bench.search.verdict import Interval
from bench.system.errors import BenchError
from tests.search_curves import record


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"within": 1.0, "smallest": "size"}, "the smallest file with top-1 lost at most 1 point"),
        ({"within": 2, "fastest": "latency"}, "the fastest for one image with top-1 lost at most 2 points"),
        ({"at_least": ["size=4"]}, "the highest top-1 with size at least 4x"),
        ({"most": ["macs=20e6"]}, "the highest top-1 with MACs at most 20,000,000"),
        (
            {"most": ["size=100kB,latency=5ms"]},
            "the highest top-1 with file at most 100,000 bytes and latency at most 5 ms",
        ),
        ({"smallest": "macs", "at_least": ["top1=90"]}, "the fewest MACs with top-1 at least 90 %"),
    ],
)
def test_goals_are_told_in_words(options: dict[str, Any], told: str) -> None:
    assert str(goal_of(**options)) == told


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "what is to be found"),
        ({"within": 1.0}, "what is to be found"),
        ({"smallest": "size"}, "without a limit on accuracy"),
        ({"within": 1, "smallest": "sise"}, "did you mean 'size'"),
        ({"within": 1, "smallest": "size", "fastest": "latency"}, "one of the two"),
        ({"within": -1, "smallest": "size"}, "from 0 to 100"),
        ({"within": math.nan, "smallest": "size"}, "from 0 to 100"),
        ({"at_least": ["size"]}, "expected NAME=VALUE"),
        ({"at_least": ["size=0"]}, "above 0"),
        ({"at_least": ["sizes=4"]}, "did you mean 'size'"),
        ({"most": ["macs=many"]}, "expected NAME=VALUE"),
        ({"most": ["macs=-1"]}, "expected NAME=VALUE"),
        ({"most": ["macs=1e999"]}, "above 0"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BenchError, match=problem) as error:
        goal_of(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("bound", "value", "broken_by"),
    [
        (Bound(GAINS["size"], "least", 4), 8.0, 0),
        (Bound(GAINS["size"], "least", 4), 4.0, 0),
        (Bound(GAINS["size"], "least", 4), 1.0, 2),
        (Bound(COSTS["size"], "most", 100), 400.0, 2),
        (Bound(COSTS["drop"], "most", 1), 3.5, 2.5),
        (Bound(COSTS["drop"], "most", 1), -3.5, 0),
        (Bound(GAINS["top1"], "least", 90), 88.0, 2),
        (Bound(GAINS["size"], "least", 4), math.nan, math.inf),
    ],
)
def test_bounds_are_broken_by_doublings_or_points(bound: Bound, value: float, broken_by: float) -> None:
    assert bound.violation(value) == pytest.approx(broken_by)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.9, "met"), (0.1, 1.0, "met"), (0.5, 1.5, "cannot be told"), (1.1, 1.5, "not met"), (-2, -1, "met")],
)
def test_an_interval_decides_what_can_be_told(low: float, high: float, verdict: str) -> None:
    bound = Bound(COSTS["drop"], "most", 1.0)
    assert Interval((low + high) / 2, low, high).keeps(bound) == verdict
    assert Interval((low + high) / 2, low, high, noisy=True).keeps(bound) == "cannot be told"


def test_a_goal_names_the_figures_that_have_to_be_timed() -> None:
    assert goal_of(within=1, fastest="latency").is_timed
    assert goal_of(at_least=["size=4", "throughput=2"]).is_timed
    assert not goal_of(within=1, smallest="size").is_timed


def test_figures_are_read_from_records_in_the_units_that_people_write() -> None:
    goal = goal_of(within=1.0, smallest="size")
    assert goal.keeps(record("a", top1_drop=0.01, compression_ratio=4.0))
    assert not goal.keeps(record("a", top1_drop=0.011, compression_ratio=4.0))
    assert goal.worth(record("a", top1_drop=0.01, compression_ratio=4.0)) == 2
