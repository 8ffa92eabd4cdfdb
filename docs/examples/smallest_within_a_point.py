"""Which setting makes the smallest file and loses at most one point of top-1? python smallest_within_a_point.py STORE

Reads the records of a store into pandas and answers twice: by the mean over seeds, and with the whole 95% interval of
the mean within the limit. `bench leaderboard --max drop=1 --sort size` asks the board the first question; `bench find`
searches for a setting that nobody has measured yet.
"""

from __future__ import annotations

import argparse

import pandas as pd
from scipy.stats import t

import bench

TASK = ["model", "dataset", "weights", "budget_epochs"]
"""Settings are comparable within one of these."""


def by_setting(records: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: mean points lost, the upper end of their 95% interval, gains, and the number of seeds."""
    measured = records[(records["status"] == "ok") & (records["method"] != "none")]
    groups = measured.assign(lost=100 * measured["top1_drop"]).groupby([*TASK, "setting"])
    table = groups[["lost", "compression_ratio", "latency_speedup"]].mean()
    table["seeds"] = groups.size()
    half = groups["lost"].sem() * t.ppf(0.975, (table["seeds"] - 1).where(table["seeds"] > 1))
    return table.assign(at_most=table["lost"] + half).reset_index()


def smallest(table: pd.DataFrame, column: str, points: float) -> pd.DataFrame:
    """The smallest file of each task whose `column` is within so many points; one row per task."""
    within = table[table[column] <= points]
    return within.loc[within.groupby(TASK)["compression_ratio"].idxmax()]


def main() -> None:
    parser = argparse.ArgumentParser(description="The smallest file that loses at most so many points of top-1.")
    parser.add_argument("store", help="a folder that bench run has written, such as runs")
    parser.add_argument("points", type=float, nargs="?", default=1.0)
    given = parser.parse_args()
    table = by_setting(bench.load_records(given.store))
    for column, words in (("lost", "by the mean over seeds"), ("at_most", "with the whole 95% interval")):
        print(f"\nsmallest file within {given.points:g} points, {words}:")
        for row in smallest(table, column, given.points).itertuples():
            print(
                f"  {row.model} on {row.dataset}, budget {row.budget_epochs:g}: {row.setting}, "
                f"{row.compression_ratio:.2f}x smaller, {row.lost:.2f} points lost (at most {row.at_most:.2f}), "
                f"{row.seeds} seeds"
            )


if __name__ == "__main__":
    main()
