"""Trials of `bench run` that fail or say nothing: what is recorded and told, and that the others go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bench
from bench.execution.choice import smallest
from bench.execution.executable import Execution, execute
from bench.plugins.setting import parse
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.training.lab import Lab
from bench.trials import run as harness
from bench.trials import trial
from bench.trials.plan import Plan

from .small_runs import Misbehaves, by_method
from .small_runs import finished as finished
from .small_runs import misbehave as misbehave
from .small_runs import plan as plan
from .small_runs import ran as ran
from .small_runs import store as store
from .small_runs import words as words

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


def test_a_failing_method_is_a_failed_record_and_the_others_go_on(
    words: list[str], bench_command: Say, misbehave: Say, ran: list[str], tmp_path: Path
) -> None:
    misbehave(ZeroDivisionError("one line\nand another"))
    said = bench_command(*words, "misbehaves,l1(rate=0.9)")
    assert said.code == 1 and "Traceback" not in said.err
    records = by_method(tmp_path / "runs")
    assert {name: record.status for name, record in records.items()} == {
        "none": "ok", "misbehaves": "failed", "l1": "ok",
    }  # fmt: skip
    failed = records["misbehaves"]
    assert failed.error == "misbehaves: ZeroDivisionError: one line\nand another" and failed.top1 is None
    folder = tmp_path / "runs" / "records" / failed.fingerprint
    assert "raise self.error" in (folder / "traceback.txt").read_text()
    assert "failed: misbehaves, 1 of 1 seeds: misbehaves: ZeroDivisionError: one line and another" in said.out
    assert "l1(rate=0.9)" in said.out and "dense" in said.out

    ran.clear()
    misbehave(BenchError("a reason"))
    assert bench_command(*words, "misbehaves,l1(rate=0.9)").code == 2, "it refuses the network"
    assert ran == ["misbehaves"] and Misbehaves.tried == 2, "a failed trial is tried again, and only it"
    assert by_method(tmp_path / "runs")["misbehaves"].error == "misbehaves: a reason"

    misbehave(None)
    said = bench_command(*words, "misbehaves,l1(rate=0.9)")
    assert said.code == 0 and "failed" not in said.out
    assert by_method(tmp_path / "runs")["misbehaves"].status == "ok"
    assert not (folder / "traceback.txt").exists()


def test_a_setting_that_does_not_fit_the_network_is_a_mistake(words: list[str], bench_command: Say) -> None:
    said = bench_command(*words, "tic(k=9999999),l1(rate=0.9)")
    assert said.code == 2 and "l1(rate=0.9)" in said.out
    line = next(line for line in said.err.splitlines() if line.startswith("failed: "))
    assert "9999999" in line and "Traceback" not in said.err


def test_a_method_that_wants_a_larger_budget_is_told_the_option(
    words: list[str], bench_command: Say, misbehave: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    misbehave(None)
    monkeypatch.setattr(Misbehaves, "compress", lambda self, model, lab: lab.fit(model, 99))
    said = bench_command(*words, "misbehaves")
    assert said.code == 1 and "99 epochs wanted" in said.out
    assert "--epochs sets the budget of every method\n" in said.err
    assert "--epochs" not in bench_command(*words, "l1(rate=0.9)").err


def test_where_every_trial_fails_there_is_a_board_all_the_same(
    words: list[str], bench_command: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(trial, "_compress_and_measure", fail)
    said = bench_command(*words, "tic(k=4)")
    assert said.code == 1
    for name in ("none", "tic(k=4)"):
        assert f"failed: {name}, 1 of 1 seeds: RuntimeError: no luck" in said.out


def test_a_method_without_effect_is_noted(plan: Plan, store: Store, misbehave: Say) -> None:
    misbehave(None)
    (record,) = harness.run(replace(plan, settings=parse("misbehaves")), store).records
    estimated = "batch-norm statistics re-estimated from 1 training batch"
    assert record.status == "ok" and record.notes == [estimated, "misbehaves left resnet20 as large as it was"]
    assert by_method(store)["none"].notes == [estimated]


def test_a_network_that_says_no_numbers_is_a_failed_trial(
    plan: Plan, store: Store, misbehave: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: Misbehaves, model: nn.Module, lab: Lab) -> nn.Module:
        next(model.parameters()).data.fill_(math.nan)
        return model

    misbehave(None)
    monkeypatch.setattr(Misbehaves, "compress", spoil)
    failed, after = harness.run(replace(plan, settings=parse("misbehaves,l1(rate=0.9)")), store).records
    assert (failed.status, failed.error) == ("failed", "on the test images the loss is nan")
    assert after.status == "ok"


def test_a_file_that_holds_another_network_is_a_failed_trial(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, **options: Any) -> nn.Module:
        model = whole(path, **options)
        list(model.parameters())[-1].data[0] += 0.01
        return model

    whole = bench.load
    monkeypatch.setattr("bench.trials.ruler.artifact.load", load)
    (record,) = harness.run(replace(plan, settings=parse("l1(rate=0.9)")), store).records
    assert record.status == "failed" and "the artifact reloads to another network" in str(record.error)


def test_a_form_that_computes_something_else_is_a_failed_trial(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: nn.Module, images: Tensor) -> Execution:
        found = execute(model, images, smallest)
        list(found.network.parameters())[-1].data[0] += 0.01
        return found

    monkeypatch.setattr("bench.trials.ruler.execute", spoilt)
    (record,) = harness.run(replace(plan, settings=parse("fixed(keep=0.25)")), store).records
    assert record.status == "failed" and "the executable form computes something else" in str(record.error)


def test_a_misspelt_network_is_told_before_anything_runs(words: list[str], bench_command: Say, ran: list[str]) -> None:
    words[words.index("--models") + 1] = "resnet20,resnte56"
    assert "--models resnte56: there is no such network; did you mean resnet56" in bench_command(*words, "none").mistake
    assert ran == []


def test_a_model_that_cannot_be_loaded_does_not_stop_the_others(plan: Plan, store: Store, tmp_path: Path) -> None:
    from bench.plugins.registry import open_dataset
    from bench.trials.task import Subject

    weights = tmp_path / "resnet20.pth"
    torch.save(Subject("resnet20", open_dataset(plan.dataset)).build().state_dict(), weights)
    both = replace(plan, models=["resnet32", "resnet20"], weights=str(weights), settings=parse("none"))
    outcome = harness.run(both, store)
    assert [record.model for record in outcome.records] == ["resnet20"]
    assert outcome.problems[0].startswith("resnet32: weights=") and "does not fit the network" in outcome.problems[0]
