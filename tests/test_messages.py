"""`--quiet`, `--verbose` and the log in the store; options that are given twice; the width of tables."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.records.store import Store
from bench.system import messages
from bench.system.messages import LOG, Loudness, log, log_to, set_loudness
from bench.system.progress import bar, detail, say

from .test_cli_output import store as store

Say = Callable[..., Any]
RUN = ("run", "--methods", "magnitude(rate=0.5)", "--models", "test_resnet.r160_in1k", "--epochs", 0, "--no-tracking")


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(messages.VARIABLE, "normal")
    yield
    messages._log.path = None


@pytest.fixture
def run(bench_command: Say, image_folder: Path, tmp_path: Path) -> Say:
    return lambda *words: bench_command(
        *words, *RUN, "--dataset", f"folder:{image_folder}", "--weights", "scratch", "--store", tmp_path / "runs"
    )


def lines_of(log: Path) -> list[str]:
    lines = log.read_text().splitlines()
    assert all(re.match(rf"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}\+00:00 {os.getpid()} ", line) for line in lines)
    return [line.split(" ", 2)[2] for line in lines]


def test_quiet_says_nothing_but_the_board_and_the_log_has_everything(run: Say, tmp_path: Path) -> None:
    said = run("--quiet")
    assert said.code == 0 and said.err == "" and "magnitude" in said.out
    first, *rest = lines_of(tmp_path / "runs" / LOG)
    assert first.startswith("bench --quiet run --methods 'magnitude(rate=0.5)'")
    assert any("magnitude(rate=0.5), seed 0, 0 epochs" in line for line in rest)
    assert rest[-1] == f"records in {tmp_path / 'runs'}"


def test_verbose_tells_what_a_trial_does_and_where_its_record_is(run: Say, tmp_path: Path) -> None:
    said = run("-v")
    assert said.code == 0 and f"the record will be in {tmp_path / 'runs' / 'records'}" in said.err
    assert re.search(r"compressed in \d.* s, .* for 0 epochs; measuring", said.err)
    assert re.search(r"ok after \d+\.\d s; top-1 .*; size .*×; latency .*×", said.err)
    normal = run()
    assert "ok after" not in normal.err and "compressed in" not in normal.err


def test_errors_are_said_in_any_case(bench_command: Say) -> None:
    for words in (["--quiet", "show", "tci"], ["show", "tci", "-q"]):
        assert "there is no method 'tci'" in bench_command(*words).mistake
    told = bench_command("--verbose", "show", "tci")
    assert told.code == 2 and re.search(r"bench: raised in .*listing\.py, line \d+, show_method", told.err)


def test_quiet_with_verbose_is_a_mistake(bench_command: Say) -> None:
    assert "--quiet with --verbose: use one of the two" in bench_command("list", "methods", "-q", "-v").mistake


def test_no_warning_and_no_bar_in_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    set_loudness(Loudness.quiet)
    with bar("work", 2) as advance:
        advance(1)
        say("warning: something")
        detail("more")
        say("failed: tic: it did not work")
    assert capsys.readouterr().err == "failed: tic: it did not work\n"


def write_many(path: Path, number: int) -> None:
    log_to(path, "")
    for _ in range(200):
        log(f"{number} " * 50)


def test_several_processes_share_a_log(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_many, args=(tmp_path / LOG, number)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (tmp_path / LOG).read_text().splitlines()
    assert len(lines) == 600 and all(len(set(line.split()[2:])) == 1 for line in lines)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "missing"])
def test_a_log_that_cannot_be_written_does_no_harm(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "store" / LOG
    if kind != "missing":
        path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    log_to(path, "bench run")
    log("a line")
    assert not (tmp_path / "elsewhere").exists()


def test_reading_a_store_writes_no_log(bench_command: Say, store: Store) -> None:
    bench_command("leaderboard", "--store", store.root)
    assert not (store.root / LOG).exists()


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("leaderboard", "--store", "a", "--store", "b"), "--store"),
        (("leaderboard", "--store=a", "--store", "a"), "--store"),
        (("run", "--methods", "tic", "--epochs", 1, "--epochs", 2), "--epochs"),
        (("run", "--methods", "tic", "--recalibrate", "--no-recalibrate"), "--recalibrate/--no-recalibrate"),
    ],
)
def test_an_option_that_is_given_twice_is_a_mistake(bench_command: Say, words: tuple[Any, ...], option: str) -> None:
    assert bench_command(*words, exactly=True).mistake == f"{option} is given twice; see `bench {words[0]} --help`"


def test_lists_and_switches_may_be_repeated(bench_command: Say, store: Store) -> None:
    words = ("leaderboard", "--store", store.root, "--min", "top1=80", "--min", "size=1", "--front", "--front")
    assert bench_command(*words).code == 0


@pytest.mark.parametrize("columns", [30, 60, 160])
def test_columns_sets_the_width_of_tables(
    bench_command: Say, store: Store, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    words: list[tuple[Any, ...]] = [("leaderboard", "--store", store.root), ("list", "methods"), ("list", "models")]
    usual = [bench_command(*each).out for each in words]
    monkeypatch.setenv("COLUMNS", str(columns))
    for each, before in zip(words, usual, strict=True):
        shown = bench_command(*each).out
        assert max(map(len, shown.splitlines())) <= columns
        assert columns > 30 or shown != before
    monkeypatch.setenv("COLUMNS", "many")
    assert bench_command(*words[0]).out == usual[0]
