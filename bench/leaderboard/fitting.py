"""How a table fits a screen: lower figures first, then without columns that a line names. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from bench.leaderboard.columns import Column, Row
from bench.system.text import one_line

NAME_WIDTH, LOW_NAME_WIDTH, LEAST_NAME_WIDTH = 24, 22, 12
"""Characters that are kept free for a setting or a method, at most: beside figures in one line, above their intervals,
and before a column goes that is neither minor nor derived."""
NAMES = ("setting", "method")
ALWAYS = ("front", *NAMES, "top1")
GAP = 2
"""Spaces between two columns."""


@dataclass(frozen=True)
class Layout:
    """The columns that are shown; whether intervals stand below their figures; and the headers of other columns.

    `needed` is a width at which nothing has to be left out.
    """

    columns: Sequence[Column]
    stacked: bool = False
    left_out: Sequence[str] = field(default_factory=tuple)
    needed: int = 0


def fitted(columns: Sequence[Column], rows: Sequence[Row], width: int, asked: Collection[str] = ()) -> Layout:
    """The layout of a table on a screen of this width.

    Minor columns go first, the last before the others; then intervals move below their figures, which may bring columns
    back; then derived columns go, names are given less room, and other columns go. Those that are `asked` for go last.
    """
    flat = _widths(columns, rows, NAME_WIDTH, stacked=False)
    spare = [column for column in reversed(columns) if column.minor and column.name not in asked]
    kept = _without(columns, flat, width, spare)
    stacked = _total(kept, flat) > width
    if stacked:
        spare += [column for column in reversed(columns) if column.derived and column.name not in asked]
        kept = _without(columns, _widths(columns, rows, LOW_NAME_WIDTH, stacked=True), width, spare)
        others = [column for column in reversed(kept) if column.name not in ALWAYS]
        others.sort(key=lambda column: column.name in asked)
        kept = _without(kept, _widths(kept, rows, LEAST_NAME_WIDTH, stacked=True), width, others)
    out = tuple(column.header for column in columns if column not in kept)
    return Layout(kept, stacked, out, _total(columns, flat))


def told(layouts: Sequence[Layout], width: int) -> str:
    """Which columns were left out of these tables, and how to see them; empty if there are all."""
    names = dict.fromkeys(name for layout in layouts for name in layout.left_out)
    if not names:
        return ""
    needed = max(layout.needed for layout in layouts)
    return (
        f"Not shown, because a line has {width} characters: {', '.join(names)}. COLUMNS={needed} makes room for all "
        "columns; `bench leaderboard --format csv` has every figure."
    )


def cell(text: str, stacked: bool) -> str:
    """A cell in one line, or with intervals and figures in brackets in lines of their own."""
    text = one_line(text)
    return text.replace(" ±", "\n±").replace("× (", "×\n(") if stacked else text


def heading(column: Column, stacked: bool) -> str:
    """A header, with a line for each word where figures are narrow."""
    return column.header.replace(" ", "\n") if stacked else column.header


def _without(columns: Sequence[Column], widths: dict[str, int], width: int, order: Sequence[Column]) -> list[Column]:
    """The columns without as many of those in `order` as it takes to fit."""
    kept = list(columns)
    for column in order:
        if _total(kept, widths) <= width:
            break
        kept.remove(column)
    return kept


def _total(columns: Sequence[Column], widths: dict[str, int]) -> int:
    return sum(widths[column.name] for column in columns) - 1  # after the last there is one space


def _widths(columns: Sequence[Column], rows: Sequence[Row], names: int, *, stacked: bool) -> dict[str, int]:
    """Characters that each column takes, with the gap after it; `names` for settings and methods, at most."""
    widths = {}
    for column in columns:
        widest = max(map(len, _lines(column, rows, stacked)))
        widths[column.name] = GAP + (min(widest, names) if column.name in NAMES else widest)
    return widths


def _lines(column: Column, rows: Sequence[Row], stacked: bool) -> Iterator[str]:
    yield from heading(column, stacked).split("\n")
    for row in rows:
        yield from cell(column.write(row), stacked).split("\n")
