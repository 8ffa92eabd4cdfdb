"""The board for people: its columns, and how they look in a terminal and in Markdown."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from bench.leaderboard.across import FLOOR, compare_methods
from bench.leaderboard.markdown import escaped, table
from bench.leaderboard.summary import DENSE, TASK
from bench.system.text import one_line

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column for people: what it is sorted by, its header, and how it writes a row of the summary."""

    name: str
    header: str
    write: Callable[[Row], str]
    numeric: bool = True
    minor: bool = False
    """Left out where the terminal is narrow."""
    optional: bool = False
    """Only there where something was measured."""


def _figure(name: str, pattern: str, scale: float = 1) -> Callable[[Row], str]:
    return lambda row: "–" if math.isnan(row[name]) else pattern.format(row[name] * scale)


def _spread(name: str, spread: str, pattern: str, scale: float = 1) -> Callable[[Row], str]:
    write, add = _figure(name, pattern, scale), _figure(spread, " ±" + pattern, scale)
    return lambda row: write(row) + ("" if math.isnan(row[spread]) else add(row))


def _timed(name: str) -> Callable[[Row], str]:
    """A speedup with its interval, and a sign in front where it is noisy."""
    write, add = _figure(f"{name}_speedup", "{:.2f}×"), _figure(f"{name}_speedup_ci95", " ±{:.2f}")

    def cell(row: Row) -> str:
        spread = "" if math.isnan(row[f"{name}_speedup_ci95"]) else add(row)
        return (NOISY if row[f"{name}_noisy"] else "") + write(row) + spread

    return cell


NOISY = "~"
COLUMNS = [
    Column("pareto", "", lambda row: "●" if row["pareto"] else "", numeric=False),
    Column("setting", "setting", lambda row: label(row["setting"]), numeric=False),
    Column("top1", "top-1 %", _spread("top1", "top1_ci95", "{:.2f}", 100)),
    Column("top1_drop", "drop", _figure("top1_drop", "{:.2f}", 100)),
    Column("compression_ratio", "size", _figure("compression_ratio", "{:.2f}×")),
    Column("macs_ratio", "MACs", _figure("macs_ratio", "{:.2f}×")),
    Column("latency_speedup", "latency", _timed("latency")),
    Column("throughput_speedup", "images/s", _timed("throughput"), minor=True),
    Column("robust_top1", "robust %", _figure("robust_top1", "{:.2f}", 100), optional=True),
    Column("attack_success_rate", "fooled %", _figure("attack_success_rate", "{:.2f}", 100), optional=True),
    Column("epochs_spent", "epochs", _figure("epochs_spent", "{:.4g}"), minor=True),
    Column("seeds", "seeds", lambda row: str(row["seeds"])),
]
LEGEND = (
    "● on the Pareto front of top-1 and size. drop: points of top-1 lost. size, MACs, latency, images/s: gain over "
    "dense, so 2× is half the file or twice as fast. ±: 95% interval over seeds, of latency and images/s over rounds, "
    "too. ~: noisy, on no front of latency. –: not measured."
)
ATTACKED = " robust: top-1 on attacked images; fooled: attacks that succeeded."
ACROSS_COLUMNS = [
    Column("method", "method", lambda row: row["method"], numeric=False),
    Column("tasks", "tasks", lambda row: str(row["tasks"])),
    Column("settings", "settings", lambda row: str(row["settings"])),
    *(
        column
        for name, header in (("size", "size"), ("macs", "MACs"), ("latency", "latency"))
        for column in (
            Column(f"rank_{name}", f"{header} rank", _spread(f"rank_{name}", f"rank_{name}_sd", "{:.1f}")),
            Column(f"hypervolume_{name}", "volume", _figure(f"hypervolume_{name}", "{:.2f}")),
        )
    ),
]
ACROSS_TITLE = "Methods across {tasks} tasks"
ACROSS_LEGEND = (
    "settings: in all tasks together. rank: mean over tasks ± standard deviation, 1 is best; ranked by hypervolume, of "
    "all settings of a method in a task. volume: mean hypervolume of kept top-1 against log2 of the gain, from the "
    f"reference point ({FLOOR:.0%} of dense's top-1, 1×), in doublings: 3 is 8× at no loss. More settings can only "
    "raise it. Of latency only gains count whose interval lies above 1×, and no noisy ones."
)
EMPTY = "No records yet: `bench run` makes some."
SETTING_WIDTH = 24
"""Characters that a setting is given before a minor column is."""


def label(setting: str) -> str:
    """A setting as people read it."""
    return "dense" if setting == DENSE else setting


def columns_of(summary: DataFrame) -> list[Column]:
    """Those that have something to show."""
    return [column for column in COLUMNS if not column.optional or summary[column.name].notna().any()]


