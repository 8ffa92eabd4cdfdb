"""`bench run --at`: points as people write them, and runs that record what reaches them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.plugins.setting import parse
from bench.records.store import Store
from bench.system.errors import BadArgument, BenchError
from bench.trials import points
from bench.trials import run as harness
from bench.trials.plan import Plan
from bench.trials.points import TOLERANCE, Point, parse_points
from bench.trials.suite import load_suite

CPU = torch.device("cpu")
Say = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("quick_timing")


@pytest.fixture
def plan(image_folder: Path) -> Plan:
    return Plan(
        settings=parse("none,l1(scope=network)"),
        models=["resnet20"],
        dataset=f"folder:{image_folder}",
        weights="scratch",
        epochs=0,
        seeds=(0, 1),
        at=parse_points(["size=2,5000"]),
        command="bench run",
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("tic(k=64)", "tic(k=64): k is given; leave it out, so that its value can be chosen"),
        ("scratch", "scratch(of=l1(rate=0.5)): no method in it declares an option that sets its strength"),
    ],
)
def test_a_setting_without_a_choice_is_refused(settings: str, problem: str, plan: Plan) -> None:
    with pytest.raises(BadArgument) as error:
        replace(plan, settings=parse(settings))
    assert error.value.problem == problem


@pytest.mark.parametrize(
    "text", ["", "size", "size=", "size=1", "size=0.5", "size=two", "weight=2", "size=inf", "compressed=nan"]
)
def test_a_point_is_a_measure_and_ratios_above_1(text: str) -> None:
    with pytest.raises(BadArgument, match=r"ratios above 1, as in size=2,4,8, compressed=8 or macs=2"):
        parse_points([text])


def test_what_is_no_measure_is_answered_with_the_measures() -> None:
    with pytest.raises(BadArgument, match="measures are size, compressed, macs"):
        parse_points(["bytes=2"])


def test_points_are_read_once_each() -> None:
    assert parse_points(["size=2, 4,2", "macs=1.5", "compressed=8"]) == [
        Point("size", 2),
        Point("size", 4),
        Point("macs", 1.5),
        Point("compressed", 8),
    ]


def test_a_run_records_ordinary_settings_and_says_what_was_not_reached(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    outcome = harness.run(plan, store)
    (missed,) = outcome.missed
    assert missed.startswith("l1(scope=network) at size=5000: it reaches ") and not outcome.problems
    dense, *records = outcome.records
    assert dense.setting == "none" and [record.seed for record in records] == [0, 1]
    for record in records:
        assert record.compression_ratio == pytest.approx(2, rel=TOLERANCE)
        assert record.config["family"] == "l1(scope=network)" and "--at" not in record.config["repeat"]
    (setting,) = {record.setting for record in records}
    again = harness.run(replace(plan, settings=parse(f"none,{setting}"), at=()), store)
    assert again.reused == 3, "the setting is an ordinary one"


def test_a_second_run_looks_for_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "runs")
    first = harness.run(plan, store)
    monkeypatch.setattr(points.Search, "_bisect", lambda *_: pytest.fail("looked again"))
    again = harness.run(plan, store)
    assert again.reused == 3 and again.missed == first.missed


def test_an_answer_that_cannot_be_read_is_looked_for_again(plan: Plan, own_cache: Path, tmp_path: Path) -> None:
    first = harness.run(plan, Store(tmp_path / "runs"))
    for file in (own_cache / "points").iterdir():
        file.write_text("{")
    assert harness.run(plan, Store(tmp_path / "runs")).missed == first.missed
    assert all(json.loads(file.read_text()) for file in (own_cache / "points").iterdir())


def test_a_setting_that_fails_is_a_problem_and_the_others_go_on(plan: Plan, tmp_path: Path) -> None:
    broken = replace(
        plan, settings=parse("none,fixed(layers='nothing*'),l1(scope=network)"), at=parse_points(["size=2"])
    )
    outcome = harness.run(broken, Store(tmp_path / "runs"))
    (problem,) = outcome.problems
    assert problem.startswith("fixed(layers=('nothing*',)) at size=2: ") and len(outcome.records) == 3


def test_the_command_line_and_suites_take_operating_points(
    bench_command: Say, image_folder: Path, tmp_path: Path
) -> None:
    words = [
        "run",
        "--models",
        "resnet20",
        "--dataset",
        f"folder:{image_folder}",
        "--weights",
        "scratch",
        "--epochs",
        0,
    ]
    store = ["--store", tmp_path / "runs", "--no-tracking"]
    said = bench_command(*words, *store, "--methods", "magnitude", "--at", "size=2", "--at", "macs=3", "--dry-run")
    assert said.code == 0 and said.out.count("magnitude(rate=0.") == 2
    wrong = bench_command(*words, *store, "--methods", "tic(k=3)", "--at", "size=2")
    assert wrong.mistake == "--at size=2: tic(k=3): k is given; leave it out, so that its value can be chosen"
    path = tmp_path / "some.yaml"
    path.write_text(
        textwrap.dedent("""
        runs:
          - models: resnet20
            methods: magnitude
            at: [size=2, macs=3]
    """)
    )
    (plan,) = load_suite(path, device=CPU)
    assert plan.at == parse_points(["size=2", "macs=3"])
    path.write_text(path.read_text().replace("size=2", "size=zero"))
    with pytest.raises(BenchError, match=r"some.yaml, line 5.*size=zero: expected ratios"):
        load_suite(path, device=CPU)
