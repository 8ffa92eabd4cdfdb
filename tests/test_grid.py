"""The quick tables print what rich's own would print."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


def printed(what: Any, width: int) -> str:
    screen = Screen(width=width, file=io.StringIO(), force_terminal=True, color_system="standard")
    with screen.capture() as text:
        screen.print(what)
    return Text.from_ansi(text.get()).plain


@settings(max_examples=100)
@given(cells, st.integers(1, 80), st.booleans(), st.sets(st.integers(0, 5)))
def test_a_table_reads_as_rich_prints_it(rows: list[list[str]], width: int, ruled: bool, ends: set[int]) -> None:
    grid = Grid(HEADINGS, ruled)
    for index, row in enumerate(rows):
        grid.add_row(row, end_section=index in ends)
    assert printed(grid, width) == printed(grid._by_rich(), width)


@pytest.mark.parametrize("width", [1, 12, 30, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    grid = Grid(HEADINGS)
    grid.add_row(["●", "l1(granularity=kernel, rate=0.5)+tic(k=128)", "93.10"])
    assert max(map(len, printed(grid, width).splitlines())) <= width
