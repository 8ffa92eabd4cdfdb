"""The board as people read it: its columns, in a terminal and in Markdown."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from bench.leaderboard.across import FLOOR, Block, compare_methods
from bench.leaderboard.grouping import DENSE, TASK
from bench.leaderboard.markdown import escaped, table
from bench.leaderboard.summary import ELSEWHERE
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
    """Shown only where something was measured, or budgets differ."""


def _figure(name: str, pattern: str, scale: float = 1) -> Callable[[Row], str]:
    return lambda row: "–" if math.isnan(row[name]) else pattern.format(row[name] * scale)


def _spread(name: str, spread: str, pattern: str, scale: float = 1) -> Callable[[Row], str]:
    write, add = _figure(name, pattern, scale), _figure(spread, " ±" + pattern, scale)
    return lambda row: write(row) + ("" if math.isnan(row[spread]) else add(row))


IGNORED = 0.1
"""Share of the gain in MACs above which the additions that a formula ignores are shown."""


def additions_matter(row: Row) -> bool:
    """Whether the gain in MACs is more than a tenth smaller with the additions that the paper's formula ignores."""
    return bool(row["macs_full_ratio"] < (1 - IGNORED) * row["macs_ratio"])


def _macs(row: Row) -> str:
    full = f" ({row['macs_full_ratio']:.2f}×)" if additions_matter(row) else ""
    return _figure("macs_ratio", "{:.2f}×")(row) + full


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
    Column("rank_low", "rank", lambda row: rank(row)),
    Column("top1_drop", "drop", _figure("top1_drop", "{:.2f}", 100)),
    Column("worst_class_drop", "worst class", lambda row: worst_class(row), minor=True, optional=True),
    Column("compression_ratio", "size", _figure("compression_ratio", "{:.2f}×")),
    Column("compressed_ratio", "zstd", _figure("compressed_ratio", "{:.2f}×"), minor=True, optional=True),
    Column("macs_ratio", "MACs", _macs),
    Column("latency_speedup", "latency", _timed("latency")),
    Column("throughput_speedup", "images/s", _timed("throughput"), minor=True),
    Column("robust_top1", "robust %", _figure("robust_top1", "{:.2f}", 100), optional=True),
    Column("attack_success_rate", "fooled %", _figure("attack_success_rate", "{:.2f}", 100), optional=True),
    Column("budget_epochs", "budget", _figure("budget_epochs", "{:.4g}"), optional=True),
    Column("epochs_spent", "epochs", _figure("epochs_spent", "{:.4g}"), minor=True),
    Column("seeds", "seeds", lambda row: str(row["seeds"])),
]
LEGEND = (
    "● on the Pareto front of top-1 and size. rank: by top-1; settings whose ranks overlap cannot all be told "
    "apart (95%, paired on the same test images). drop: points of top-1 lost. size, MACs, latency, images/s: gain over "
    "dense, so 2× is half the file or twice as fast. ±: 95% interval over seeds, of latency and images/s over rounds, "
    "too. ~: noisy, on no front of latency. –: not measured."
)
WORST = " worst class: the largest loss of a class, in points; noisy where a class has few images."
BUDGET = " budget: epochs that a setting may train for."
CODED = " zstd: as size, of the file after zstandard; dense as it is."
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
ACROSS_LEGEND = (
    "settings: in these tasks together; ranked are methods that were measured in all of them, at the same budgets. "
    "rank: mean over tasks ± standard deviation, 1 is best; ranked by hypervolume, of "
    "all settings of a method in a task. volume: mean hypervolume of kept top-1 against log2 of the gain, from the "
    f"reference point ({FLOOR:.0%} of dense's top-1, 1×), in doublings: 3 is 8× at no loss. More settings can only "
    "raise it. Of latency only gains count whose interval lies above 1×, and no noisy ones."
)
LONGEST_LIST = 80
"""Characters of the tasks that a title lists."""
EMPTY = "No records yet: `bench run` makes some."
CLASS_WIDTH = 12
"""Characters of a class's name that a board shows."""
SETTING_WIDTH = 24
"""Characters that a setting is given before a minor column is."""


def label(setting: str) -> str:
    """A setting as people read it."""
    return "dense" if setting == DENSE else setting


def rank(row: Row) -> str:
    """A rank, or the interval of it."""
    low, high = row["rank_low"], row["rank_high"]
    return "–" if math.isnan(low) else f"{low:.0f}" if low == high else f"{low:.0f}-{high:.0f}"


