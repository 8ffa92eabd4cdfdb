"""Runs that are interrupted, killed or short of disk space, and runs that share a store."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.records.record import Record
from bench.records.store import Store
from bench.trials import run as harness
from bench.trials.plan import Plan

from .small_runs import METHODS, by_method
from .small_runs import finished as finished
from .small_runs import misbehave as misbehave
from .small_runs import plan as plan
from .small_runs import ran as ran
from .small_runs import store as store
from .small_runs import words as words

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    words: list[str], bench_command: Say, misbehave: Say, ran: list[str], tmp_path: Path
) -> None:
    misbehave(KeyboardInterrupt())
    said = bench_command(*words, "misbehaves,l1(rate=0.9)")
    assert said.code == 130 and said.out == ""
    assert said.err.splitlines()[-1].startswith("bench: interrupted; ") and "Traceback" not in said.err
    assert by_method(tmp_path / "runs").keys() == {"none"}
    assert list((tmp_path / "runs" / ".partial").iterdir()) == []

    ran.clear()
    misbehave(None)
    assert bench_command(*words, "misbehaves,l1(rate=0.9)").code == 0
    assert ran == ["misbehaves", "l1(rate=0.9)"]


def test_runs_on_one_store_share_the_work(
    plan: Plan, store: Store, finished: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = by_method(store)
    tic, l1 = known["tic"].fingerprint, known["l1"].fingerprint
    shutil.rmtree(store.folder(tic))
    shutil.rmtree(store.folder(l1))
    other = store.claim(tic)

    def run_trial(*arguments: Any) -> Record:
        shutil.copytree(Store(finished).folder(tic), store.folder(tic))
        other.__exit__(None, None, None)
        return run(*arguments)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", run_trial)
    assert other.__enter__()
    outcome = harness.run(plan, store)
    assert ran == ["l1(rate=0.5)"], "the other run does the other trial"
    assert [record.method for record in outcome.records] == ["none", "tic", "l1"] and outcome.reused == 1


KILLED = """
import os, signal, sys
from bench.cli import commands as cli
from bench.measuring import rounds
from bench.trials import run

def run_trial(trial, ruler, folder, command):
    if trial.setting.name != "l1":
        return finish(trial, ruler, folder, command)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)

finish, run.run_trial, rounds.ROUNDS = run.run_trial, run_trial, 1
cli.main()
"""


def test_a_killed_run_leaves_whole_records_and_is_tidied_up_after(
    words: list[str], bench_command: Say, ran: list[str], tmp_path: Path
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, *words, METHODS], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = Store(tmp_path / "runs")
    assert by_method(store).keys() == {"none", "tic"} and len(list(store.root.glob(".partial/*/"))) == 1
    assert bench_command(*words, METHODS).code == 0
    assert ran == ["l1(rate=0.5)"] and list(store.root.glob(".partial/*")) == []
    assert len(store.records()) == 3


def test_a_disk_that_fills_up_ends_the_run_with_one_line(
    words: list[str], bench_command: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if path.name == "model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    said = bench_command(*words, "l1")
    assert said.code == 2 and "Traceback" not in said.err
    told = f"bench: store {tmp_path / 'runs'}: disk full; free some space or choose another folder with --store DIR"
    assert said.err.splitlines()[-1] == told
    assert Store(tmp_path / "runs").records() == [] and list((tmp_path / "runs" / ".partial").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_a_store_without_room_is_told(
    words: list[str], bench_command: Say, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words[words.index("--store") + 1] = str(small_disk / "runs")
    told = bench_command(*words, "l1").mistake
    assert told.startswith(f"store {small_disk / 'runs'}: 1 MB free, 50 MB needed; free some space")
    monkeypatch.setattr(harness, "NEEDED_BYTES", 0)
    said = bench_command(*words, "l1")
    assert said.code == 2 and "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith(f"bench: store {small_disk / 'runs'}: disk full; free some space")
    assert Store(small_disk / "runs").records() == [] and list((small_disk / "runs" / ".partial").iterdir()) == []
