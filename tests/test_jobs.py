"""`bench run --jobs N`: the same records as without it, whatever happens to one of the processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records.record import Record
from bench.records.store import Store
from bench.trials.processes import own_gpu
from tests.waiting import until

BENCH = """
from bench.cli.commands import main
from bench.execution import choice
from bench.measuring import latency, rounds

rounds.ROUNDS = rounds.WARM_UP_ROUNDS = choice.WARM_UP_ROUNDS = 1
choice.LOOKS, latency.LARGEST_BATCH, latency.Timing.noise = (6,), 2, []
if __name__ == "__main__":
    main()
"""
"""The program, with latencies of a few rounds; the processes that it starts run the file, too."""
SAME = ("top1", "loss", "agreement", "artifact_bytes", "compression_ratio", "macs", "params", "epochs_spent", "device")
NETWORKS = """
import multiprocessing, os, signal
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, num_classes, in_chans=3):
        layers = [nn.Conv2d(in_chans, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Linear(8, num_classes))

class Deadly(Tiny):
    def forward(self, images):
        if multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)
"""


@pytest.fixture
def command(image_folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    images = tmp_path / "ramps"
    shutil.copytree(image_folder, images)
    doubled = next((images / "test" / "up").iterdir())
    shutil.copy(doubled, images / "train" / "up" / f"doubled{doubled.suffix}")  # which is warned of, once
    (tmp_path / "nets.py").write_text(NETWORKS)
    (tmp_path / "program.py").write_text(BENCH)

    def words(methods: str, *more: str, store: str = "runs", models: str = "Tiny") -> list[str]:
        models = ",".join(f"{tmp_path / 'nets.py'}:{name}" for name in models.split(","))
        given = [
            "--methods",
            methods,
            "--models",
            models,
            "--dataset",
            f"folder:{images}",
            "--weights",
            "scratch",
        ]
        return [
            sys.executable,
            str(tmp_path / "program.py"),
            "run",
            *given,
            "--epochs",
            "0",
            "--no-tracking",
            "--store",
            str(tmp_path / store),
            *more,
        ]

    return words


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "2", "TMPDIR": str(tmp_path), "BENCH_CACHE": str(tmp_path / "cache")}


def records(folder: Path) -> dict[str, Record]:
    return {f"{record.setting} {record.seed}": record for record in Store(folder).records()}


def children_of(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(word) for word in listed.read_text().split()] if listed.exists() else []


def alive(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_the_records_are_those_of_one_process(
    command: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    methods = "none,quantize(bits=4),random(rate=0.3),l1(rate=0.3, skip=99)"
    done = subprocess.run(
        command(methods, "--jobs", "2", "--seeds", "2"), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("warning: ramps: 1 test image") == 1 and "UserWarning" not in done.stderr, done.stderr
    ours = records(tmp_path / "runs")
    assert len(ours) == 1 + 3 * 2 and sum(record.status == "ok" for record in ours.values()) == 5
    assert done.stderr.count("matches no layer") == 2, "a failed trial is not tried again by the next process"
    assert "Tiny on" in done.stdout and "random(rate=0.3)" in done.stdout
    again = subprocess.run(
        command(methods.rpartition(",l1")[0], "--jobs", "2", "--seeds", "2"),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0 and "5 of 5 trials were recorded before" in again.stderr, again.stderr
    alone = subprocess.run(
        command("none,random(rate=0.3)", "--seeds", "2", store="alone"),
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert alone.returncode == 0, alone.stderr
    for name, record in records(tmp_path / "alone").items():
        assert record.fingerprint == ours[name].fingerprint
        assert all(getattr(record, field) == getattr(ours[name], field) for field in SAME), name


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_trial_with_it(
    command: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    words = command("none,quantize(bits=8)", "--jobs", "2", models="Deadly,Tiny")
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("its process was ended from outside, perhaps for lack of memory") >= 2
    kept = Store(tmp_path / "runs").records()
    assert sorted(record.setting for record in kept) == ["none", "quantize(bits=8)"]
    assert all(record.model.endswith(":Tiny") for record in kept) and all(record.status == "ok" for record in kept)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_run_is_the_end_of_its_processes(
    signalled: signal.Signals, command: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path
) -> None:
    words = command("l1(rate=0.1),none,quantize(bits=8)", "--jobs", "2")
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        workers = until(lambda: [child for child in children_of(process.pid) if alive(child)][1:])
        process.send_signal(signalled)
        said = process.communicate()[1]
    assert process.returncode == (130 if signalled == signal.SIGINT else -signal.SIGKILL)
    assert signalled == signal.SIGKILL or "Traceback" not in said
    until(lambda: not any(alive(child) for child in workers), 15)
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and len(records(tmp_path / "runs")) == 3, again.stderr


@pytest.mark.parametrize(
    ("visible", "count", "gpus"),
    [
        (None, 0, [None, None, None]),
        (None, 1, [None, None, None]),
        (None, 2, ["0", "1", "0"]),
        ("3,5", 2, ["3", "5", "3"]),
        ("GPU-a,GPU-b,GPU-c", 3, ["GPU-a", "GPU-b", "GPU-c"]),
        ("7", 1, [None, None, None]),
        ("", 0, [None, None, None]),
    ],
)
def test_of_several_gpus_each_process_gets_one(visible: str | None, count: int, gpus: list[str | None]) -> None:
    assert [own_gpu(number, visible, count) for number in range(3)] == gpus


def test_no_jobs_are_one_line(command: Callable[..., list[str]], environment: dict[str, str]) -> None:
    done = subprocess.run(command("none", "--jobs", "0"), env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--jobs 0" in done.stderr
