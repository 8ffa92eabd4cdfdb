"""Tables for a terminal, none of which is cut: long cells go on in other lines, or each row becomes a paragraph.

A table of rich's would look the same where it fits, but takes about a millisecond for each row; these take a moment for
thousands. Where cells have to be broken, they are broken between the parts of a setting, not in the middle of a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from bench.system.text import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

GAP = "  "
NARROWEST = 12
"""Characters of a column that folds, at least; more if one of its parts has more."""
WIDEST_PART = 24
"""A part of more characters is broken."""
BREAKS = (" ", ",(+/", "=_-")
"""Characters after which a long cell is broken, the best first; a part without any is broken anywhere."""
PART = re.compile(rf"[^\n{re.escape(''.join(BREAKS))}]*[{re.escape(''.join(BREAKS))}]?")
EMPTY = ("", "–")
"""Cells that a paragraph leaves out."""


@dataclass(frozen=True)
class Heading:
    """A column: its header, whether its cells stand on the right, and whether long ones go on in another line.

    A line break in the header begins another line.
    """

    text: str
    right: bool = False
    folds: bool = False


@dataclass
class Grid:
    """Cells as text without control characters; line breaks begin another line of the row."""

    headings: Sequence[Heading]
    ruled: bool = True
    """Whether a line is drawn below the headings."""
    rows: list[list[str]] = field(default_factory=list)
    ends: set[int] = field(default_factory=set)
    """Rows below which a line is left empty."""
    styles: dict[int, Sequence[str]] = field(default_factory=dict)
    """For rows that are not plain, a style for each cell."""

    def add_row(self, cells: list[str], end_section: bool = False, styles: Sequence[str] = ()) -> None:
        if end_section:
            self.ends.add(len(self.rows))
        if any(styles):
            self.styles[len(self.rows)] = styles
        self.rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        if widths is None:
            yield from self._paragraphs()
            return
        for line in self._lines(self._heads(), widths, ["bold"] * len(widths)):
            yield from line
        if self.ruled:
            yield Segment(f"{'─' * self._total(widths)}\n")
        for index, cells in enumerate(self.rows):
            for line in self._lines(cells, widths, self.styles.get(index, ())):
                yield from line
            if self.ruled and index in self.ends and index < len(self.rows) - 1:
                yield Segment(f"{' ' * self._total(widths)}\n")

    def _heads(self) -> list[str]:
        return [printable(heading.text, keep="\n") for heading in self.headings]

    def _columns(self) -> list[set[str]]:
        """The different cells of each column, with its header."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        return [{head, *cells} for head, cells in zip(self._heads(), columns, strict=True)]

    def _total(self, widths: list[int]) -> int:
        """Characters of a line: with a rule, a space stands after the last column, too."""
        return sum(widths) + len(GAP) * (len(widths) - 1) + self.ruled

    def _widths(self, most: int) -> list[int] | None:
        """Characters of each column without the gap after it; None if they do not fit. The widest is folded first."""
        columns = self._columns()
        widths = [max(map(_width, cells)) for cells in columns]
        if self._total(widths) <= most:
            return widths
        floors = [
            min(width, _floor(cells)) if heading.folds else width
            for width, cells, heading in zip(widths, columns, self.headings, strict=True)
        ]
        if self._total(floors) > most:
            return None
        for _ in range(self._total(widths) - most):
            widths[max((width, place) for place, width in enumerate(widths) if width > floors[place])[1]] -= 1
        return widths

    def _lines(self, cells: list[str], widths: list[int], styles: Sequence[str]) -> Iterator[list[Segment]]:
        """The lines of a row, each with its end."""
        if not any("\n" in cell or cell_len(cell) > width for cell, width in zip(cells, widths, strict=True)):
            yield self._line(cells, widths, styles)
            return
        parts = [_folded(cell, width) for cell, width in zip(cells, widths, strict=True)]
        for number in range(max(map(len, parts))):
            yield self._line([lines[number] if number < len(lines) else "" for lines in parts], widths, styles)

    def _line(self, cells: list[str], widths: list[int], styles: Sequence[str]) -> list[Segment]:
        padded = [
            " " * (width - cell_len(cell)) + cell if heading.right else cell + " " * (width - cell_len(cell))
            for cell, width, heading in zip(cells, widths, self.headings, strict=True)
        ]
        end = " " * self.ruled + "\n"
        if not styles:
            return [Segment(GAP.join(padded) + end)]
        segments = []
        for text, style in zip(padded, styles, strict=True):
            segments += [Segment(text, Style.parse(style)), Segment(GAP)]
        return [*segments[:-1], Segment(end)]

    def _paragraphs(self) -> Iterator[RenderableType]:
        """For each row its name, after the marks before it; below, the other cells with their headers."""
        heads = list(map(_joined, self._heads()))
        wide = [max(map(_width, cells)) > 1 for cells in self._columns()]
        name = wide.index(True) if True in wide else 0
        for index, row in enumerate(self.rows):
            styles = self.styles.get(index) or [""] * len(row)
            cells = [Text(_joined(cell), style) for cell, style in zip(row, styles, strict=True)]
            first = Text(" ").join(cell for cell in cells[: name + 1] if cell.plain)
            first.stylize("bold")
            yield first
            below = zip(heads[name + 1 :], cells[name + 1 :], strict=True)
            told = [Text.assemble(head and f"{head}: ", cell) for head, cell in below if cell.plain not in EMPTY]
            if told:
                yield Padding(Text("; ").join(told), (0, 0, 0, len(GAP)))


def _joined(cell: str) -> str:
    """A cell in one line; the stages of a pipeline without a space between them."""
    return one_line(cell.replace("\n+", "+"))


def _width(cell: str) -> int:
    return max(map(cell_len, cell.split("\n"))) if "\n" in cell else cell_len(cell)


def _floor(cells: set[str]) -> int:
    """The least width of a column that folds."""
    lengths = (cell_len(part.rstrip(" ")) for cell in cells for part in PART.findall(cell))
    return max(NARROWEST, *(length for length in lengths if length <= WIDEST_PART))


def _folded(cell: str, width: int) -> list[str]:
    """The lines of a cell, of which none is wider than the column."""
    lines = []
    for line in cell.split("\n"):
        while cell_len(line) > width:
            place = _break(line, width)
            lines.append(line[:place].rstrip(" "))
            line = line[place:].lstrip(" ")
        lines.append(line)
    return lines


def _break(line: str, width: int) -> int:
    """How many characters of a line that is too wide stay in it."""
    fits = next(count for count in range(len(line), 0, -1) if cell_len(line[:count]) <= width or count == 1)
    for signs in BREAKS:
        after = [place + 1 for place, sign in enumerate(line[: fits + 1]) if sign in signs]
        after = [place for place in after if cell_len(line[:place].rstrip(" ")) <= width]
        if after and after[-1] > fits // 3:
            return after[-1]
    return fits
