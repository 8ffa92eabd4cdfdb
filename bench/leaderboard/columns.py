"""The columns of a board: their headers, how they write figures, and the legend. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.leaderboard.across import FLOOR
from bench.leaderboard.grouping import DENSE, TASK, TORCH
from bench.leaderboard.summary import ELSEWHERE
from bench.records.record import ON

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column as people read it: what it is sorted by, its header, and how it writes a row of the summary."""

    name: str
    header: str
    write: Callable[[Row], str]
    numeric: bool = True
    minor: bool = False
    """Left out first if the terminal is narrow."""
    derived: bool = False
    """Left out next: it follows from other columns, or tells little without them."""
    optional: bool = False
    """Shown only if something was measured or, for the budget, if budgets differ."""


def _figure(name: str, pattern: str, scale: float = 1) -> Callable[[Row], str]:
    return lambda row: "–" if math.isnan(row[name]) else pattern.format(row[name] * scale)


def _gain(name: str) -> Callable[[Row], str]:
    """A gain over the dense network: with two decimals below 100, with none from 100 on."""
    return lambda row: "–" if math.isnan(row[name]) else f"{row[name]:.{2 if row[name] < 99.995 else 0}f}×"


def _spread(name: str, spread: str, pattern: str, scale: float = 1) -> Callable[[Row], str]:
    write, add = _figure(name, pattern, scale), _figure(spread, " ±" + pattern, scale)
    return lambda row: write(row) + ("" if math.isnan(row[spread]) else add(row))


accuracy = _spread("top1", "top1_ci95", "{:.2f}", 100)
"""Top-1 in percent with its interval."""
IGNORED = 0.1
"""If the additions that a formula ignores take off more than this share of the gain in MACs, they are shown."""


def additions_matter(row: Any) -> Any:
    """Whether the gain in MACs is more than a tenth smaller with the additions that the paper's formula ignores.

    Of a row, or of every row of a frame.
    """
    return row["macs_full_ratio"] < (1 - IGNORED) * row["macs_ratio"]


def _macs(row: Row) -> str:
    full = f" ({_gain('macs_full_ratio')(row)})" if additions_matter(row) else ""
    return _gain("macs_ratio")(row) + full


def _timed(name: str) -> Callable[[Row], str]:
    """A speed-up with its interval, and a mark in front if it is noisy."""
    write, add = _gain(f"{name}_speedup"), _figure(f"{name}_speedup_ci95", " ±{:.2f}")

    def cell(row: Row) -> str:
        spread = "" if math.isnan(row[f"{name}_speedup_ci95"]) else add(row)
        return (NOISY if row[f"{name}_noisy"] else "") + write(row) + spread

    return cell


