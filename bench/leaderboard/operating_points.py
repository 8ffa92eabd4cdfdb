"""Methods side by side at equal size, at equal compressed size and at equal multiply-adds. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench.comparing.answers import Answers, shared_seeds, tell_apart
from bench.leaderboard.grouping import DENSE, LINE, TASK, last_measured, one_per_trial
from bench.leaderboard.ranks import Line, answers_of
from bench.leaderboard.summary import records_folder

if TYPE_CHECKING:
    from pandas import DataFrame

TARGETS = (2, 4, 8, 16, 32)
NEAR = 0.05
"""How far from a target a setting may be, as a share of it. `bench run --at` looks for 3% before training."""
GAINS = {"size": "compression_ratio", "compressed": "compressed_ratio", "macs": "macs_ratio"}
"""The measures of `bench run --at`, and the ratio that each brings to a target."""


@dataclass(frozen=True)
class Cell:
    """One family at one target: the setting, its top-1 with the half width of its interval, and the ratio it has."""

    method: str
    setting: str
    top1: float
    top1_ci95: float
    ratio: float
    seeds: int
    leads: bool | None = None
    """Whether it is the best of its column, or cannot be told apart from the best; None where that is not known."""


@dataclass(frozen=True)
class Table:
    """The families of one task and budget at the targets that several of them reach.

    `cells` has, for each family, one cell a target, None where no setting is near it; in the order of `mean_ranks`.
    `dense` is top-1 of the dense network, and the half width of its interval.
    """

    task: tuple[Any, ...]
    budget: float
    measure: str
    targets: tuple[int, ...]
    cells: dict[str, list[Cell | None]]
    dense: tuple[float, float] = (math.nan, math.nan)

    @property
    def settings(self) -> list[Cell]:
        return [cell for row in self.cells.values() for cell in row if cell]

    def line(self, cell: Cell) -> Line:
        """What names the cell's row of the board."""
        return (*self.task, cell.method, cell.setting, self.budget)


def tables_of(summary: DataFrame) -> list[Table]:
    """One table for each task, budget and measure, where two families or more meet at a target.

    Of several settings of a family that are near a target, the nearest counts, whatever its accuracy.
    """
    measured = summary[(summary["seeds"] > 0) & summary["top1"].notna()]
    tables = []
    for key, rows in measured.groupby([*TASK, "budget_epochs"]):
        *task, budget = cast("tuple[Any, ...]", key)
        families = rows[rows["setting"] != DENSE].groupby("family")
        for measure, gain in GAINS.items():
            cells = {str(family): _cells(group, gain) for family, group in families}
            met = [target for target in TARGETS if sum(target in found for found in cells.values()) > 1]
            if met:
                ranks = mean_ranks(cells, met)
                chosen = {
                    family: [cells[family].get(target) for target in met]
                    for family in sorted(cells, key=lambda family: (ranks[family], family))
                    if cells[family].keys() & set(met)
                }
                tables.append(Table(tuple(task), float(budget), measure, tuple(met), chosen, _dense(rows)))
    return tables


def _cells(rows: DataFrame, gain: str) -> dict[int, Cell]:
    cells = {}
    for target in TARGETS:
        apart = (rows[gain] / target - 1).abs()
        if (apart <= NEAR).any():
            row = rows.iloc[int(apart.argmin())]
            top1, spread = row["top1"], row["top1_ci95"]
            cells[target] = Cell(row["method"], row["setting"], top1, spread, row[gain], int(row["seeds"]))
    return cells


def _dense(rows: DataFrame) -> tuple[float, float]:
    """Of the dense network as it was measured with these rows, otherwise as they name it."""
    dense = rows[rows["setting"] == DENSE]
    if len(dense):
        return float(dense["top1"].iloc[0]), float(dense["top1_ci95"].iloc[0])
    return float((rows["top1"] + rows["top1_drop"]).mean()), math.nan


def mean_ranks(cells: dict[str, dict[int, Cell]], targets: Iterable[int]) -> dict[str, float]:
    """Of each family the mean over the targets of its rank by top-1; 1 is best, ties share.

    A family that lacks a target is ranked there by its next stronger setting, which is smaller still; without one it
    is last. So a method that starts beyond a target loses nothing by it, and one that reaches a target is never ranked
    below one that does not reach it and is no better elsewhere.
    """
    targets = list(targets)
    by_target = [{family: _top1_from(found, target) for family, found in cells.items()} for target in targets]
    return {family: sum(_rank(values, family) for values in by_target) / len(targets) for family in cells}


def _top1_from(found: dict[int, Cell], target: int) -> float:
    return next((found[further].top1 for further in TARGETS if further >= target and further in found), -math.inf)


def _rank(values: dict[str, float], family: str) -> float:
    own = values[family]
    return sum((value > own) + (value == own) / 2 for value in values.values()) + 0.5


def with_leaders(tables: Iterable[Table], records: DataFrame, store: Path | str) -> list[Table]:
    """The tables with `leads` in each cell whose predictions, and those of its column's best, lie in `store`.

    `records` are those that the tables were made of. Within each table all pairs of settings in the same column are
    compared, and the comparisons are corrected for their number (see `tell_apart`).
    """
    tables = list(tables)
    trials = one_per_trial(last_measured(records))
    trials = trials[trials["status"] == "ok"]
    answers: dict[Line, Answers] = {}
    for lines in _lines_by_task(tables):
        own = trials[[line in lines for line in trials[LINE].itertuples(index=False, name=None)]]
        answers |= answers_of(own, records_folder(Path(store)))
    return [_compared(table, answers) for table in tables]


def _lines_by_task(tables: Iterable[Table]) -> Iterable[set[Line]]:
    lines: dict[tuple[Any, ...], set[Line]] = {}
    for table in tables:
        lines.setdefault(table.task, set()).update(map(table.line, table.settings))
    return lines.values()


def _compared(table: Table, answers: dict[Line, Answers]) -> Table:
    cells = {(family, number): cell for family, row in table.cells.items() for number, cell in enumerate(row) if cell}
    places = list(cells)
    settings = [answers.get(table.line(cell), Answers()) for cell in cells.values()]
    pairs = [(one, other) for one, other in combinations(range(len(places)), 2) if places[one][1] == places[other][1]]
    better = tell_apart(settings, pairs)
    for number in range(len(table.targets)):
        column = [place for place, (_, of) in enumerate(places) if of == number]
        best = max(column, key=lambda place: cells[places[place]].top1)
        met = [place for place in column if place != best and shared_seeds(settings[place], settings[best])[0]]
        leads = {place: not better[best, place] for place in met} | ({best: True} if met else {})
        cells |= {places[place]: replace(cells[places[place]], leads=bool(leads[place])) for place in leads}
    rows = {family: [cells.get((family, number)) for number in range(len(row))] for family, row in table.cells.items()}
    return replace(table, cells=rows)
