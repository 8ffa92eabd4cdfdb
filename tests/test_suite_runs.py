"""Suites that are run: each trial once, problems on the way, and what a dry run tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.trials import plan as opening
from bench.trials import run as harness
from bench.trials.run import Plan

from .written_suites import write as write

Say = Callable[..., Any]
Write = Callable[[str], Path]

pytestmark = pytest.mark.usefixtures("quick_timing")


@pytest.fixture
def small(image_folder: Path, write: Write) -> Path:
    """Five different trials, in three runs that overlap; the middle one's images are not there."""
    return write(f"""
        defaults: {{models: resnet20, dataset: 'folder:{image_folder}', weights: scratch, epochs: 0}}
        runs:
          - methods: l1(rate=0.9)
          - methods: [tic(k=4), kse]
            dataset: folder:/no/such/place
          - methods: ['l1(rate=0.90)', tic(k=4), random(rate=0.9)]
            seeds: 2
    """)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The settings that are really run, as they come."""
    found: list[str] = []

    def run_trial(trial: Any, *rest: Any) -> Record:
        found.append(f"{trial.setting} {trial.seed}")
        return run(trial, *rest)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", run_trial)
    return found


TRIALS = ["none 0", "l1(rate=0.9) 0", "l1(rate=0.9) 1", "tic(k=4) 0", "tic(k=4) 1", "random(rate=0.9) 0",
          "random(rate=0.9) 1"]  # fmt: skip
PROBLEM = "dataset='folder:/no/such/place': there is no /no/such/place"


def test_a_suite_runs_each_trial_once_and_goes_on(
    small: Path, bench_command: Say, ran: list[str], tmp_path: Path
) -> None:
    words = ("run", "--suite", small, "--store", tmp_path / "runs", "--no-tracking", "--device", "cpu")
    said = bench_command(*words)
    assert said.code == 1, "one run could not open its dataset"
    assert ran == TRIALS, "what two runs share is run once"
    assert said.err.count(f"failed: {PROBLEM}") == said.err.count(f"not run: {PROBLEM}") == 1
    records = Store(tmp_path / "runs").records()
    assert len(records) == 7 and {record.status for record in records} == {"ok"}
    for record in records:
        assert record.config["suite"] == "some.yaml" and record.config["command"].startswith(
            f"bench run --suite {small}"
        )
    seeds = [line.split()[-1] for line in said.out.splitlines() if "l1(rate=0.9)" in line]
    assert seeds == ["2"], "a trial of two runs counts once on the board"

    ran.clear()
    again = bench_command(*words)
    assert again.code == 1 and ran == [] and "7 of 7 trials were recorded before" in again.err
    assert again.out == said.out


def test_a_suite_and_a_command_share_their_records(
    small: Path, image_folder: Path, bench_command: Say, ran: list[str], tmp_path: Path
) -> None:
    rest = ("--store", tmp_path / "runs", "--no-tracking")
    bench_command(
        *("run", "--models", "resnet20", "--weights", "scratch", "--dataset", f"folder:{image_folder}"),
        *("--epochs", "0", "--methods", "tic(k=4)", *rest),
    )
    (plain, _) = Store(tmp_path / "runs").records()
    assert ran == ["none 0", "tic(k=4) 0"] and "suite" not in plain.config
    bench_command("run", "--suite", small, *rest)
    assert sorted(ran) == sorted(TRIALS)


def test_a_suite_of_which_nothing_opens_is_one_line(write: Write, bench_command: Say, tmp_path: Path) -> None:
    path = write("""
        defaults: {models: [resnet20, resnet32], methods: tic}
        runs: [{dataset: "folder:/no/such/place"}, {dataset: "folder:/nor/this"}]
    """)
    said = bench_command("run", "--suite", path, "--store", tmp_path / "runs")
    assert said.code == 2 and "Traceback" not in said.err
    other = "dataset='folder:/nor/this': there is no /nor/this"
    assert said.err.splitlines()[-1] == f"bench: {PROBLEM}; {other}"
    assert said.err.count(f"failed: {PROBLEM}\n") == 1


def test_neighbours_share_what_they_have_in_common(
    small: Path, monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    opened: list[str] = []

    def watch(name: str) -> None:
        original = getattr(opening, name)
        monkeypatch.setattr(opening, name, lambda *words: opened.append(name) or original(*words))

    watch("open_dataset")
    watch("load_task")
    plan = Plan(settings=parse("none"), models=["resnet20"], dataset=f"folder:{image_folder}", weights="scratch")
    list(opening.open_plans([plan, plan, plan]))
    assert opened == ["open_dataset", "load_task"]


def test_a_dry_run_tells_what_is_recorded_and_writes_nothing(
    small: Path, image_folder: Path, bench_command: Say, ran: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = ("run", "--suite", small, "--store", tmp_path / "runs", "--no-tracking")
    dry = bench_command(*words, "--dry-run")
    assert dry.code == 1 and dry.err == f"failed: {PROBLEM}\n" and ran == []
    assert not (tmp_path / "runs").exists()
    lines = dry.out.splitlines()[1:-2]  # a long path takes several
    rows = [line.split() for line in lines if line.startswith("resnet")]
    assert [f"{row[2]} {row[4]}" for row in rows] == TRIALS
    assert all(row[5:] == ["to", "run"] for row in rows) and dry.out.splitlines()[-2] == "7 to run"
    assert "gets up to 30 training batches to re-estimate batch-norm statistics" in dry.out.splitlines()[-1]

    def fail(trial: Any, *_: Any) -> Record:
        return trial.blank("") if trial.setting.name == "tic" else run(trial, *_)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", fail)
    bench_command(*words)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    states = bench_command(*words, "--dry-run").out.splitlines()
    assert states[-2] == "5 recorded; 2 failed, to run again"
    assert [line.split(maxsplit=5)[5].strip() for line in states[1:-2] if "tic" in line] == ["failed, to run again"] * 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_a_dry_run_trains_no_baseline(
    write: Write, image_folder: Path, bench_command: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("trained all the same")

    monkeypatch.setattr("bench.trials.baseline.train_baseline", fail)
    path = write(f"""
        defaults: {{models: resnet20, dataset: 'folder:{image_folder}', methods: l1}}
        runs: [{{seeds: 2}}, {{seeds: 3}}, {{attack: 9}}]
    """)
    said = bench_command("run", "--suite", path, "--store", tmp_path / "runs", "--dry-run")
    assert said.code == 0 and said.out.splitlines()[-2] == "6 to run, baseline to be trained"
    assert not (tmp_path / "runs").exists()
