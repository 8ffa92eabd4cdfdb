"""Methods compared across tasks. Size, MACs and latency are ranked separately; one score would hide the trade-off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.leaderboard.grouping import TASK, in_torch, of_one_protocol
from bench.leaderboard.summary import certain

if TYPE_CHECKING:
    from pandas import DataFrame, Series

FLOOR = 0.9
"""Reference point of the hypervolume, at a gain of 1. Below this share of the dense network's top-1, nothing counts."""
GAINS = {"size": "compression_ratio", "macs": "macs_ratio", "latency": "latency_speedup"}
CELL = [*TASK, "budget_epochs"]
"""A cell: one task with one budget. Two methods can be compared in the cells in which both were measured."""


@dataclass(frozen=True)
class Block:
    """Methods that were all measured in the same cells, and the `tasks` of these cells (values in the order of `TASK`).

    `board` has one row per method: `tasks`, `settings`, and three columns for each of `GAINS`. `hypervolume_*` is the
    mean over tasks of the `hypervolume` of the method's settings, `rank_*` the mean of its ranks by hypervolume among
    the block's methods (1 is best, ties share), and `rank_*_sd` the standard deviation of these ranks. A method that
    lacks a gain in one of the cells has no rank and no volume for it. Rows are sorted by rank, size first.
    """

    tasks: list[tuple[Any, ...]]
    board: DataFrame


def compare_methods(summary: DataFrame) -> list[Block]:
    """Compare the methods of a summary, the largest block first; empty if no two methods share two tasks.

    Only methods that were measured in the same cells are ranked together: for each method's set of cells, a block holds
    all methods that were measured in each of them. Tasks measured by an older protocol are left out.
    """
    measured = of_one_protocol(in_torch(summary[summary["seeds"] > 0]))
    points = measured[[*CELL, "method"]].assign(kept=measured["top1"] / (measured["top1"] + measured["top1_drop"]))
    points = points.assign(**{name: certain(measured, gain) for name, gain in GAINS.items()})
    cells: dict[str, frozenset[Any]] = {
        str(method): frozenset(rows[CELL].itertuples(index=False, name=None))
        for method, rows in points.groupby("method")
    }
    blocks = []
    for shared in dict.fromkeys(cells.values()):
        methods = [method for method, own in cells.items() if own >= shared]
        tasks = list(dict.fromkeys(cell[:-1] for cell in sorted(shared)))
        if len(methods) > 1 and len(tasks) > 1:
            met = points[points["method"].isin(methods)]
            met = met[[cell in shared for cell in met[CELL].itertuples(index=False, name=None)]]
            blocks.append(Block(tasks, _ranked(met, len(tasks))))
    return sorted(blocks, key=lambda block: (-len(block.tasks) * len(block.board), -len(block.tasks), block.tasks))


def _ranked(points: DataFrame, tasks: int) -> DataFrame:
    """The board of one block. The mean is taken over the budgets of each task first, then over tasks."""
    board = points.groupby("method").size().to_frame("settings")
    board.insert(0, "tasks", tasks)
    for name in GAINS:
        gains = points.assign(gain=points[name]).groupby([*CELL, "method"])[["kept", "gain"]]
        volumes = gains.apply(lambda rows: hypervolume(rows["kept"], rows["gain"]))
        complete = volumes.groupby("method").transform(lambda own: own.notna().all())
        volumes = volumes.where(complete)
        by_task = volumes.groupby(CELL).rank(ascending=False).groupby([*TASK, "method"]).mean()
        board[f"rank_{name}"] = by_task.groupby("method").mean()
        board[f"rank_{name}_sd"] = by_task.groupby("method").std()
        board[f"hypervolume_{name}"] = volumes.groupby([*TASK, "method"]).mean().groupby("method").mean()
    return board.sort_values([f"rank_{name}" for name in GAINS]).reset_index()


def hypervolume(kept: Series[float], gain: Series[float]) -> float:
    """The area that the points dominate above the reference point, in doublings; NaN if nothing was measured.

    The x-axis is log2 of the gain. The y-axis is the share of the dense network's top-1 that is kept, scaled from 0 at
    `FLOOR` to 1 at no loss. A single setting of gain 8 has area 3 if it loses nothing, and 1.5 if it loses 5%.
    """
    import numpy

    points = numpy.column_stack([kept, gain]).astype(float)
    points = points[~numpy.isnan(points).any(axis=1)]
    if not len(points):
        return math.nan
    height = numpy.clip((points[:, 0] - FLOOR) / (1 - FLOOR), 0, None)
    width = numpy.log2(numpy.clip(points[:, 1], 1, None))
    order = numpy.argsort(-width)
    # From the widest point inwards, each strip is as high as the best point that is at least as wide.
    strips = -numpy.diff(width[order], append=0)
    return float(strips @ numpy.maximum.accumulate(height[order]))
