"""`bench run` from end to end: its board, what is not run again, and what goes to MLflow."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import bench
from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.tracking import tracking_uri
from bench.trials import run as harness
from bench.trials.plan import Plan
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial

from .small_runs import METHODS, by_method
from .small_runs import finished as finished
from .small_runs import plan as plan
from .small_runs import ran as ran
from .small_runs import store as store
from .small_runs import words as words

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


def test_the_command_prints_a_board_with_the_dense_network_on_it(
    words: list[str], bench_command: Say, tmp_path: Path
) -> None:
    said = bench_command(*words, "random")
    assert said.code == 0 and said.err.endswith(f"\nrecords in {tmp_path / 'runs'}\n")
    assert "resnet20 on ramps, weights scratch, budget 1 epoch" in said.out
    dense, compressed = (line.split() for line in said.out.splitlines() if "dense  " in line or "random(" in line)
    records = by_method(tmp_path / "runs")
    assert f"{100 * records['none'].top1:.2f}" in dense and "1.00×" in dense
    assert f"{100 * records['random'].top1:.2f}" in compressed
    assert f"{records['random'].compression_ratio:.2f}×" in compressed
    assert records["random"].config["command"].startswith("bench run --models resnet20 --weights scratch")
    assert records["random"].config["command"].endswith("--methods random")


def test_what_is_recorded_is_not_run_again(
    words: list[str], store: Store, bench_command: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(harness, "run_trial", fail)
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    first, again = (bench_command(*words, METHODS) for _ in range(2))
    assert first.code == 0 and first == again
    assert "3 of 3 trials were recorded before" in first.err
    assert all(f"{record.compression_ratio:.2f}×" in first.out for record in by_method(store).values())
    assert {path: path.stat().st_mtime_ns for path in (store.root / "records").rglob("*.*")}.items() <= before.items()
    # Written otherwise, they are the same trials; another order is another table only.
    assert bench_command(*words, "l1(rate=0.50), none, tic( k = 4 ), tic(transforms=8, k=4)").out == first.out


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0.4},
        {"seeds": (1,)},
        {"weights": "FILE"},
        {"models": ["resnet32"]},
        {"dataset": "OTHER"},
        {"settings": parse("tic(k=3)")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_anything_that_changes_a_figure_makes_another_trial(
    change: dict[str, Any], plan: Plan, store: Store, tmp_path: Path, image_folder: Path
) -> None:
    ran: list[str] = []

    def runner(trial: Trial, ruler: Ruler, folder: Path, command: str) -> Record:
        ran.append(str(trial.setting))
        return trial.blank(command)

    plan = replace(plan, settings=parse("tic(k=4)"))
    assert harness.run(plan, store, runner=runner).reused == 1 and ran == []
    if "dataset" in change:
        shutil.copytree(image_folder, tmp_path / image_folder.name)
        Image.new("RGB", (32, 32)).save(tmp_path / image_folder.name / "test" / "up" / "0.png")
        change = {"dataset": f"folder:{tmp_path / image_folder.name}"}
    if "weights" in change:
        model = bench.load(store.folder(by_method(store)["none"].fingerprint) / "model.safetensors")
        next(model.parameters()).data[0] += 1
        save_file(model.state_dict(), tmp_path / "scratch.safetensors")
        change = {"weights": str(tmp_path / "scratch.safetensors")}
    assert harness.run(replace(plan, **change), store, runner=runner).reused == 0 and len(ran) == 1


def test_seeds_are_trials_of_their_own(plan: Plan, store: Store, ran: list[str]) -> None:
    outcome = harness.run(replace(plan, settings=parse("random(rate=0.9)"), seeds=(0, 1)), store)
    assert [record.seed for record in outcome.records] == [0, 1] and len(ran) == 2
    first, second = (load_file(store.folder(r.fingerprint) / "model.safetensors") for r in outcome.records)
    assert any(not torch.equal(first[name], second[name]) for name in first)


class Postman:
    """Stands for MLflow."""

    sent: ClassVar[list[str]] = []
    unsettled: ClassVar[list[str]] = []
    error: ClassVar[Exception | None] = None

    def __init__(self, root: Path, patience: float = 0) -> None:
        self.uri = tracking_uri(root)

    def log(self, record: Record, folder: Path, *, settled: bool = True) -> bool:
        if self.error:
            raise self.error
        assert (folder / "record.json").is_file()
        self.sent.append(record.setting)
        self.unsettled.append(record.setting)
        return True

    def settle(self) -> None:
        self.unsettled.clear()


@pytest.fixture
def postman(monkeypatch: pytest.MonkeyPatch) -> type[Postman]:
    monkeypatch.setattr("bench.tracking.delivery.Tracker", Postman)
    monkeypatch.setattr(Postman, "sent", [])
    monkeypatch.setattr(Postman, "error", None)
    return Postman


def test_records_are_delivered_as_they_come_and_once(
    store: Store, words: list[str], bench_command: Say, postman: type[Postman], monkeypatch: pytest.MonkeyPatch
) -> None:
    words.remove("--no-tracking")
    said = bench_command(*words, METHODS)
    assert postman.sent == ["none", "tic(k=4)", "l1(rate=0.5)"] and not postman.unsettled
    (store.root / "mlflow.db").touch()
    assert said.err.splitlines()[-1] == f"records in {store.root}; `bench ui --store {store.root}` shows them"
    bench_command(*words, METHODS)
    assert len(postman.sent) == 3
    (store.root / "mlflow.db").unlink()
    bench_command(*words, METHODS)
    assert len(postman.sent) == 6, "somebody deleted the database"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@board.example")
    assert bench_command(*words, METHODS).err.endswith("; MLflow at https://board.example shows them\n")
    assert len(postman.sent) == 9, "another address has none of them yet"


@pytest.mark.parametrize("error", [BenchError("MLflow is away"), OSError(errno.ENOSPC, "no room for the mark")])
def test_without_mlflow_the_trials_go_on(
    error: Exception, store: Store, words: list[str], bench_command: Say, postman: type[Postman],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(postman, "error", error)
    words.remove("--no-tracking")
    said = bench_command(*words, METHODS)
    assert said.code == 0 and said.err.count(f"warning: {error}") == 1 and "tic(k=4)" in said.out
    hint = f"`bench sync --store {store.root}` delivers them to MLflow"
    assert said.err.splitlines()[-1] == f"records in {store.root}; {hint}"
