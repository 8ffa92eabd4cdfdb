"""Which method is best for size, for speed, and at a quarter of the size: in words, from one task's rows.

The rules are those of the board: a figure counts as it is shown, a noisy timing takes no place, a speed-up whose
interval reaches down to 1 is none, and settings that cannot be told apart are named together. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.leaderboard.columns import Row, rows_of
from bench.leaderboard.grouping import DENSE, LINE, budget_title, in_torch
from bench.leaderboard.operating_points import NEAR, Cell, Table
from bench.leaderboard.ranks import Line
from bench.leaderboard.summary import certain
from bench.system.text import counted

if TYPE_CHECKING:
    from pandas import DataFrame

LOST = 1.0
"""Points of top-1 that may be lost by what is called best for size or for speed."""
QUARTER = 4
"""The gain in size at which methods are compared."""
MOST_NAMED = 4
"""Settings that a sentence names; it counts the others."""


@dataclass(frozen=True)
class Named:
    """A setting within a sentence, by the line of its row on the board."""

    setting: str
    line: Line


Sentence = tuple[str | Named, ...]


@dataclass(frozen=True)
class Finding:
    """The answer to one question, such as `For size`."""

    question: str
    sentence: Sentence


def findings(task: DataFrame, tables: Sequence[Table]) -> list[Finding]:
    """The answers for the rows of one task; `tables` are those at equal size and MACs, with or without marks.

    Nothing is answered that was not measured. With several budgets, each answer is over all of them.
    """
    rows = in_torch(task[(task["seeds"] > 0) & task["top1"].notna()])
    rows = rows.assign(counted_latency=certain(rows, "latency_speedup"))
    compressed = rows_of(rows[rows["method"] != DENSE])
    several = rows["budget_epochs"].nunique() > 1
    found = [_for_size(compressed), _for_speed(compressed), *_at_quarter(tables, several)]
    return [finding for finding in found if finding]


def keeps(row: Row) -> bool:
    """Whether a setting loses no more points than `LOST`, rounded as the board shows it."""
    return bool(round(100 * row["top1_drop"], 2) <= LOST)


def _for_size(rows: list[Row]) -> Finding | None:
    """The smallest file among settings that lose little; of equal sizes, the most accurate."""
    measured = [row for row in rows if not math.isnan(row["compression_ratio"])]
    kept = [row for row in measured if keeps(row)]
    if not kept:
        return Finding("For size", (f"no setting loses at most {LOST:g} point.",)) if measured else None
    best = max(kept, key=lambda row: (round(row["compression_ratio"], 2), row["top1"]))
    near = [row for row in kept if row is not best and _is_alike(row, best, "compression_ratio")]
    told: Sentence = (
        f"of the settings that lose at most {LOST:g} point, the smallest file is that of ",
        _named(best),
        f": {best['compression_ratio']:.2f}× smaller, {_lost(best)}.",
    )
    if _may_lose_more(best):
        told += (f" By its interval it may lose more than {LOST:g} point.",)
    return Finding("For size", told + _and_alike(near, f"Within {NEAR:.0%} of that size, ranks overlap with those of "))


def _for_speed(rows: list[Row]) -> Finding | None:
    """The fastest at batch 1 among settings that lose little, of those that are shown to be faster than dense."""
    timed = [row for row in rows if not math.isnan(row["latency_speedup"])]
    if not timed:
        return None
    faster = [row for row in timed if row["counted_latency"] > 1]
    kept = [row for row in faster if keeps(row)]
    noisy = sum(row["latency_noisy"] for row in timed)
    aside = f" {counted(noisy, 'noisy timing takes', 'noisy timings take')} no place." if noisy else ""
    if kept:
        best = max(kept, key=lambda row: row["latency_speedup"])
        told: Sentence = (f"of the settings that lose at most {LOST:g} point, the fastest on single images is ",)
        told += (_named(best), f": {_times(best)} as fast as the dense network, {_lost(best)}.")
        near = [row for row in kept if row is not best and _reaches(row, best)]
        return Finding("For speed", (*told, *_and_alike(near, "Its interval overlaps with that of "), aside))
    told = (f"no setting that loses at most {LOST:g} point is shown to be faster than the dense network on one image.",)
    if faster:
        best = min(faster, key=lambda row: row["top1_drop"])
        told += (" Of those that are faster, ", _named(best), f" loses least: {_times(best)} as fast, {_lost(best)}.")
    return Finding("For speed", (*told, aside))


def _at_quarter(tables: Sequence[Table], several: bool) -> list[Finding]:
    """The most accurate at a quarter of the size, and those that cannot be told apart from it; for each budget."""
    found = []
    for table in tables:
        if table.measure != "size" or QUARTER not in table.targets:
            continue
        place = table.targets.index(QUARTER)
        column = [cells[place] for cells in table.cells.values()]
        cells = sorted((cell for cell in column if cell), key=lambda cell: -cell.top1)
        question = f"At {QUARTER}×" + (f", {budget_title(table.budget)}" if several else "")
        found.append(Finding(question, _of_cells(cells, table)))
    return found


def _of_cells(cells: list[Cell], table: Table) -> Sentence:
    best, *others = cells
    told: Sentence = (
        f"of {counted(len(cells), 'method', 'methods')} at a quarter of the size, the highest top-1 is that of ",
        Named(best.setting, table.line(best)),
        f": {100 * best.top1:.2f}%" + ("" if math.isnan(best.top1_ci95) else f" ±{100 * best.top1_ci95:.2f}") + ".",
    )
    alike = [Named(cell.setting, table.line(cell)) for cell in others if cell.leads]
    unknown = sum(cell.leads is None for cell in others)
    if alike:
        told += (" It cannot be told apart from ", *_joined(alike), ".")
    elif not unknown:
        told += (" It is better than each of the others.",)
    if unknown:
        told += (f" {counted(unknown, 'other was', 'others were')} not compared with it on the same images.",)
    return told


def _is_alike(row: Row, best: Row, gain: str) -> bool:
    """Whether a row has nearly the same gain, and ranks that overlap with those of the best."""
    near = abs(row[gain] / best[gain] - 1) <= NEAR
    return bool(near and row["rank_low"] <= best["rank_high"] and row["rank_high"] >= best["rank_low"])


def _reaches(row: Row, best: Row) -> bool:
    """Whether the interval of a row's speed-up overlaps with the best one's, both as the board shows them."""
    high, low = (round(r["latency_speedup"], 2) + s * round(_half(r), 2) for r, s in ((row, 1), (best, -1)))
    return bool(high >= low)


def _half(row: Row) -> float:
    half = row["latency_speedup_ci95"]
    return 0.0 if math.isnan(half) else float(half)


def _may_lose_more(row: Row) -> bool:
    return bool(100 * (row["top1_drop"] + row["top1_ci95"]) > LOST)  # an interval that is not known is not above


def _named(row: Row) -> Named:
    return Named(row["setting"], tuple(row[name] for name in LINE))


def _times(row: Row) -> str:
    half = f" ±{row['latency_speedup_ci95']:.2f}" if _half(row) else ""
    return f"{row['latency_speedup']:.2f}×{half}"


def _lost(row: Row) -> str:
    spread = "" if math.isnan(row["top1_ci95"]) else f" ±{100 * row['top1_ci95']:.2f}"
    lost = round(100 * row["top1_drop"], 2)
    if lost <= 0:
        return f"no point lost{spread and f' (interval{spread})'}"
    return f"{lost:.2f}{spread} points lost"


def _and_alike(near: list[Row], words: str) -> Sentence:
    return (f" {words}", *_joined([_named(row) for row in near]), ".") if near else ()


def _joined(names: Sequence[Named]) -> Sentence:
    """`a, b and c`, or `a, b, c, d and 3 more`."""
    kept, more = list(names[:MOST_NAMED]), len(names) - MOST_NAMED
    ends: list[str | Named] = [*kept, f"{more} more"] if more > 0 else list(kept)
    told: list[str | Named] = []
    for place, name in enumerate(ends):
        told += ([] if not place else [" and " if place == len(ends) - 1 else ", "]) + [name]
    return tuple(told)
