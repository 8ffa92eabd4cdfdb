"""A run that is killed in the middle of a trial: the same command goes on there, to the same record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records.record import Record
from bench.records.store import Store
from bench.training import loop, resuming
from bench.trials import trial as trials

from .small_runs import words as words

Say = Callable[..., Any]
SAME = ("top1", "loss", "agreement", "artifact_bytes", "compression_ratio", "macs", "epochs_spent", "norm_statistics")
FILES = ("model.safetensors", "predictions.safetensors")

BENCH = """
import os, signal, sys
from bench.cli.commands import main
from bench.execution import choice
from bench.measuring import latency, rounds
from bench.training import loop, resuming

rounds.ROUNDS = rounds.WARM_UP_ROUNDS = choice.WARM_UP_ROUNDS = 1
choice.LOOKS, latency.LARGEST_BATCH, latency.Timing.noise = (6,), 2, []
resuming.SECONDS, schedule, updates = 0.0, loop.one_cycle, 0

def one_cycle(progress):
    global updates
    updates += 1
    if updates == int(os.environ["KILLED_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return schedule(progress)

loop.one_cycle = one_cycle
if __name__ == "__main__":
    main()
"""
"""The program with latencies of a few rounds and a checkpoint after every update, which kills itself at one of them."""


def settled(folder: Path) -> Record:
    """The one record beside that of the dense network."""
    (record,) = (record for record in Store(folder).records() if record.method != "none")
    return record


def assert_same(ours: Path, theirs: Path) -> None:
    mine, other = settled(ours), settled(theirs)
    assert mine.status == other.status == "ok" and mine.fingerprint == other.fingerprint
    assert all(getattr(mine, field) == getattr(other, field) for field in SAME)
    for name in FILES:
        paths = (Store(store).folder(mine.fingerprint) / name for store in (ours, theirs))
        assert len({path.read_bytes() for path in paths}) == 1, name


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Interrupt the training at an update, 0 for none; the list counts the updates."""
    schedule = loop.one_cycle
    monkeypatch.setattr(resuming, "SECONDS", 0.0)

    def ask(update: int) -> list[int]:
        made = [0]

        def one_cycle(progress: float) -> float:
            made[0] += 1
            if made[0] == update:
                raise KeyboardInterrupt
            return schedule(progress)

        monkeypatch.setattr(loop, "one_cycle", one_cycle)
        return made

    return ask


@pytest.fixture
def command(words: list[str], image_folder: Path) -> Callable[..., list[Any]]:
    """The command for twelve passes of one update, with a store of its own."""

    def make(store: Path, method: str) -> list[Any]:
        given = list(words)
        given[given.index("--store") + 1], given[given.index("--epochs") + 1] = str(store), "12"
        return [*given, method]

    return make


@pytest.mark.usefixtures("quick_timing")
def test_an_interrupted_trial_goes_on_and_says_so(
    command: Any, bench_command: Say, killed_at: Any, tmp_path: Path
) -> None:
    made = killed_at(0)
    assert bench_command(*command(tmp_path / "whole", "dynamic")).code == 0
    (whole,) = made
    killed_at(whole - 1)
    assert bench_command(*command(tmp_path / "runs", "dynamic")).code == 130
    store = Store(tmp_path / "runs")
    (folder,) = (store.root / ".checkpoints").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["1.safetensors", "2-unfinished.safetensors"]

    made = killed_at(0)
    said = bench_command(*command(store.root, "dynamic"))
    assert said.code == 0 and made == [2]
    told = [line for line in said.err.splitlines() if "going on from a checkpoint" in line]
    assert len(told) == 1 and told[0].endswith(" epochs of training") and "dynamic" in told[0]
    assert_same(store.root, tmp_path / "whole")
    assert not (store.root / ".checkpoints").exists()
    record = settled(store.root)
    assert [note for note in record.notes if note.startswith("resumed after ")]
    assert not [note for note in settled(tmp_path / "whole").notes if note.startswith("resumed")]
    assert record.fit_seconds and record.compress_seconds is not None and record.compress_seconds >= 0
    assert record.duration_seconds and record.duration_seconds >= record.fit_seconds


@pytest.mark.usefixtures("quick_timing")
def test_time_of_earlier_attempts_counts(
    command: Any, bench_command: Say, killed_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(8)
    bench_command(*command(tmp_path / "runs", "l1"))
    load = resuming.Checkpoints.resumed
    monkeypatch.setattr(resuming.Checkpoints, "resumed", lambda kept, passes, seconds: load(kept, passes, 1000.0))
    killed_at(0)
    bench_command(*command(tmp_path / "runs", "l1"))
    record = settled(tmp_path / "runs")
    assert record.duration_seconds and record.duration_seconds > 1000


@pytest.mark.usefixtures("quick_timing")
def test_checkpoints_of_other_code_are_not_used(
    command: Any, bench_command: Say, killed_at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(6)
    assert bench_command(*command(tmp_path / "runs", "l1")).code == 130
    monkeypatch.setattr(trials, "harness_digest", lambda: "another")
    made = killed_at(0)
    said = bench_command(*command(tmp_path / "runs", "l1"))
    assert said.code == 0 and made[0] > 6
    assert said.err.count("other code or another machine wrote it; the training starts anew") == 1
    assert not [note for note in settled(tmp_path / "runs").notes if note.startswith("resumed")]
    assert not (tmp_path / "runs" / ".checkpoints").exists()


@pytest.mark.usefixtures("quick_timing")
def test_checkpoints_that_a_kill_left_beside_their_record_are_tidied_up(
    command: Any, bench_command: Say, killed_at: Any, tmp_path: Path
) -> None:
    killed_at(0)
    assert bench_command(*command(tmp_path / "runs", "random")).code == 0
    store = Store(tmp_path / "runs")
    for name in (settled(store.root).fingerprint, "0123456789abcdef"):
        store.checkpoints(name).mkdir(parents=True)
    store.check_writable()
    assert [path.name for path in (store.root / ".checkpoints").iterdir()] == ["0123456789abcdef"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]])
@pytest.mark.parametrize("setting", ["taylor(steps=3)", "dynamic(period=1)"])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(
    setting: str, jobs: list[str], command: Any, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text(BENCH)

    def start(store: str, update: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(tmp_path / "program.py"), *map(str, command(tmp_path / store, setting)), *jobs]
        environment = os.environ | {"KILLED_AT": str(update), "TMPDIR": str(tmp_path)}
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    assert start("whole", 0).returncode == 0
    killed = start("runs", 5)  # a process of --jobs that dies is replaced, and its trial goes on in the same run
    assert killed.returncode == (1 if jobs else -signal.SIGKILL), killed.stderr
    done = start("runs", 0)
    assert done.returncode == 0, done.stderr
    assert "going on from a checkpoint" in done.stderr
    assert_same(tmp_path / "runs", tmp_path / "whole")
