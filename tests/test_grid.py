"""Tables fit every screen: the quick ones print what rich's own would; where nothing fits, rows become paragraphs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bench.system.grid import Grid, Heading
from bench.system.terminal import Screen

HEADINGS = [Heading("", False, False), Heading("setting", False, True), Heading("top-1 %", True, False)]
cells = st.lists(
    st.tuples(
        st.sampled_from(["", "●"]),
        st.text("ab (=,)é日本語+.\n", max_size=60).map(lambda text: text.strip()),
        st.text("0123456789.±× ~–", max_size=9).map(lambda text: text.strip()),
    ).map(list),
    max_size=6,
)


def by_rich(grid: Grid) -> Table:
    if grid.ruled:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    else:
        table = Table(box=None, pad_edge=False)
    for heading in grid.headings:
        table.add_column(heading.text, justify="right" if heading.right else "left")
    for index, cells in enumerate(grid.rows):
        table.add_row(*cells, end_section=index in grid.ends)
    return table


def printed(what: Any, width: int) -> str:
    screen = Screen(width=width, file=io.StringIO(), force_terminal=True, color_system="standard")
    with screen.capture() as text:
        screen.print(what)
    return Text.from_ansi(text.get()).plain


@settings(max_examples=100)
@given(cells, st.booleans(), st.sets(st.integers(0, 5)))
def test_a_table_reads_as_rich_prints_it(rows: list[list[str]], ruled: bool, ends: set[int]) -> None:
    grid = Grid(HEADINGS, ruled)
    for index, row in enumerate(rows):
        grid.add_row(row, end_section=index in ends)
    assert printed(grid, 200) == printed(by_rich(grid), 200)


@settings(max_examples=200)
@given(cells, st.integers(4, 80))
def test_no_character_is_lost_and_no_line_is_too_wide(rows: list[list[str]], width: int) -> None:
    grid = Grid(HEADINGS)
    for row in rows:
        grid.add_row(row)
    shown = printed(grid, width)
    assert max(map(cell_len, shown.splitlines()), default=0) <= width
    for sign in set("".join(map("".join, rows))) - set(" \n–"):
        assert shown.count(sign) >= sum("".join(row).count(sign) for row in rows)


def test_a_setting_is_broken_where_its_parts_end() -> None:
    grid = Grid(HEADINGS)
    grid.add_row(["●", "dynamic(rate=0.5445, granularity=weight)+quantize(bits=8)", "93.10"])
    settings = [line[3:25].rstrip() for line in printed(grid, 34).splitlines()[2:]]
    assert settings == ["dynamic(rate=0.5445,", "granularity=weight)+", "quantize(bits=8)"]


def test_a_header_of_several_lines_takes_less_room() -> None:
    grid = Grid([HEADINGS[1], Heading("top-1\n%", True, False)])
    grid.add_row(["tic", "93.1"])
    assert [line.rstrip() for line in printed(grid, 40).splitlines()] == [
        "setting  top-1", "             %", "───────────────", "tic       93.1",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1, 12, 30, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    grid = Grid(HEADINGS)
    grid.add_row(["●", "l1(granularity=kernel, rate=0.5)+tic(k=128)", "93.10"])
    assert max(map(len, printed(grid, width).splitlines())) <= width


def figures() -> Grid:
    table = Grid([Heading(""), Heading("row"), Heading("setting", folds=True), Heading("published", right=True)])
    table.add_row(["✗", "ResNet-56-A", "l1(rate=0.5)\n+tic(k=8)", "112,435,840"], styles=["", "", "", "red"])
    table.add_row(["", "VGG-16", "l1(rate=0.5, greedy=true)", "–"])
    return table


def test_columns_fold_where_they_can() -> None:
    assert [line.rstrip() for line in printed(figures(), 48).splitlines()] == [
        "   row          setting               published",
        "────────────────────────────────────────────────",
        "✗  ResNet-56-A  l1(rate=0.5)        112,435,840",
        "                +tic(k=8)",
        "   VGG-16       l1(rate=0.5,                  –",
        "                greedy=true)",
    ]


def test_rows_that_do_not_fit_become_paragraphs() -> None:
    assert [line.rstrip() for line in printed(figures(), 30).splitlines()] == [
        "✗ ResNet-56-A", "  setting:", "  l1(rate=0.5)+tic(k=8);", "  published: 112,435,840",
        "VGG-16", "  setting: l1(rate=0.5,", "  greedy=true)",
    ]  # fmt: skip


def test_styles_do_not_change_what_is_printed() -> None:
    screen = Screen(width=60, file=io.StringIO(), force_terminal=True, color_system="standard")
    with screen.capture() as text:
        screen.print(figures())
    assert "\x1b[31m112,435,840\x1b[0m" in text.get().replace("        ", "")


def test_a_column_that_must_not_fold_is_not_cut() -> None:
    grid = Grid([HEADINGS[1], HEADINGS[1], HEADINGS[2]])
    grid.add_row(["tic(k=64)", "resnet20", "93.10 ±0.25"])
    shown = " ".join(printed(grid, 24).split())
    assert "93.10 ±0.25" in shown and "…" not in shown
