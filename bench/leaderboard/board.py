"""The board as people read it, in a terminal and in Markdown."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.leaderboard.across import Block, compare_methods
from bench.leaderboard.answer import Answer
from bench.leaderboard.columns import ACROSS_COLUMNS, ACROSS_LEGEND, ALL_COUNT, Column, Row, columns_of, legend, rows_of
from bench.leaderboard.fitting import NAMES, Layout, cell, fitted, heading, told
from bench.leaderboard.grouping import DENSE, TASK, budget_title, task_title
from bench.leaderboard.headline import columns_of_points, legend_of_points, points_title, rows_of_points
from bench.leaderboard.markdown import escaped, table
from bench.leaderboard.operating_points import Table as Points
from bench.leaderboard.operating_points import tables_of
from bench.system.text import one_line

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from bench.system.grid import Grid

LONGEST_LIST = 80
"""Characters of the list of tasks in a title, at most."""
EMPTY = "No records yet: `bench run` makes some."


def board_title(rows: list[Row]) -> str:
    """The title of one task's board: the task, the budget if there is only one, and the device of the latency."""
    budgets = {row["budget_epochs"] for row in rows}
    budget = "".join(f", {budget_title(value)}" for value in budgets)
    title = task_title(rows[0][name] for name in TASK)
    return f"{title}{budget if len(budgets) == 1 else ''}, {rows[0]['device']}"


def across_title(block: Block) -> str:
    """The number of tasks, and the parts of their names that differ, unless these are long."""
    names = [[str(value) for value in values] for values in zip(*block.tasks, strict=True)]
    told = [position for position, values in enumerate(names) if len(set(values)) > 1]
    listed = ", ".join(" ".join(str(task[position]) for position in told) for task in block.tasks)
    return f"Methods across {len(block.tasks)} tasks" + (f": {listed}" if len(listed) < LONGEST_LIST else "")


def render_terminal(
    summary: DataFrame, points: Sequence[Points] | None = None, answer: Answer | None = None
) -> RenderableType:
    """The tables at equal size and MACs, then one table per task, with its failures below.

    The tables fit 40 columns and more: where they are too wide, intervals go below their figures, then columns are left
    out, and a line names them (see `fitted`). `points` are the summary's tables at equal size and MACs; by default they
    are made here, without marks. With an `answer`, its rows are shown instead of the summary's; if it is narrowed, the
    tables that compare all settings are left out.
    """
    from bench.system.terminal import styled

    if summary.empty:
        return styled(EMPTY)
    answer = answer or Answer(summary, summary)
    return _Boards(answer.shown, [] if answer.narrowed else tables_of(summary) if points is None else points, answer)


def to_text(summary: DataFrame, points: Sequence[Points] | None = None, answer: Answer | None = None) -> str:
    """The board of `render_terminal` as plain text."""
    from bench.system.terminal import Screen, width_of_files

    console = Screen(width=width_of_files(), file=io.StringIO(), color_system=None)
    with console.capture() as printed:
        console.print(render_terminal(summary, points, answer))
    return printed.get()


@dataclass(frozen=True)
class _Boards:
    summary: DataFrame
    points: Sequence[Points]
    answer: Answer

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from bench.system.terminal import styled

        yield from self._points(options.max_width)
        if self.answer.notes:
            yield styled(" ".join(self.answer.notes) + "\n")
        columns, width = columns_of(self.summary), options.max_width
        layout = fitted(columns, rows_of(self.summary), width, self.answer.columns)
        for title, measured, failures in _boards(self.summary):
            yield styled(title, "bold")
            if measured:
                yield _table(measured, layout)
            yield from (styled(f"failed: {line}", "red") for line in failures)
            yield ""
        yield from _left_out([layout], width)
        yield styled(_legend(layout.columns, self.summary, self.answer), "dim")
        yield from self._across(width)

    def _points(self, width: int) -> Iterator[RenderableType]:
        """The tables at equal size and MACs, with their legend."""
        from bench.system.terminal import styled

        layouts = []
        for points in self.points:
            rows = rows_of_points(points)
            layouts.append(fitted(columns_of_points(points), rows, width))
            yield styled(one_line(points_title(points)), "bold")
            yield _table(rows, layouts[-1])
            yield ""
        yield from _left_out(layouts, width)
        if self.points:
            yield styled(legend_of_points(self.points) + "\n", "dim")

    def _across(self, width: int) -> Iterator[RenderableType]:
        """The methods across tasks, with their legend."""
        from bench.system.terminal import styled

        layouts = []
        for block in _across(self.summary, self.answer):
            rows = rows_of(block.board)
            layouts.append(fitted(ACROSS_COLUMNS, rows, width))
            yield styled("\n" + one_line(across_title(block)), "bold")
            yield _table(rows, layouts[-1])
        if layouts:
            yield ""
            yield from _left_out(layouts, width)
            yield styled(ACROSS_LEGEND, "dim")


