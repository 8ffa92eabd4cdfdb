"""Settings side by side at equal size, and at equal multiply-adds. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from bench.leaderboard.grouping import TASK, in_torch

if TYPE_CHECKING:
    from pandas import DataFrame

TARGETS = (2, 4, 8, 16, 32)
NEAR = 0.05
"""How far from a target a setting may be, as a share of it. `bench run --at` looks for 3% before training."""
GAINS = {"size": "compression_ratio", "MACs": "macs_ratio"}


@dataclass(frozen=True)
class Cell:
    """One family at one target: the setting, its top-1 with the half width of its interval, and the ratio it has."""

    setting: str
    top1: float
    top1_ci95: float
    ratio: float
    seeds: int


@dataclass(frozen=True)
class Table:
    """The families of one task and budget at the targets that several of them reach.

    `cells` has, for each family, one cell a target, None where no setting is near it. Best first: by the mean of top-1
    over the targets, where one that is not reached counts nothing.
    """

    task: tuple[Any, ...]
    budget: float
    measure: str
    targets: tuple[int, ...]
    cells: dict[str, list[Cell | None]]


def tables_of(summary: DataFrame) -> list[Table]:
    """One table for each task, budget and measure, where two families or more meet at a target.

    Of several settings of a family that are near a target, the nearest counts, whatever its accuracy.
    """
    measured = in_torch(summary[summary["seeds"] > 0])
    tables = []
    for key, rows in measured.groupby([*TASK, "budget_epochs"]):
        *task, budget = cast("tuple[Any, ...]", key)
        for measure, gain in GAINS.items():
            cells = {str(family): _cells(group, gain) for family, group in rows.groupby("family")}
            met = [target for target in TARGETS if sum(target in found for found in cells.values()) > 1]
            if met:
                chosen = {family: [found.get(target) for target in met] for family, found in cells.items()}
                chosen = {family: row for family, row in chosen.items() if any(row)}
                tables.append(Table(tuple(task), float(budget), measure, tuple(met), _best_first(chosen)))
    return tables


def _cells(rows: DataFrame, gain: str) -> dict[int, Cell]:
    cells = {}
    for target in TARGETS:
        apart = (rows[gain] / target - 1).abs()
        if (apart <= NEAR).any():
            row = rows.iloc[int(apart.argmin())]
            cells[target] = Cell(row["setting"], row["top1"], row["top1_ci95"], row[gain], int(row["seeds"]))
    return cells


def _best_first(cells: dict[str, list[Cell | None]]) -> dict[str, list[Cell | None]]:
    def total(family: str) -> float:
        return sum(cell.top1 for cell in cells[family] if cell)

    return {family: cells[family] for family in sorted(cells, key=total, reverse=True)}
