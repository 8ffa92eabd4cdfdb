"""What the commands say: help, listings, the leaderboard of a store; and what they load for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from bench.records.record import Record
from bench.records.store import Store, write_record

Say = Callable[..., Any]


def test_version(bench_command: Say) -> None:
    assert bench_command("--version").out == f"{version('cnn-compression-bench')}\n"


def test_help(bench_command: Say) -> None:
    said = bench_command("--help")
    assert said.code == 0 and said.err == ""
    for command in ("run", "train", "list", "show", "leaderboard", "check", "sync"):
        assert re.search(rf"\b{command} +[A-Z]", said.out), command
        detail = bench_command(command, "-h")
        assert detail.code == 0 and f"Usage: bench {command} " in detail.out
    assert bench_command().code == 2


def imported(*words: str, cwd: Path | None = None) -> set[str]:
    """The heavy libraries that a command has loaded when it ends."""
    code = f"""
import atexit, sys
heavy = {{"torch", "timm", "torchvision", "mlflow", "pandas", "pytorchcv", "numpy"}}
atexit.register(lambda: print(*sorted(heavy & set(sys.modules)), file=sys.stderr))
sys.argv = ["bench", *{words!r}]
from bench.cli.commands import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=cwd)
    return set(ended.stderr.split())


def test_help_loads_nothing_heavy() -> None:
    assert imported("--help") == set()
    assert imported("run", "--help") == set()


def test_the_leaderboard_needs_no_torch(store: Store) -> None:
    assert imported("leaderboard", "--store", str(store.root)) & {"torch", "timm", "mlflow"} == set()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    for setting, top1, ratio in (("none", 0.9, 1.0), ("tic(k=64)", 0.88, 12.5)):
        with store.prepare(setting[:3]) as folder:
            write_record(make_record(setting, top1=top1, compression_ratio=ratio), folder)
    return store


def make_record(setting: str, **figures: Any) -> Record:
    return Record(
        fingerprint=setting[:3],
        status="ok",
        method=setting.split("(")[0],
        setting=setting,
        model="resnet20",
        dataset="fashion-mnist",
        weights="scratch",
        seed=0,
        budget_epochs=1,
        device="cpu",
        started_at="2026-01-01T00:00:00+00:00",
        **figures,
    )


def test_the_leaderboard_of_a_store(store: Store, bench_command: Say) -> None:
    table = bench_command("leaderboard", "--store", store.root)
    assert table.code == 0 and re.search(r"dense +90\.00 .* 1\.00×", table.out)
    assert re.search(r"tic\(k=64\) +88\.00 .* 12\.50×", table.out)
    rows = json.loads(bench_command("leaderboard", "--store", store.root, "--format", "json").out)
    assert [(row["setting"], row["top1"], row["pareto"]) for row in rows] == [
        ("none", 0.9, True), ("tic(k=64)", 0.88, True),
    ]  # fmt: skip


def test_the_leaderboard_is_written_where_it_is_asked_to(store: Store, bench_command: Say, tmp_path: Path) -> None:
    import pandas

    words = ["leaderboard", "--store", store.root, "--format"]
    for form in ("table", "md", "csv", "json"):
        said = bench_command(*words, form, "--out", tmp_path / "boards" / form)
        assert (said.code, said.out, said.err) == (0, "", "")
        assert (tmp_path / "boards" / form).read_text() == bench_command(*words, form).out
    assert bench_command(*words, "parquet", "--out", tmp_path / "board.parquet").code == 0
    assert list(pandas.read_parquet(tmp_path / "board.parquet")["setting"]) == ["none", "tic(k=64)"]
    said = bench_command(*words, "html", "--out", tmp_path / "site")
    assert said.err == f"open {tmp_path / 'site' / 'index.html'}\n"
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.parametrize("form", ["html", "parquet"])
def test_what_a_terminal_cannot_show_needs_a_place(form: str, store: Store, bench_command: Say, tmp_path: Path) -> None:
    words = ["leaderboard", "--store", store.root, "--format", form]
    assert bench_command(*words).mistake == f"--format {form}: needs a place to write to, --out PATH"
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in bench_command(*words, "--out", tmp_path / "file" / "board").mistake
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_store_is_no_mistake(tmp_path: Path, bench_command: Say) -> None:
    (tmp_path / "runs").mkdir()
    said = bench_command("leaderboard", "--store", tmp_path / "runs")
    assert (said.code, said.out) == (0, "No records yet: `bench run` makes some.\n")
    assert bench_command("leaderboard", "--store", tmp_path / "runs", "--format", "json").out == "[]\n"


def test_sync_counts_what_it_delivered(store: Store, bench_command: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    import bench.tracking

    class Tracker:
        def __init__(self, root: Path) -> None:
            assert root == store.root

        def sync(self, found: Store) -> int:
            return len(found.records())

    monkeypatch.setattr(bench.tracking, "Tracker", Tracker)
    assert bench_command("sync", "--store", store.root).out == "2 records delivered\n"


def test_listings(bench_command: Say) -> None:
    methods = bench_command("list", "methods").out
    assert re.search(r"^tic +Lets spatial kernels share a codebook.* Son, Nah, Lee: Clustering", methods, re.M)
    assert all(re.search(rf"^{name} ", methods, re.M) for name in ("kse", "l1", "none", "random", "tic"))
    datasets = bench_command("list", "datasets").out
    assert all(re.search(rf"^{name} ", datasets, re.M) for name in ("fashion-mnist", "folder", "imagenet"))
    models = bench_command("list", "models", "--match", "resnet20").out
    assert re.search(r"^resnet20 +this project$", models, re.M)
    assert re.search(r"^resnet20_cifar10 +pytorchcv", models, re.M) and "resnet50" not in models
    assert re.search(r"^resnet50 +timm", bench_command("list", "models", "--match", "resnet50").out, re.M)
    assert max(map(len, (methods + datasets).splitlines())) > 90, "a pipe is 100 columns wide"


def test_a_method_is_shown_with_its_paper_and_its_options(bench_command: Say) -> None:
    shown = bench_command("show", "tic").out
    assert "Paper: Son, Nah, Lee: Clustering Convolutional Kernels to Compress Deep Neural Networks, ECCV 2018" in shown
    assert re.search(r"^k +int >= 1 +64 +kernels in a codebook", shown, re.M)
    assert re.search(r"^transforms +1 \| 2 \| 4 \| 8 +8 +1: none, 2: horizontal flip", shown, re.M)
    assert re.search(r"^codebook +text +'network' +what shares one", shown, re.M)
    assert re.search(r"^period +int >= 1, or none +None", bench_command("show", "dynamic").out, re.M)
    assert re.search(r"^of +setting +l1 ", bench_command("show", "scratch").out, re.M)
    assert re.search(r"^rate +float >= 0 and < 1 +0\.5 ", bench_command("show", "l1").out, re.M)
    assert re.search(r"^train +bool +False ", bench_command("show", "none").out, re.M)