def _left_out(layouts: Sequence[Layout], width: int) -> Iterator[RenderableType]:
    """The line that names the columns for which there is no room."""
    from bench.system.terminal import styled

    if line := told(layouts, width):
        yield styled(line)


def _table(rows: list[Row], layout: Layout) -> Grid:
    from bench.system.grid import Grid, Heading

    headings = [
        Heading(heading(column, layout.stacked), column.numeric, column.name in NAMES) for column in layout.columns
    ]
    table = Grid(headings)
    for row in rows:
        # A long setting breaks best between the stages of a pipeline.
        cells = [cell(column.write(row), layout.stacked).replace(")+", ")\n+") for column in layout.columns]
        table.add_row(cells, end_section=row.get("setting") == DENSE)
    return table


def _boards(summary: DataFrame) -> Iterator[tuple[str, list[Row], list[str]]]:
    """For each task: its title, the rows with figures, and one line per failure."""
    for _, board in summary.groupby(TASK, sort=False):
        rows = rows_of(board)
        failures = [
            one_line(f"{row['setting']}, {row['failed']} of {row['failed'] + row['seeds']} seeds: {row['error']}")
            for row in rows
            if row["failed"]
        ]
        yield one_line(board_title(rows)), [row for row in rows if row["seeds"]], failures


def _legend(columns: Sequence[Column], summary: DataFrame, answer: Answer) -> str:
    return legend(columns, summary) + (ALL_COUNT if answer.narrowed else "")


def _across(summary: DataFrame, answer: Answer) -> list[Block]:
    return [] if answer.narrowed else compare_methods(summary)


def to_markdown(summary: DataFrame, points: Sequence[Points] | None = None, answer: Answer | None = None) -> str:
    """The board as GitHub's Markdown; `points` and `answer` as in `render_terminal`."""
    if summary.empty:
        return EMPTY + "\n"
    answer = answer or Answer(summary, summary)
    shown, columns = answer.shown, columns_of(answer.shown)
    parts = _markdown_points([] if answer.narrowed else tables_of(summary) if points is None else points)
    parts += [escaped(" ".join(answer.notes)) + "\n"] if answer.notes else []
    for title, measured, failures in _boards(shown):
        lines = [f"**{escaped(title)}**"]
        if measured:
            lines += ["", *_markdown_table(measured, columns)]
        if failures:
            lines += ["", *(f"- failed: {escaped(line)}" for line in failures)]
        parts.append("\n".join(lines) + "\n")
    parts.append(_legend(columns, shown, answer))
    blocks = _across(shown, answer)
    for block in blocks:
        lines = [f"**{escaped(across_title(block))}**", "", *_markdown_table(rows_of(block.board), ACROSS_COLUMNS)]
        parts.append("\n" + "\n".join(lines))
    parts += ["\n" + ACROSS_LEGEND] if blocks else []
    return "\n".join(parts) + "\n"


def _markdown_points(points: Sequence[Points]) -> list[str]:
    parts = []
    for each in points:
        lines = [
            f"**{escaped(points_title(each))}**",
            "",
            *_markdown_table(rows_of_points(each), columns_of_points(each)),
        ]
        parts.append("\n".join(lines) + "\n")
    return [*parts, legend_of_points(points) + "\n"] if points else []


def _markdown_table(rows: list[Row], columns: list[Column]) -> list[str]:
    cells = ([column.write(row) for column in columns] for row in rows)
    return table([column.header for column in columns], [column.numeric for column in columns], cells)
