"""Methods side by side at equal size, at equal compressed size and at equal multiply-adds. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain, combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from bench.comparing.answers import Answers, shared_seeds, tell_apart
from bench.leaderboard.columns import Row, rows_of
from bench.leaderboard.grouping import DENSE, LINE, TASK, in_torch, last_measured, one_per_trial
from bench.leaderboard.ranks import Line, answers_of
from bench.leaderboard.summary import records_folder

if TYPE_CHECKING:
    from pandas import DataFrame

TARGETS = (2, 4, 8, 16, 32)
NEAR = 0.05
"""How far a setting may be from a target, as a fraction of it. `bench run --at` searches within 3%, before training."""
GAINS = {"size": "compression_ratio", "compressed": "compressed_ratio", "macs": "macs_ratio"}
"""The measures of `bench run --at`, and the ratio that each of them means."""


@dataclass(frozen=True)
class Cell:
    """One family at one target: the setting, its top-1 with the half width of its interval, and its ratio."""

    method: str
    setting: str
    top1: float
    top1_ci95: float
    ratio: float
    seeds: int
    leads: bool | None = None
    """Whether it is the best of its column, or cannot be told apart from the best; None if that is not known."""


@dataclass(frozen=True)
class Table:
    """The families of one task and budget at the targets that several of them reach.

    A family is a setting without the value of its strength. `cells` has one cell per target for each family, None if no
    setting is near it; families are in the order of `mean_ranks`. `dense` is the top-1 of the dense network, with the
    half width of its interval.
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
    """One table for each task, budget and measure in which two families or more reach the same target.

    If several settings of a family are near a target, the nearest counts, whatever its accuracy.
    """
    measured = in_torch(summary[(summary["seeds"] > 0) & summary["top1"].notna()])
    tables = []
    for key, group in measured.groupby([*TASK, "budget_epochs"]):
        *task, budget = cast("tuple[Any, ...]", key)
        rows = rows_of(group)
        for measure, gain in GAINS.items():
            cells = _cells(rows, gain)
            met = [target for target in TARGETS if sum(target in own for own in cells.values()) > 1]
            if met:
                ranks = mean_ranks(cells, met)
                chosen = {
                    family: [cells[family].get(target) for target in met]
                    for family in sorted(cells, key=lambda family: (ranks[family], family))
                    if cells[family].keys() & set(met)
                }
                tables.append(Table(tuple(task), float(budget), measure, tuple(met), chosen, _dense(rows)))
    return tables


def _cells(rows: Iterable[Row], gain: str) -> dict[str, dict[int, Cell]]:
    """By family and target."""
    cells: dict[str, dict[int, Cell]] = {}
    for row in rows:
        own = cells.setdefault(row["family"], {}) if row["setting"] != DENSE else {}
        for target in TARGETS:
            apart = abs(row[gain] / target - 1)
            if apart <= NEAR and (target not in own or apart < abs(own[target].ratio / target - 1)):
                names = ("method", "setting", "top1", "top1_ci95", gain, "seeds")
                own[target] = Cell(*(row[name] for name in names))
    return {family: own for family, own in cells.items() if own}


def _dense(rows: Iterable[Row]) -> tuple[float, float]:
    """Top-1 of the dense network with the half width of its interval; if it is not among the rows, the mean of the
    figures that they were compared with."""
    for row in rows:
        if row["setting"] == DENSE:
            return row["top1"], row["top1_ci95"]
    return fmean(row["top1"] + row["top1_drop"] for row in rows), math.nan


def mean_ranks(cells: dict[str, dict[int, Cell]], targets: Iterable[int]) -> dict[str, float]:
    """Each family's rank by top-1, as a mean over the targets; 1 is best, ties share.

    A family that lacks a target is ranked there by its next stronger setting, which is smaller still; without one it
    is last. So a method whose weakest setting is beyond a target is not punished, and a method that reaches a target
    never ranks below one that does not reach it and is no better elsewhere.
    """
    import pandas

    top1 = {family: [_top1_from(own, target) for target in targets] for family, own in cells.items()}
    ranks = pandas.DataFrame.from_dict(top1, orient="index").rank(ascending=False)
    return {str(family): float(rank) for family, rank in ranks.mean(axis=1).items()}


def _top1_from(own: dict[int, Cell], target: int) -> float:
    return next((own[further].top1 for further in TARGETS if further >= target and further in own), -math.inf)


def with_leaders(tables: Iterable[Table], records: DataFrame, store: Path | str) -> list[Table]:
    """The tables with `leads` in each cell whose predictions, and those of its column's best, lie in `store`.

    `records` are those that the tables were made from. Within each table, all pairs of settings in the same column are
    compared, and the comparisons are corrected for their number (see `tell_apart`).
    """
    import numpy

    tables = list(tables)
    wanted = {table.line(cell) for table in tables for cell in table.settings}
    trials = one_per_trial(last_measured(records))
    trials = trials[trials["status"] == "ok"]
    is_wanted = [line in wanted for line in trials[LINE].itertuples(index=False, name=None)]
    trials = trials.loc[numpy.array(is_wanted, dtype=bool)]  # an empty list would choose no columns
    answers: dict[Line, Answers] = {}
    for _, task in trials.groupby(TASK, sort=False):
        answers |= answers_of(task, records_folder(Path(store)))
    return [_compared(table, answers) for table in tables]


def _compared(table: Table, answers: dict[Line, Answers]) -> Table:
    cells = {(family, number): cell for family, row in table.cells.items() for number, cell in enumerate(row) if cell}
    places = list(cells)
    settings = [answers.get(table.line(cell), Answers()) for cell in cells.values()]
    columns = [[place for place, (_, of) in enumerate(places) if of == number] for number in range(len(table.targets))]
    kept = [[place for place in column if settings[place].right] for column in columns]
    better = tell_apart(settings, chain.from_iterable(combinations(column, 2) for column in kept))
    for column in columns:
        best = max(column, key=lambda place: cells[places[place]].top1)
        met = [place for place in column if place != best and shared_seeds(settings[place], settings[best])[0]]
        for place in [best, *met] if met else []:
            cells[places[place]] = replace(cells[places[place]], leads=not better[best, place])
    rows = {family: [cells.get((family, number)) for number in range(len(row))] for family, row in table.cells.items()}
    return replace(table, cells=rows)
