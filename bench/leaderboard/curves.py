"""Which settings lie on one curve: the operating points of one method. Needs no torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.leaderboard.grouping import DENSE, TASK, TORCH

if TYPE_CHECKING:
    from pandas import DataFrame, Series

_NUMBER = re.compile(r"(?<==)-?\d+(\.\d+)?(e[-+]?\d+)?(?=[,)])")


def curves(summary: DataFrame) -> Series[int]:
    """The number of each row's curve, by the rows of the summary.

    On one curve lie the settings of a task, budget and runtime that differ in the value of their strength alone, which
    is the board's `family`. Settings alone in their family, as of a method that declares no strength, share a curve if
    they differ in numbers alone: `quantize(bits=4)` and `quantize(bits=8)`. The dense network has a curve of its own.
    """
    if summary.empty:
        return summary.index.to_series().astype("int64")
    of = [*TASK, "budget_epochs", "method"]
    rows = summary[of].assign(runtime=summary["runtime"].fillna(TORCH), dense=summary["setting"] == DENSE)
    keys = list(rows)
    alone = rows.assign(family=summary["family"]).groupby([*keys, "family"])["method"].transform("size") == 1
    blank = summary["setting"].map(lambda setting: _NUMBER.sub("#", setting))
    rows["curve"] = summary["family"].where(~alone, blank)
    numbers: Series[int] = rows.groupby([*keys, "curve"], sort=False).ngroup()
    return numbers


def along(points: DataFrame) -> DataFrame:
    """The points of one curve in the order in which they are joined: by size, from the largest file."""
    return points.sort_values(["compression_ratio", "top1"], ascending=[True, False], kind="stable")
