"""Timing alone: one process at a time, and what others do meanwhile is seen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest
import torch
from torch import Tensor, nn

from bench.measuring import exclusive
from bench.measuring.exclusive import alone, making_way
from bench.measuring.latency import time_beside
from bench.measuring.load import Usage
from bench.records import claims
from bench.records.claims import Claims
from bench.system.clock import working_seconds
from bench.system.progress import bar

RUN = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from bench.cli import commands as cli
from bench.measuring import exclusive, latency
from bench.trials import ruler

folder, me, other = Path(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1)

def measure():
    began = time.monotonic()
    time.sleep(0.3)
    with (folder / f"{me}.windows").open("a") as file:
        file.write(f"{began} {time.monotonic()}\\n")

def time_beside(model, dense, images, disturbed):
    assert not disturbed, disturbed
    measure()
    return latency.judged(len(images), np.ones((10, 4)), 0.0)

def peak_memory_mb(*_):
    measure()
    return 12.5

@contextmanager
def together():
    (folder / me).touch()
    while not (folder / other).exists():
        time.sleep(0.01)
    with exclusive.alone() as disturbed:
        yield disturbed

ruler.time_beside, ruler.alone, ruler.saturating_batch = time_beside, together, lambda *_: 2
ruler.peak_memory_mb = peak_memory_mb
cli.main()
"""


def test_two_runs_on_two_stores_never_time_at_once(image_folder: Path, tmp_path: Path) -> None:
    """Both wait for each other in front of the lock, so that without it their windows would be the same."""
    options = f"--methods none,l1 --weights scratch --epochs 0 --no-tracking --dataset folder:{image_folder}"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                RUN,
                tmp_path,
                me,
                other,
                "run",
                *options.split(),
                "--store",
                tmp_path / f"runs-{me}",
            ],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for me, other in (("one", "two"), ("two", "one"))
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    windows = sorted(
        tuple(map(float, line.split()))
        for me in ("one", "two")
        for line in (tmp_path / f"{me}.windows").read_text().splitlines()
    )
    assert len(windows) == 12, "each process measures two trials: two batch sizes, and memory"
    assert all(end <= began for (_, end), (began, _) in zip(windows, windows[1:], strict=False))
    assert any("waiting to time: process" in text for text in said)


@pytest.fixture
def held(own_lock: Path) -> Iterator[None]:
    """Another process holds the lock."""
    with Claims(own_lock).take(exclusive.NAME) as ours:
        assert ours
        yield


def test_the_lock_is_free_again_afterwards(own_lock: Path) -> None:
    for _ in range(2):
        with alone() as disturbed:
            assert disturbed == ""
            with Claims(own_lock).take(exclusive.NAME) as ours:
                assert not ours


def test_waiting_is_told_once_and_ends(own_lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(exclusive, "say", told.append)
    monkeypatch.setattr(exclusive, "POLL_SECONDS", 0.01)
    other = Claims(own_lock).take(exclusive.NAME)
    assert other.__enter__()
    Timer(0.3, other.__exit__, (None, None, None)).start()
    with alone() as disturbed:
        assert disturbed == ""
    assert len(told) == 1 and told[0].startswith(f"waiting to time: process {os.getpid()} on ")


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(("module", "limit"), [(claims, "STALLED_SECONDS"), (exclusive, "LONGEST_WAIT_SECONDS")])
def test_a_suspended_holder_does_not_stop_others(module: object, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 0.1)
    with alone() as disturbed:
        assert disturbed.startswith(f"process {os.getpid()} on ") and "did not end its timing" in disturbed


def test_work_pauses_while_another_process_times_and_the_pause_does_not_count(own_lock: Path) -> None:
    other = Claims(own_lock).take(exclusive.NAME)
    with making_way(), bar("working", 3) as advance:
        advance(1)
        time.sleep(exclusive.LOOK_SECONDS)
        assert other.__enter__()
        Timer(0.5, other.__exit__, (None, None, None)).start()
        began, worked = time.monotonic(), working_seconds()
        advance(1)
        assert time.monotonic() - began >= 0.4
        assert working_seconds() - worked < 0.2
        advance(1)
    assert not list(own_lock.iterdir()), "a look leaves nothing behind"


def test_outside_of_it_and_for_its_own_timing_nobody_waits(own_lock: Path) -> None:
    began = time.monotonic()
    with making_way(), alone(), bar("timing", 1) as advance:
        advance(1)
    with Claims(own_lock).take(exclusive.NAME), bar("working", 1) as advance:
        advance(1)
    assert time.monotonic() - began < 5, "a holder that beats would be waited for for minutes"


def test_nobody_waits_for_a_process_that_was_killed_while_it_timed(own_lock: Path) -> None:
    own_lock.mkdir(exist_ok=True)
    code = (
        "import time, sys; from pathlib import Path; from bench.records.claims import Claims\n"
        f"with Claims(Path({str(own_lock)!r})).take('timing'): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    assert list(own_lock.iterdir()), "its files are still there"
    with making_way(), bar("working", 1) as advance:
        began = time.monotonic()
        advance(1)
        assert time.monotonic() - began < 5
    assert not list(own_lock.glob("*@owner"))


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(("module", "limit"), [(claims, "STALLED_SECONDS"), (exclusive, "LONGEST_WAIT_SECONDS")])
def test_a_suspended_holder_is_waited_for_once(module: object, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 0.2)
    with making_way(), bar("working", 2) as advance:
        began = time.monotonic()
        advance(1)
        waited = time.monotonic() - began
        time.sleep(exclusive.LOOK_SECONDS)
        began = time.monotonic()
        advance(1)
        assert waited >= 0.2 > time.monotonic() - began


def test_a_folder_that_cannot_be_used_is_a_reason(own_lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_lock.write_text("a file")
    with alone() as disturbed:
        assert disturbed.startswith(f"no lock in {own_lock}: ")
    with making_way(), bar("working", 1) as advance:
        advance(1)
    own_lock.unlink()
    own_lock.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: own_lock.stat().st_uid + 1)
    with alone() as disturbed:
        assert disturbed == f"no lock in {own_lock}: the folder belongs to another user"


def test_the_lock_lies_in_no_store_and_belongs_to_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    assert exclusive.lock_folder().name == f"cnn-compression-bench-{os.getuid()}"


def test_the_share_of_others_by_hand() -> None:
    before, after = Usage(at=0, everything=10, ours=1, cores=2), Usage(at=10, everything=20, ours=5, cores=2)
    assert after.others_since(before) == pytest.approx((10 - 4) / 20)
    assert before.others_since(before) == 0
    assert Usage(10, 13, 5, 2).others_since(before) == 0  # the system counts in steps


class Sleeps(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.01)
        return images


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot choose the core to run on")
def test_a_busy_process_on_the_same_core_makes_a_timing_noisy() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        timing = time_beside(Sleeps(), Sleeps(), torch.zeros(1, 1, 1, 1))
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, allowed)
    assert timing.other_load > 0.1
    assert any("of the processor" in reason for reason in timing.noise)