def legend(columns: list[Column]) -> str:
    """What the columns mean."""
    return LEGEND + (ATTACKED if any(column.optional for column in columns) else "")


def rows_of(frame: DataFrame) -> list[Row]:
    """As plain mappings, which are much quicker to read than pandas' rows."""
    return cast("list[Row]", frame.to_dict("records"))


def task_title(task: Iterable[Any]) -> str:
    """Of a task's values, in the order of `TASK`."""
    model, dataset, weights, device, budget = task
    return f"{model} on {dataset}, weights {weights}, budget {budget:g} epoch{'' if budget == 1 else 's'}, {device}"


def count_tasks(summary: DataFrame) -> int:
    """How many tasks have figures."""
    return len(summary.loc[summary["seeds"] > 0, TASK].drop_duplicates())


def render_terminal(summary: DataFrame) -> RenderableType:
    """A table a task, the failures below each; it fits 100 columns, and in 80 leaves out the minor ones."""
    from bench.system.terminal import styled

    return styled(EMPTY) if summary.empty else _Boards(summary)


def to_text(summary: DataFrame) -> str:
    """The terminal's board as plain text."""
    from bench.system.terminal import WIDTH, Screen

    console = Screen(width=WIDTH, file=io.StringIO(), color_system=None)
    with console.capture() as printed:
        console.print(render_terminal(summary))
    return printed.get()


@dataclass(frozen=True)
class _Boards:
    summary: DataFrame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from bench.system.terminal import styled

        columns = _fitting(columns_of(self.summary), self.summary, options.max_width)
        for title, measured, failures in _boards(self.summary):
            yield styled(title, "bold")
            if measured:
                yield _table(measured, columns)
            yield from (styled(f"failed: {line}", "red") for line in failures)
            yield ""
        yield styled(legend(columns), "dim")
        if (tasks := count_tasks(self.summary)) > 1:
            yield styled("\n" + ACROSS_TITLE.format(tasks=tasks), "bold")
            yield _table(rows_of(compare_methods(self.summary)), ACROSS_COLUMNS)
            yield styled("\n" + ACROSS_LEGEND, "dim")


def _fitting(columns: list[Column], summary: DataFrame, width: int) -> list[Column]:
    """Without as many minor columns, the last first, as leave a setting its room."""
    rows = rows_of(summary)
    needed = {
        column.name: 1 + max(len(column.header), *(len(one_line(column.write(row))) for row in rows))
        for column in columns
        if column.name != "setting"
    }
    dropped: set[str] = set()
    for column in reversed([column for column in columns if column.minor]):
        if sum(needed.values()) + SETTING_WIDTH > width:
            dropped.add(column.name)
            del needed[column.name]
    return [column for column in columns if column.name not in dropped]


def _table(rows: list[Row], columns: list[Column]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        folds = column.name in ("setting", "method")
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.header, justify=justify, overflow="fold", no_wrap=not folds)
    for row in rows:
        # A long setting breaks best between the stages of a pipeline.
        cells = [one_line(column.write(row)).replace(")+", ")\n+") for column in columns]
        table.add_row(*cells, end_section=row.get("setting") == DENSE)
    return table


def _boards(summary: DataFrame) -> Iterator[tuple[str, list[Row], list[str]]]:
    """Of each task its title, the rows with figures and a line a failure."""
    for task, board in summary.groupby(TASK, sort=False):
        rows = rows_of(board)
        failures = [
            one_line(f"{row['setting']}, {row['failed']} of {row['failed'] + row['seeds']} seeds: {row['error']}")
            for row in rows
            if row["failed"]
        ]
        yield one_line(task_title(task)), [row for row in rows if row["seeds"]], failures


def to_markdown(summary: DataFrame) -> str:
    """The terminal's board as GitHub's Markdown."""
    if summary.empty:
        return EMPTY + "\n"
    columns = columns_of(summary)
    parts = []
    for title, measured, failures in _boards(summary):
        lines = [f"**{escaped(title)}**"]
        if measured:
            lines += ["", *_markdown_table(measured, columns)]
        if failures:
            lines += ["", *(f"- failed: {escaped(line)}" for line in failures)]
        parts.append("\n".join(lines) + "\n")
    parts.append(legend(columns))
    if (tasks := count_tasks(summary)) > 1:
        table = _markdown_table(rows_of(compare_methods(summary)), ACROSS_COLUMNS)
        parts += ["\n" + "\n".join([f"**{ACROSS_TITLE.format(tasks=tasks)}**", "", *table]), "\n" + ACROSS_LEGEND]
    return "\n".join(parts) + "\n"


def _markdown_table(rows: list[Row], columns: list[Column]) -> list[str]:
    cells = ([column.write(row) for column in columns] for row in rows)
    return table([column.header for column in columns], [column.numeric for column in columns], cells)
