"""Several processes on one store: claims, heartbeats, scratch folders, and what is left when one of them dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.plugins.setting import parse
from bench.records import claims
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError
from bench.trials import run as harness
from bench.trials import session
from bench.trials.plan import Plan
from bench.trials.preview import preview
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial

OWNER = """
import sys, time; from pathlib import Path
from bench.records import claims; from bench.records.store import Store
claims.BEAT_SECONDS = 0.1
with Store(Path(sys.argv[1])).claim(sys.argv[2]) as ours: print(ours, flush=True); time.sleep(600)
"""
WORKER = """
import socket, sys, time; from pathlib import Path
from bench.records.store import Store
socket.gethostname = lambda: "container"
with Store(Path(sys.argv[1])).prepare("f0") as folder: print(folder, flush=True); time.sleep(600)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "STALLED_SECONDS", 1.5)
    monkeypatch.setattr(session, "POLL_SECONDS", 0.1)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python code in a process of its own, and wait until it says something."""
    running: list[subprocess.Popen[str]] = []

    def call(code: str, *words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None and process.stdout.readline().strip() not in ("", "False")
        return process

    yield call
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def plan(image_folder: Path) -> Plan:
    names = "none,tic(k=4),l1"
    return Plan(settings=parse(names), models=["resnet20"], dataset=f"folder:{image_folder}", weights="scratch")


class Runs:
    """Stands for the real work: what is run is `ok` at once."""

    def __init__(self) -> None:
        self.settings: list[str] = []

    def __call__(self, trial: Trial, ruler: Ruler, folder: Path, command: str) -> Record:
        self.settings.append(trial.setting.name)
        record = trial.blank(command)
        record.status = "ok"
        return record


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def fingerprints(plan: Plan, store: Store) -> dict[str, str]:
    records = harness.run(plan, Store(store.root.with_name("known")), runner=Runs()).records
    return {record.method: record.fingerprint for record in records}


def finish(store: Store, fingerprint: str, **changes: Any) -> Record:
    """What another process does at the end of a trial."""
    record = replace(Store(store.root.with_name("known")).get(fingerprint), **changes)
    with store.prepare(fingerprint) as folder:
        write_record(record, folder)
    return record


def test_a_suspended_run_holds_nobody_up_and_is_named(
    plan: Plan, store: Store, runs: Runs, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = start(OWNER, store.root, fingerprints(plan, store)["tic"])
    owner.send_signal(signal.SIGSTOP)
    outcome = harness.run(plan, store, runner=runs)
    assert runs.settings == ["none", "l1"] and [record.method for record in outcome.records] == ["none", "l1"]
    (problem,) = outcome.problems
    assert problem == (
        f"resnet20 on ramps: tic(k=4), seed 0: held by process {owner.pid} on {os.uname().nodename}, which has made no "
        "progress for 1.5 s; resume it or end it, then run the same command again"
    )
    said = capsys.readouterr().err
    assert f"waiting for process {owner.pid} on " in said and "\n" not in problem
    with pytest.raises(BenchError, match="held by process"):
        harness.run(replace(plan, settings=parse("tic(k=4)")), store, runner=runs)


def test_a_slow_run_is_waited_for_until_its_record_appears(plan: Plan, store: Store, runs: Runs, start: Start) -> None:
    fingerprint = fingerprints(plan, store)["tic"]
    owner = start(OWNER, store.root, fingerprint)
    # Longer than a heart may stand still; and it is the record that counts, not the end of the process.
    timer = threading.Timer(3, finish, [store, fingerprint])
    timer.start()
    outcome = harness.run(plan, store, runner=runs)
    timer.join()
    assert owner.poll() is None
    assert outcome.problems == [] and runs.settings == ["none", "l1"]
    assert [record.method for record in outcome.records] == ["none", "tic", "l1"] and outcome.reused == 0


def test_what_a_killed_run_left_undone_is_done_by_the_one_that_waits(
    plan: Plan, store: Store, runs: Runs, start: Start
) -> None:
    owner = start(OWNER, store.root, fingerprints(plan, store)["tic"])
    timer = threading.Timer(1, owner.kill)
    timer.start()
    outcome = harness.run(plan, store, runner=runs)
    timer.join()
    assert outcome.problems == [] and sorted(runs.settings) == ["l1", "none", "tic"]


@pytest.mark.parametrize("again", [True, False])
def test_a_failure_is_tried_again_unless_the_other_run_just_had_it(
    again: bool, plan: Plan, store: Store, runs: Runs, start: Start
) -> None:
    fingerprint = fingerprints(plan, store)["tic"]
    finish(store, fingerprint, status="failed", error="before")
    owner = start(OWNER, store.root, fingerprint)

    def end() -> None:
        if not again:
            finish(store, fingerprint, status="failed", error="just now")
        owner.kill()

    timer = threading.Timer(1, end)
    timer.start()
    outcome = harness.run(plan, store, runner=runs)
    timer.join()
    assert ("tic" in runs.settings) == again
    assert [record.error for record in outcome.records] == [None, None if again else "just now", None]


def test_two_containers_of_one_host_name_leave_each_other_alone(store: Store, start: Start) -> None:
    worker = start(WORKER, store.root)
    (scratch,) = store.root.glob(".partial/*/")
    # In another container the same host name and a process id that nobody has here say nothing.
    moved = scratch.with_name("f0@container.999999")
    store.check_writable()
    assert scratch.is_dir()
    worker.kill()
    worker.wait()
    moved.mkdir()
    store.check_writable()
    assert list((store.root / ".partial").iterdir()) == []


def test_claims_and_heartbeats_of_killed_runs_are_tidied_and_held_ones_kept(store: Store, start: Start) -> None:
    dead, alive = start(OWNER, store.root, "dead"), start(OWNER, store.root, "alive")
    (store.root / ".claims" / "empty").touch()
    dead.kill()
    dead.wait()
    store.check_writable()
    assert sorted(path.name for path in (store.root / ".claims").iterdir()) == ["alive", "alive@owner"]
    with store.claim("alive") as ours:
        assert not ours and alive.poll() is None


def test_a_heartbeat_is_told_from_silence(tmp_path: Path, start: Start) -> None:
    owner = start(OWNER, tmp_path, "f0")
    watch = Store(tmp_path).watch("f0")
    for _ in range(8):
        assert not watch.stalled
        time.sleep(0.3)
    owner.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    assert not watch.stalled
    time.sleep(1.6)
    assert watch.stalled
    owner.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    assert not watch.stalled
    (tmp_path / ".claims" / "f0@owner").write_text("\x1b[31mevil")
    assert watch.owner == "another process"


def test_an_unreadable_record_costs_its_own_trial_only(plan: Plan, store: Store, runs: Runs) -> None:
    fingerprint = fingerprints(plan, store)["tic"]
    broken = store.folder(fingerprint) / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    outcome = harness.run(plan, store, runner=runs)
    assert runs.settings == ["none", "l1"] and broken.read_text() == "{"
    (problem,) = outcome.problems
    assert problem.startswith(f"{broken}: not a record (") and "\n" not in problem
    assert problem in preview([plan], store).problems


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"top1": 94.1}, "top1: 94.1, expected a number from 0 to 1"),
        ({"loss": float("nan")}, "loss: nan, expected a finite number"),
        ({"config": {"stages": {1, 2}}}, "config: a set, which JSON cannot hold"),
        ({"fingerprint": "../../x"}, "fingerprint: '../../x', expected up to 64 letters"),
    ],
)
def test_a_record_that_cannot_be_valid_is_a_failed_trial(
    changes: dict[str, Any], reason: str, plan: Plan, store: Store
) -> None:
    def runner(trial: Trial, *rest: Any) -> Record:
        record = Runs()(trial, *rest)
        return replace(record, **changes) if trial.setting.name == "tic" else record

    outcome = harness.run(plan, store, runner=runner)
    assert [record.status for record in outcome.records] == ["ok", "failed", "ok"]
    assert str(outcome.records[1].error).startswith(f"the record of this trial is not valid: {reason}")
    assert len(store.records()) == 3


def test_surrogates_in_an_error_are_kept_readable(plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("caf\udce9")

    monkeypatch.setattr("bench.trials.ruler.Ruler.lab", fail)
    outcome = harness.run(plan, store)
    assert [record.error for record in outcome.records] == ["ValueError: caf\\udce9"] * 3
    assert outcome.records == store.records()
    trace = store.folder(outcome.records[0].fingerprint) / "traceback.txt"
    assert "caf\\udce9" in trace.read_text(encoding="utf-8")


def test_deleted_artifacts_are_noticed_and_the_figures_stand(
    plan: Plan, store: Store, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    def runner(trial: Trial, ruler: Ruler, folder: Path, command: str) -> Record:
        for name in ("model.safetensors", "predictions.safetensors"):
            (folder / name).touch()
        return runs(trial, ruler, folder, command)

    harness.run(plan, store, runner=runner)
    harness.run(plan, store, runner=runner)
    assert "note:" not in capsys.readouterr().err and len(runs.settings) == 3
    home = store.folder(fingerprints(plan, store)["tic"])
    (home / "model.safetensors").unlink()
    states = [trial.state for trial in preview([plan], store).trials]
    assert states == ["recorded", "recorded, without its artifact or predictions", "recorded"]
    capsys.readouterr()
    assert harness.run(plan, store, runner=runner).reused == 3 and len(runs.settings) == 3
    assert capsys.readouterr().err == (
        "note: 1 recorded trial lacks its artifact or predictions; their figures stand, and to measure one again "
        f"delete its folder, as {home}\n"
    )
    shutil.rmtree(home)
    harness.run(plan, store, runner=runner)
    assert runs.settings[3:] == ["tic"]
