"""How long people wait for a command, beside what it cannot be quicker than, or a plain version: `tox -e bench`.

Processes are timed by the processor time of the processes that a benchmark starts. The caches are warm, as they are
from the second call on.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.plugins.setting import parse, with_dense
from bench.records.store import RECORD, Store
from bench.trials.plan import Plan
from bench.trials.preview import preview
from bench.trials.trial import Trial

COMMITTED = Path(__file__).parents[2] / "results" / "fashion-mnist" / "records"
BENCH = (sys.executable, "-c", "from bench.cli.commands import main; main()")
SWEEP = "l1(rate=0.001..0.999/0.001)"
"""Settings of which a thousand trials are planned."""


def of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def call(cache: Path) -> Callable[..., None]:
    def call(*words: object) -> None:
        subprocess.run(
            [*map(str, words)], env=os.environ | {"BENCH_CACHE": str(cache)}, capture_output=True, check=True
        )

    return call


def timed(benchmark: BenchmarkFixture, call: Callable[..., None], *words: object, rounds: int = 5) -> None:
    benchmark.pedantic(call, args=words, rounds=rounds, warmup_rounds=1)


COMMANDS = {
    "--help": pytest.param(("--help",), marks=pytest.mark.benchmark(group="bench --help")),
    "list": pytest.param(("list", "methods"), marks=pytest.mark.benchmark(group="bench list methods")),
    "show": pytest.param(("show", "tic"), marks=pytest.mark.benchmark(group="bench show tic")),
}


@pytest.mark.benchmark(timer=of_children)
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
class TestStarting:
    def test_command(self, benchmark: BenchmarkFixture, call: Callable[..., None], words: tuple[str, ...]) -> None:
        benchmark.extra_info["ours"] = True
        timed(benchmark, call, *BENCH, *words)

    def test_an_empty_python(self, benchmark: BenchmarkFixture, call: Callable[..., None], words: object) -> None:
        timed(benchmark, call, sys.executable, "-c", "pass")

    def test_importing_torch(self, benchmark: BenchmarkFixture, call: Callable[..., None], words: object) -> None:
        timed(benchmark, call, sys.executable, "-c", "import torch", rounds=3)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """9,990 records: 10 networks, 333 settings, 3 seeds; without predictions and tables."""
    store, pattern = tmp_path_factory.mktemp("large"), json.loads((next(COMMITTED.iterdir()) / RECORD).read_text())
    for number in range(9_990):
        network, seed, place = number % 10, number // 10 % 3, number // 30
        method = ("tic", "kse", "l1", "magnitude")[place % 4] if place else "none"
        setting = f"{method}(rate={place / 333:.4f})" if place else "none"
        top1 = 0.94 - (number * 7919 % 4001) / 10_000
        record = pattern | {
            "fingerprint": f"{number:016x}",
            "model": f"network{network}",
            "method": method,
            "setting": setting,
            "seed": seed,
            "top1": top1,
            "top1_drop": 0.94 - top1,
            "compression_ratio": 1 + place * (1 + number * 104729 % 97 / 1000) / 10,
        }
        record["config"] = pattern["config"] | {"family": method, "stages": [{"method": method, "rate": place / 333}]}
        folder = store / "records" / str(record["fingerprint"])
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(record, indent=2))
        os.utime(folder / RECORD, (1, 1))
    return store


PLAIN_MEANS = """
import json, pathlib, sys, pandas
files = pathlib.Path(sys.argv[1]).glob("records/*/record.json")
records = pandas.DataFrame([json.loads(file.read_text()) for file in files])
print(records.groupby(["model", "dataset", "weights", "setting"]).mean(numeric_only=True))
"""
"""What one would write first: parse every file, and take means over the seeds."""


BOARDS = {
    "table": pytest.param((), marks=pytest.mark.benchmark(group="the table of 9,990 records")),
    "page": pytest.param(("--format", "html"), marks=pytest.mark.benchmark(group="the page of 9,990 records")),
}


@pytest.mark.benchmark(timer=of_children)
@pytest.mark.parametrize("format", BOARDS.values(), ids=BOARDS)
class TestLargeBoard:
    def test_leaderboard(
        self,
        benchmark: BenchmarkFixture,
        call: Callable[..., None],
        large: Path,
        tmp_path: Path,
        format: tuple[str, ...],
    ) -> None:
        benchmark.extra_info["ours"] = True
        place = ("--out", tmp_path / "site") if format else ()
        timed(benchmark, call, *BENCH, "leaderboard", "--store", large, *format, *place, rounds=3)

    def test_plain_means(
        self, benchmark: BenchmarkFixture, call: Callable[..., None], large: Path, format: tuple[str, ...]
    ) -> None:
        timed(benchmark, call, sys.executable, "-c", PLAIN_MEANS, large, rounds=3)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(settings=with_dense(parse(SWEEP)), models=["resnet20"])


@pytest.mark.benchmark(group="1,000 trials planned")
class TestPlanning:
    def test_preview(self, benchmark: BenchmarkFixture, plan: Plan, tmp_path: Path) -> None:
        benchmark.extra_info["ours"] = True
        found = benchmark.pedantic(lambda: preview([plan], Store(tmp_path)), rounds=3, warmup_rounds=1)
        assert len(found.trials) == 1_000

    def test_reading_the_settings(self, benchmark: BenchmarkFixture) -> None:
        benchmark.pedantic(lambda: parse(SWEEP), rounds=3, warmup_rounds=1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the trials of `SECOND` are recorded, without having been run."""
    from bench.system.environment import select_device
    from bench.trials.plan import open_plans

    store = Store(tmp_path_factory.mktemp("recorded"))
    settings = with_dense(parse("tic(k=64),l1"))
    (part,) = open_plans([Plan(settings=settings, models=["resnet20"], device=select_device("auto"))])
    for trial in part.trials:
        keep(trial, store)
    return store.root


def keep(trial: Trial, store: Store) -> None:
    pattern = json.loads((next(COMMITTED.iterdir()) / RECORD).read_text())
    known = {name: value for name, value in vars(trial.blank("")).items() if value not in (None, "failed", [])}
    folder = store.folder(trial.fingerprint)
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(pattern | known, default=str))


@pytest.mark.benchmark(group="the second run of what is recorded", timer=of_children)
class TestSecondRun:
    def test_run(self, benchmark: BenchmarkFixture, call: Callable[..., None], recorded: Path) -> None:
        benchmark.extra_info["ours"] = True
        words = ("run", "--methods", "tic(k=64),l1", "--store", recorded)
        timed(benchmark, call, *BENCH, *words, rounds=3)

    def test_importing_torch_and_pandas(self, benchmark: BenchmarkFixture, call: Callable[..., None]) -> None:
        timed(benchmark, call, sys.executable, "-c", "import torch, pandas", rounds=3)
