"""A plan of three trials on images drawn here, a store where they are finished, and a method that fails on demand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import nn

from bench.measuring import latency, rounds
from bench.plugins import setting
from bench.plugins.method import Method
from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.training.lab import Lab
from bench.trials import run as harness
from bench.trials.plan import Plan

METHODS = "tic(k=4),l1"


@pytest.fixture(scope="module")
def plan(image_folder: Path) -> Plan:
    return Plan(
        settings=parse(f"none,{METHODS}"),
        models=["resnet20"],
        dataset=f"folder:{image_folder}",
        weights="scratch",
        epochs=1,
        command="bench run",
    )


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the plan's records; tests that write take a copy."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(root / "cache"))
        patch.setattr(rounds, "ROUNDS", 1)
        patch.setattr(latency.Timing, "noise", [])
        harness.run(plan, Store(root / "runs"))
    return root / "runs"


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    shutil.copytree(finished, tmp_path / "runs")
    return Store(tmp_path / "runs")


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    """The command of `plan`, without its methods."""
    return f"""
        run --models resnet20 --weights scratch --dataset folder:{image_folder} --epochs 1 --no-tracking
        --store {tmp_path / "runs"} --methods
    """.split()


@dataclass(frozen=True, kw_only=True)
class Misbehaves(Method):
    name = "misbehaves"
    error: ClassVar[BaseException | None] = None
    tried: ClassVar[int] = 0

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        type(self).tried += 1
        if self.error:
            raise self.error
        return model


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """There is a method `misbehaves`, which raises what is asked for here."""
    known = {**setting.methods(), "misbehaves": Misbehaves}
    monkeypatch.setattr(setting, "methods", lambda: known)
    monkeypatch.setattr(Misbehaves, "tried", 0)

    def ask(error: BaseException | None) -> None:
        monkeypatch.setattr(Misbehaves, "error", error)

    return ask


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The settings that are really run, as they come."""
    found: list[str] = []

    def run_trial(trial: Any, *rest: Any) -> Record:
        found.append(str(trial.setting))
        return run(trial, *rest)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", run_trial)
    return found


def by_method(store: Path | Store) -> dict[str, Record]:
    return {record.method: record for record in Store(store if isinstance(store, Path) else store.root).records()}
