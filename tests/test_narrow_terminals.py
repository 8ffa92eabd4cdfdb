"""Every table that a command prints, at 60, 80 and 100 columns: nothing is cut, and no short word is broken."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import RenderableType

from bench.cli.listing import flowing
from bench.leaderboard.compare import compare
from bench.leaderboard.comparison_text import render_comparison
from bench.reproducing.beside import Beside
from bench.reproducing.counting import Counted
from bench.reproducing.report import beside_table, counted_table
from bench.search.find import TWO_SEEDS, Found, in_words
from bench.search.goal import goal_of
from bench.search.verdict import Answer, Interval
from bench.system.grid import BREAKS
from bench.system.terminal import Screen
from bench.trials.run import Outcome
from bench.verifying.findings import Finding, Verdict, Verification
from bench.verifying.report import to_text
from tests.conftest import Said

ROOT = Path(__file__).parents[1]
STORE = ROOT / "results" / "fashion-mnist"
WIDTHS = (60, 80, 100)
LONG = "l1(rates='1-19=0.6,20-37=0.3,38-55=0.1', skip=(16, 18, 20, 34, 38, 54))"


def parts(text: str) -> set[str]:
    """The words of a text and the parts of its settings; a line may end after any of these."""
    signs = re.escape("".join(BREAKS))
    return {part for word in text.split() for part in re.findall(rf"[^{signs}]+", word)} - {"─"}


def is_rule(part: str) -> bool:
    return set(part) <= set("─;:")


def check(wide: str, narrow: str, width: int, name: str = "") -> None:
    """`name`: the header that paragraphs do without, since they begin with what is below it."""
    assert max(map(len, narrow.splitlines())) <= width and "…" not in narrow
    lost = {part.strip(";:") for part in parts(wide)} - {part.strip(";:") for part in parts(narrow)}
    assert not {part for part in lost if not is_rule(part)} - {name}


def on_a_screen(what: RenderableType, width: int) -> str:
    screen = Screen(width=width, file=io.StringIO(), color_system=None, highlight=False)
    with screen.capture() as text:
        screen.print(what)
    return text.get()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "words",
    [
        ("list", "methods"),
        ("list", "datasets"),
        ("list", "models", "--match", "resnet20"),
        ("check", ROOT / "results" / "ci-baseline.json", "--store", STORE),
    ],
    ids=lambda words: " ".join(map(str, words[:2])).split("/")[0],
)
def test_commands_print_whole_tables(
    words: tuple[Any, ...], width: int, bench_command: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    wide = bench_command(*words).out
    monkeypatch.setenv("COLUMNS", str(width))
    check(wide, bench_command(*words).out, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_options_of_a_method_are_whole(
    width: int, bench_command: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    wide = bench_command("show", "dynamic").out.split("\n\n")[2]
    monkeypatch.setenv("COLUMNS", str(width))
    check(wide, bench_command("show", "dynamic").out.split("\n\n")[2], width)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_method_says_is_wrapped_at_words(
    width: int, bench_command: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = bench_command("show", "tic").out.splitlines()
    assert max(map(len, lines)) <= width
    prose = lines[lines.index("`tic`: transform-invariant kernel clustering.") + 1 :]
    assert sum(len(line) > 0.7 * width for line in prose) > 0.6 * sum(map(bool, prose)), "lines are filled"


def test_lists_keep_their_lines() -> None:
    assert flowing("one\ntwo\n\n- three\n- four\n\n    five\n    six") == (
        "one two\n\n- three\n- four\n\n    five\n    six"
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_a_dry_run_lists_whole_settings(
    width: int, bench_command: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("run", "--methods", "l1(granularity=kernel,rate=0.5)+tic(k=128)", "--dry-run", "--store", tmp_path)
    monkeypatch.setenv("COLUMNS", str(width))
    said = bench_command(*words, "--models", "resnet20")
    table = said.out.partition("2 to run")[0]
    check("resnet20 fashion-mnist l1(rate=0.5, granularity=kernel) +tic(k=128) to run", table, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_comparisons_are_whole(width: int) -> None:
    settings = "l1(rate=0.5445, granularity=kernel)+quantize(bits=8)", "magnitude(rate=0.5316)"
    found = render_comparison(compare(*settings, STORE))
    check(on_a_screen(found, 500), on_a_screen(found, width), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_published_figures_are_whole(width: int) -> None:
    counted = [Counted("ResNet-56-B", LONG, "resnet56", "macs", "9.09e7", 90_907_264.0)] * 2
    differs = ("budget 1 epochs, theirs 40", "weights trained here", "batch-norm statistics were re-estimated")
    beside = [Beside("ResNet-110-A from scratch", LONG, "top1_dense", "93.53", 93.1, 3, differs)]
    for table in (counted_table(counted), beside_table(beside)):
        check(on_a_screen(table, 500), on_a_screen(table, width), width, "row")


@pytest.mark.parametrize("width", WIDTHS)
def test_verifications_are_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [
        Finding(
            "artifact_compressed_bytes", Verdict.CLOSE, "123,456,789", "123,456,790", "another version of zstandard"
        ),
        Finding("prediction_change_rate", Verdict.UNVERIFIED, "0.123456789012", "", "only another run shows it"),
    ]
    verified = Verification("place", "tic(k=64), seed 0", "0123456789abcdef", findings)
    text = {}
    for columns in (500, width):
        monkeypatch.setenv("COLUMNS", str(columns))
        text[columns] = to_text([verified]).partition("\n\n")[0].partition("\n")[2]
    check(text[500], text[width], width, "figure")


def test_find_explains_intervals_from_two_seeds() -> None:
    goal = goal_of(within=1.0, smallest="size")
    for seeds in (1, 2, 3):
        answer = Answer("tic(k=64)", (None,) * seeds, Interval(4, 4, 4), ())  # type: ignore[arg-type]
        told = in_words(Found(goal, (answer,), Outcome([], 0), 3, 0.5))
        assert (TWO_SEEDS in told) == (seeds == 2)
