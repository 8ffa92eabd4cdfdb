"""The record is assembled once, from the frozen results of the measurements."""

from __future__ import annotations

from collections import Counter
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.measuring.latency import judged
from bench.measuring.robustness import Attack
from bench.plugins.registry import open_dataset
from bench.plugins.setting import parse
from bench.records.record import FIGURES, Record
from bench.trials import trial as trials
from bench.trials.baseline import load_task
from bench.trials.results import Results, assemble
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial, run_trial

CPU = torch.device("cpu")


@pytest.fixture
def trial(image_folder: Path) -> Trial:
    task = load_task("resnet20", open_dataset(f"folder:{image_folder}"), "scratch", CPU)
    return Trial(task, parse("tic(k=4)")[0], 0, 0, CPU, Attack(4))


@pytest.fixture
def results(trial: Trial, tmp_path: Path, quick_timing: None) -> Results:
    return trials._compress_and_measure(trial, Ruler(trial.task, CPU), tmp_path, [], None)


def test_every_figure_of_a_record_comes_from_one_measurement(trial: Trial, results: Results) -> None:
    counts = Counter(name for part in results.figures for name in part)
    assert set(counts.values()) == {1}
    elsewhere = {"duration_seconds", "runtime_agreement"}
    beside = {"norm_statistics", "worst_class", "latency_noisy", "throughput_noisy"}
    assert counts.keys() == FIGURES.keys() - elsewhere | beside
    record = assemble(trial.blank("bench run"), results, ["a note"], 1.5)
    assert (record.status, record.notes[-1], record.duration_seconds) == ("ok", "a note", 1.5)
    for part in results.figures:
        assert {name: getattr(record, name) for name in part} == part
    assert Record.from_json(record.to_json()).to_json() == record.to_json()


def test_the_raw_timings_are_kept_and_give_the_figures(trial: Trial, results: Results, tmp_path: Path) -> None:
    record = assemble(trial.blank(""), results, [], 1)
    rows = np.loadtxt(tmp_path / "timings.csv", delimiter=",", skiprows=1)
    second = np.flatnonzero(rows[:, 1] == 1)[1]  # where the rounds of the saturating batch begin
    timing = judged(1, rows[:second, 2:], 0.0)
    assert timing.speedup.value == pytest.approx(record.latency_speedup, rel=1e-4)
    assert timing.self_speedup.high == pytest.approx(record.latency_self_speedup_high, rel=1e-4)
    assert timing.p90 == pytest.approx(record.latency_ms_p90, rel=1e-4)
    assert {*rows[:second, 0]} == {1} and {*rows[second:, 0]} == {record.throughput_batch}


def test_without_an_attack_its_figures_stay_empty(trial: Trial, results: Results) -> None:
    record = assemble(trial.blank(""), replace(results, attacked=None), [], 1)
    assert record.robust_top1 is None and record.attack_images is None and record.top1 is not None


def test_results_are_frozen(results: Results) -> None:
    for each in (results, results.effort, results.measured.sizes, results.measured.accuracy, results.measured.speed):
        with pytest.raises(FrozenInstanceError):
            each.anything = 1  # type: ignore[union-attr]


def test_a_failed_trial_keeps_what_its_blank_record_holds(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(trials, "_compress_and_measure", fail)
    record, blank = run_trial(trial, Ruler(trial.task, CPU), tmp_path, "bench run"), trial.blank("bench run")
    assert (record.status, record.error) == ("failed", "RuntimeError: no luck")
    assert record.duration_seconds and record.top1 is None
    changed = replace(record, error=None, duration_seconds=None, started_at=blank.started_at)
    assert changed == blank
    assert "no luck" in (tmp_path / "traceback.txt").read_text()
