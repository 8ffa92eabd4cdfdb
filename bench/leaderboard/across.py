"""Methods across tasks. Size, MACs and latency are ranked apart: one score for all three would hide the choice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.leaderboard.summary import TASK, certain, of_one_protocol

if TYPE_CHECKING:
    from pandas import DataFrame, Series

FLOOR = 0.9
"""The reference point, with a gain of 1: a network that keeps less of the dense one's top-1 is worth nothing."""
GAINS = {"size": "compression_ratio", "macs": "macs_ratio", "latency": "latency_speedup"}


def compare_methods(summary: DataFrame) -> DataFrame:
    """One row a method: in how many tasks it was measured, with how many settings, and for each of `GAINS` its figures.

    `hypervolume_*` is the mean over tasks of `hypervolume`, all settings of the method in a task taken together;
    `rank_*` the mean of its ranks by that among the methods of a task (1 is best, equals share), `rank_*_sd` their
    standard deviation, null for one task. The order is that of the first rank. Tasks measured by another protocol than
    the newest are left out.
    """
    measured = of_one_protocol(summary[summary["seeds"] > 0])
    kept = measured["top1"] / (measured["top1"] + measured["top1_drop"])
    methods = measured.groupby("method")
    board = methods[["setting"]].size().to_frame("settings")
    board.insert(0, "tasks", methods.apply(lambda rows: len(rows[TASK].drop_duplicates())))
    for name, gain in GAINS.items():
        points = measured[[*TASK, "method"]].assign(kept=kept, gain=certain(measured, gain))
        volumes = points.groupby([*TASK, "method"])[["kept", "gain"]].apply(
            lambda rows: hypervolume(rows["kept"], rows["gain"])
        )
        ranks = volumes.groupby(TASK).rank(ascending=False)
        board[f"rank_{name}"] = ranks.groupby("method").mean()
        board[f"rank_{name}_sd"] = ranks.groupby("method").std()
        board[f"hypervolume_{name}"] = volumes.groupby("method").mean()
    return board.sort_values([f"rank_{name}" for name in GAINS]).reset_index()


def hypervolume(kept: Series[float], gain: Series[float]) -> float:
    """What the points dominate together above the reference point, in doublings; NaN where nothing was measured.

    Across goes log2 of the gain, up goes the share of the dense network's top-1 that is kept, from 0 at `FLOOR` to 1
    where nothing is lost. A single setting of gain 8 that loses nothing has 3, and one that loses 5% has 1.5.
    """
    import numpy

    points = numpy.column_stack([kept, gain]).astype(float)
    points = points[~numpy.isnan(points).any(axis=1)]
    if not len(points):
        return math.nan
    height = numpy.clip((points[:, 0] - FLOOR) / (1 - FLOOR), 0, None)
    width = numpy.log2(numpy.clip(points[:, 1], 1, None))
    order = numpy.argsort(-width)
    # From the widest point inwards, each strip is as high as the best point that reaches this far.
    strips = -numpy.diff(width[order], append=0)
    return float(strips @ numpy.maximum.accumulate(height[order]))