def worst_class(row: Row) -> str:
    """Points that the worst class loses, and its name."""
    if math.isnan(row["worst_class_drop"]):
        return "–"
    name = str(row["worst_class"] or "") if row["worst_class"] == row["worst_class"] else ""
    cut = name if len(name) <= CLASS_WIDTH else name[: CLASS_WIDTH - 1] + "…"
    return f"{100 * row['worst_class_drop']:.1f} {cut}".rstrip()


def columns_of(summary: DataFrame) -> list[Column]:
    """The columns that have something to show, with one for the latency on each further device."""
    shown = [column for column in COLUMNS if not column.optional or _is_informative(summary, column.name)]
    place = 1 + [column.name for column in shown].index("latency_speedup")
    elsewhere = [name for name in summary if str(name).startswith(ELSEWHERE)]
    shown[place:place] = [
        Column(name, f"latency {number}", _figure(name, "{:.2f}×"), minor=True)
        for number, name in enumerate(map(str, elsewhere), 2)
    ]
    return shown


def _is_informative(summary: DataFrame, name: str) -> bool:
    """Whether an optional column was measured or, for budgets, differs within a task."""
    if name == "budget_epochs":
        return not summary.empty and bool((summary.groupby(TASK)[name].nunique() > 1).any())
    return bool(summary[name].notna().any())


def legend(columns: list[Column]) -> str:
    """What the columns mean."""
    names = [column.name for column in columns]
    told = [LEGEND]
    told += [f" {c.header}: on {c.name.removeprefix(ELSEWHERE)}." for c in columns if c.name.startswith(ELSEWHERE)]
    told += [CODED] if "compressed_ratio" in names else []
    told += [WORST] if "worst_class_drop" in names else []
    told += [BUDGET] if "budget_epochs" in names else []
    return "".join([*told, ATTACKED if "robust_top1" in names else ""])


def rows_of(frame: DataFrame) -> list[Row]:
    """As plain mappings, which are much quicker to read than pandas' rows."""
    return cast("list[Row]", frame.to_dict("records"))


def task_title(task: Iterable[Any]) -> str:
    """Of a task's values, in the order of `TASK`."""
    model, dataset, weights = task
    return f"{model} on {dataset}, weights {weights}"


def board_title(rows: list[Row]) -> str:
    """Of the rows of one task: the task, the budget if there is only one, and the device of the latency."""
    budgets = {row["budget_epochs"] for row in rows}
    budget = "".join(f", budget {value:g} epoch{'' if value == 1 else 's'}" for value in budgets)
    title = task_title(rows[0][name] for name in TASK)
    return f"{title}{budget if len(budgets) == 1 else ''}, {rows[0]['device']}"


def across_title(block: Block) -> str:
    """The number of tasks, and the parts of their names that differ, unless these are long."""
    names = [[str(value) for value in values] for values in zip(*block.tasks, strict=True)]
    told = [position for position, values in enumerate(names) if len(set(values)) > 1]
    listed = ", ".join(" ".join(str(task[position]) for position in told) for task in block.tasks)
    return f"Methods across {len(block.tasks)} tasks" + (f": {listed}" if len(listed) < LONGEST_LIST else "")


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
        blocks = compare_methods(self.summary)
        for block in blocks:
            yield styled("\n" + one_line(across_title(block)), "bold")
            yield _table(rows_of(block.board), ACROSS_COLUMNS)
        if blocks:
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
    for _, board in summary.groupby(TASK, sort=False):
        rows = rows_of(board)
        failures = [
            one_line(f"{row['setting']}, {row['failed']} of {row['failed'] + row['seeds']} seeds: {row['error']}")
            for row in rows
            if row["failed"]
        ]
        yield one_line(board_title(rows)), [row for row in rows if row["seeds"]], failures


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
    blocks = compare_methods(summary)
    for block in blocks:
        lines = [f"**{escaped(across_title(block))}**", "", *_markdown_table(rows_of(block.board), ACROSS_COLUMNS)]
        parts.append("\n" + "\n".join(lines))
    parts += ["\n" + ACROSS_LEGEND] if blocks else []
    return "\n".join(parts) + "\n"


def _markdown_table(rows: list[Row], columns: list[Column]) -> list[str]:
    cells = ([column.write(row) for column in columns] for row in rows)
    return table([column.header for column in columns], [column.numeric for column in columns], cells)
