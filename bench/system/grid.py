"""Tables for a terminal that take a moment for thousands of rows; rich's own takes about a millisecond for each.

What is printed is the same. Where the columns do not fit, rich makes the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from bench.system.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

GAP = "  "
NARROWEST = 8
"""Characters of a column that folds, at least; below, rich decides what to cut."""


@dataclass(frozen=True)
class Heading:
    """A column: its header, whether its cells stand on the right, and whether long ones go on in another line."""

    text: str
    right: bool
    folds: bool


@dataclass
class Grid:
    """Cells as text without control characters; line breaks begin another line of the row."""

    headings: Sequence[Heading]
    ruled: bool = True
    """Whether a line is drawn below the headings."""
    rows: list[list[str]] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    """Rows below which a line is left empty."""

    def add_row(self, cells: list[str], end_section: bool = False) -> None:
        if end_section:
            self.ends.add(len(self.rows))
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        if widths is None:
            yield self._by_rich()
            return
        heads = [printable(heading.text) for heading in self.headings]
        yield Segment(self._line(heads, widths), Style(bold=True))
        yield Segment.line()
        if self.ruled:
            yield Segment(f"{'─' * self._total(widths)}\n")
        for index, cells in enumerate(self.rows):
            for line in self._lines(cells, widths, console):
                yield Segment(f"{line}\n")
            if self.ruled and index in self.ends and index < len(self.rows) - 1:
                yield Segment(f"{' ' * self._total(widths)}\n")

    def _total(self, widths: list[int]) -> int:
        """Characters of a line: with a rule, rich leaves a space after the last column, too."""
        return sum(widths) + len(GAP) * (len(widths) - 1) + self.ruled

    def _widths(self, most: int) -> list[int] | None:
        """Characters of each column without the gap after it; None if only cutting makes them fit."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        widths = [
            max(map(_width, {printable(heading.text), *cells}))
            for heading, cells in zip(self.headings, columns, strict=True)
        ]
        excess = self._total(widths) - most
        if excess > 0:
            folding = [place for place, heading in enumerate(self.headings) if heading.folds]
            if len(folding) != 1 or widths[folding[0]] - excess < NARROWEST:
                return None
            widths[folding[0]] -= excess
        return widths

    def _lines(self, cells: list[str], widths: list[int], console: Console) -> Iterator[str]:
        if not any("\n" in cell or len(cell) > width for cell, width in zip(cells, widths, strict=True)):
            yield self._line(cells, widths)
            return
        parts = [_folded(cell, width, console) for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, parts))):
            yield self._line([lines[number] if number < len(lines) else "" for lines in parts], widths)

    def _line(self, cells: list[str], widths: list[int]) -> str:
        padded = [
            " " * (width - cell_len(cell)) + cell if heading.right else cell + " " * (width - cell_len(cell))
            for cell, width, heading in zip(cells, widths, self.headings, strict=True)
        ]
        return GAP.join(padded) + " " * self.ruled

    def _by_rich(self) -> Table:
        if self.ruled:
            table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        else:
            table = Table(box=None, pad_edge=False)
        for heading in self.headings:
            justify: Literal["left", "right"] = "right" if heading.right else "left"
            table.add_column(heading.text, justify=justify, overflow="fold", no_wrap=not heading.folds)
        for index, cells in enumerate(self.rows):
            table.add_row(*cells, end_section=index in self.ends)
        return table


def _width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n"))) if "\n" in cell else cell_len(cell)


def _folded(cell: str, width: int, console: Console) -> list[str]:
    """The lines of a cell, of which none is wider than the column."""
    if _width(cell) <= width:
        return cell.split("\n")
    return [line.plain for line in Text(cell).wrap(console, width, overflow="fold")]