NOISY = "~"
COLUMNS = [
    Column("front", "", lambda row: "●" if row["front"] else "", numeric=False),
    Column("setting", "setting", lambda row: label(row["setting"]), numeric=False),
    Column("top1", "top-1 %", accuracy),
    Column("rank_low", "rank", lambda row: rank(row), derived=True),
    Column("top1_drop", "drop", _figure("top1_drop", "{:.2f}", 100), derived=True),
    Column("worst_class_drop", "worst class", lambda row: worst_class(row), minor=True, optional=True),
    Column("compression_ratio", "size", _gain("compression_ratio")),
    Column("compressed_ratio", "zstd", _gain("compressed_ratio"), minor=True, optional=True),
    Column("macs_ratio", "MACs", _macs),
    Column("latency_speedup", "latency", _timed("latency")),
    Column("throughput_speedup", "images/s", _timed("throughput"), minor=True),
    Column("robust_top1", "robust %", _figure("robust_top1", "{:.2f}", 100), optional=True),
    Column("attack_success_rate", "fooled %", _figure("attack_success_rate", "{:.2f}", 100), optional=True),
    Column("budget_epochs", "budget", _figure("budget_epochs", "{:.4g}"), optional=True),
    Column("epochs_spent", "epochs", _figure("epochs_spent", "{:.4g}"), minor=True),
    Column("seeds", "seeds", lambda row: str(row["seeds"]), derived=True),
]
DOT = "● on a Pareto front: of top-1 and size, MACs or latency."
MEANING = {
    "rank_low": (
        " rank: by top-1; settings whose ranks overlap cannot all be told apart (95%, paired on the same test images)."
    ),
    "top1_drop": " drop: points of top-1 lost.",
}
GAINS = (
    " size, MACs, latency, images/s: gain over dense, so 2× is half the file or twice as fast. ±: 95% interval over "
    "seeds; for latency and images/s, over rounds too."
)
SIGNS = " ~: noisy, on no front of latency. –: not measured."
TWO_SEEDS = (
    " With two seeds, an interval is very wide: ± is 6.4 times their difference (Student's t with one degree of "
    "freedom). A third seed narrows it to about a quarter."
)
ALL_COUNT = " Ranks and ● are among all settings of a task, including those left out."
WORST = " worst class: the largest loss of a class, in points; noisy if a class has few images."
BUDGET = " budget: epochs that a setting may train for."
RUNTIME = " on RUNTIME: the same network, timed with the dense one in that runtime; without a rank."
CODED = " zstd: as size, with the file compressed by zstandard and the dense one not."
BRACKETS = " MACs in brackets: with the additions that a formula ignores, if they take off more than a tenth."
ATTACKED = " robust: top-1 on attacked images; fooled: attacks that succeeded."
ACROSS_COLUMNS = [
    Column("method", "method", lambda row: row["method"], numeric=False),
    Column("tasks", "tasks", lambda row: str(row["tasks"]), minor=True),
    Column("settings", "settings", lambda row: str(row["settings"]), minor=True),
    *(
        column
        for name, header in (("size", "size"), ("macs", "MACs"), ("latency", "latency"))
        for column in (
            Column(f"rank_{name}", f"{header} rank", _spread(f"rank_{name}", f"rank_{name}_sd", "{:.1f}")),
            Column(f"hypervolume_{name}", "volume", _figure(f"hypervolume_{name}", "{:.2f}"), derived=True),
        )
    ),
]
ACROSS_LEGEND = (
    "Only methods that were measured in all of these tasks, at the same budgets, are ranked. settings: number in all "
    "tasks together. rank: mean over tasks ± standard deviation, 1 is best; by the hypervolume of all settings of a "
    "method in a task. volume: mean hypervolume of the kept share of top-1 against log2 of the gain, from the "
    f"reference point ({FLOOR:.0%} of dense's top-1, 1×), in doublings: 3 is 8× at no loss. More settings can only "
    "raise it. Latency counts only if it is not noisy and its interval lies above 1×."
)
CLASS_WIDTH = 12
"""Characters of a class name that a board shows, at most."""


def label(setting: str) -> str:
    """The name of a setting as people read it: `dense` for the dense network."""
    first, on, runtime = setting.partition(ON)
    return f"dense{on}{runtime}" if first == DENSE else setting


def rank(row: Row) -> str:
    """A rank, or an interval of ranks."""
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
    """The columns that have something to show, and one for the latency on each further device."""
    shown = [column for column in COLUMNS if not column.optional or _is_informative(summary, column.name)]
    place = 1 + [column.name for column in shown].index("latency_speedup")
    elsewhere = [name for name in summary if str(name).startswith(ELSEWHERE)]
    shown[place:place] = [
        Column(name, f"latency {number}", _gain(name), minor=True) for number, name in enumerate(map(str, elsewhere), 2)
    ]
    return shown


def _is_informative(summary: DataFrame, name: str) -> bool:
    """Whether an optional column was measured or, for budgets, differs within a task."""
    if name == "budget_epochs":
        return not summary.empty and bool((summary.groupby(TASK)[name].nunique() > 1).any())
    return bool(summary[name].notna().any())


def legend(columns: Sequence[Column], summary: DataFrame) -> str:
    """What the columns of this summary mean."""
    names = [column.name for column in columns]
    told = [DOT, *(text for name, text in MEANING.items() if name in names), GAINS]
    told += [TWO_SEEDS] if has_two_seeds(summary) else []
    told += [SIGNS]
    told += [f" {c.header}: on {c.name.removeprefix(ELSEWHERE)}." for c in columns if c.name.startswith(ELSEWHERE)]
    told += [CODED] if "compressed_ratio" in names else []
    told += [BRACKETS] if additions_matter(summary).any() else []
    told += [WORST] if "worst_class_drop" in names else []
    told += [BUDGET] if "budget_epochs" in names else []
    told += [RUNTIME] if summary["runtime"].fillna(TORCH).ne(TORCH).any() else []
    return "".join([*told, ATTACKED if "robust_top1" in names else ""])


def has_two_seeds(summary: DataFrame) -> bool:
    """Whether an interval of top-1 comes from two seeds."""
    return bool((summary["seeds"].eq(2) & summary["top1_ci95"].notna()).any())


def rows_of(frame: DataFrame) -> list[Row]:
    """The rows as plain mappings, which are much quicker to read than pandas' rows; `to_dict` takes twice as long."""
    names = [str(name) for name in frame]
    columns = [_values(frame[name]) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(column: Series[Any]) -> list[Any]:
    missing: dict[str, Any] = {"na_value": None} if column.dtype == "Int64" else {}
    values: list[Any] = column.to_numpy(dtype=object, **missing).tolist()
    return values
