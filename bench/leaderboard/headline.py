"""The headline of the board: methods at the same operating points, as people read them. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.leaderboard.columns import TWO_SEEDS, Column, Row, accuracy
from bench.leaderboard.grouping import DENSE, budget_title, task_title
from bench.leaderboard.operating_points import NEAR, Cell, Table

LEADS, UNKNOWN, GAP = "◆", "?", "–"
MEASURES = {"size": "size", "compressed": "size after zstandard", "macs": "MACs"}
MEANING = {
    "size": "Size: 2× is half of the dense network's file.",
    "compressed": "Size after zstandard: the file is compressed by zstandard; the dense network's is not.",
    "macs": "MACs: 2× is half of the multiply-adds.",
}
CELLS = (
    f"Top-1 in percent, for the setting of each method whose gain is nearest to the column's, within {NEAR:.0%}. "
    "±: 95% interval over seeds."
)
MARK = (
    f"{LEADS}: the best of its column, or a setting that cannot be told apart from the best (95%, paired on the same "
    "test images, corrected by Holm's method for the number of comparisons in the table)."
)
NOT_COMPARED = f"{UNKNOWN}: not compared with the best; no seed has predictions of both for the same images."
GAPS = f"{GAP}: the method has no setting within {NEAR:.0%}."
ORDER = (
    "Order: by mean rank over the columns. Where a method has no setting, its next stronger one is ranked; without "
    "one, it is last."
)


def points_title(table: Table) -> str:
    """The title of a table: the measure that is equal, the task and the budget."""
    return f"At equal {MEASURES[table.measure]}: {points_place(table)}"


def points_place(table: Table) -> str:
    return f"{task_title(table.task)}, {budget_title(table.budget)}"


def columns_of_points(table: Table) -> list[Column]:
    """The methods, then one column per target; a row has its cell, or None, by the target."""
    marked = any(cell.leads is not None for cell in table.settings)
    method = Column("method", "method", lambda row: row["method"], numeric=False)
    return [method, *(_column(target, marked) for target in table.targets)]


def _column(target: int, marked: bool) -> Column:
    return Column(str(target), f"{target}×", lambda row: cell_text(row[str(target)], marked))


def cell_text(cell: Cell | None, marked: bool) -> str:
    """The figure after its mark. In a table without any marks, no cell gets one, not even the one for unknown."""
    if cell is None:
        return GAP
    mark = {True: LEADS, False: "", None: UNKNOWN if marked else ""}[cell.leads]
    return f"{mark} {accuracy(vars(cell))}".lstrip()


def rows_of_points(table: Table) -> list[Row]:
    """The dense network first, whose top-1 is the same in every column; then the families."""
    top1, ci95 = table.dense
    targets = [str(target) for target in table.targets]
    rows: list[Row] = [
        {"method": family, **dict(zip(targets, cells, strict=True))} for family, cells in table.cells.items()
    ]
    if math.isnan(top1):
        return rows
    dense = Cell(DENSE, DENSE, top1, ci95, ratio=1.0, seeds=1, leads=False)
    return [{"method": "dense, 1×", "setting": DENSE, **dict.fromkeys(targets, dense)}, *rows]


def _is_from_two(cell: Cell) -> bool:
    return cell.seeds == 2 and not math.isnan(cell.top1_ci95)


def legend_of_points(tables: Sequence[Table]) -> str:
    """What these tables mean; empty if there are none."""
    if not tables:
        return ""
    measures = {table.measure for table in tables}
    texts = set()
    for table in tables:
        _, *columns = columns_of_points(table)
        texts |= {column.write(row)[:1] for row in rows_of_points(table) for column in columns}
    told = [CELLS]
    told += [TWO_SEEDS.strip()] if any(_is_from_two(cell) for table in tables for cell in table.settings) else []
    told += [*(text for measure, text in MEANING.items() if measure in measures)]
    told += [MARK] if LEADS in texts else []
    told += [NOT_COMPARED] if UNKNOWN in texts else []
    told += [GAPS] if GAP in texts else []
    return " ".join([*told, ORDER])
