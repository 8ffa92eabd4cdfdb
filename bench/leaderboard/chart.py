"""The board as one picture: accuracy against size, MACs and latency, with the Pareto fronts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from bench.leaderboard.answer import Answer
from bench.leaderboard.board import board_title
from bench.leaderboard.columns import label, rows_of
from bench.leaderboard.grouping import DENSE, TASK
from bench.leaderboard.summary import FRONTS
from bench.system.errors import BenchError
from bench.system.text import printable

if TYPE_CHECKING:
    from pandas import DataFrame

COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31", "#636363"]
"""Okabe and Ito's palette, which colour-blind people can distinguish, and three more colours."""
MARKERS = "osD^vP<>X"
SMALL = [0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2]
"""Ticks of an axis on which no setting reaches a gain of 2."""
GAINS = {"compression_ratio": "smaller file", "macs_ratio": "fewer MACs", "latency_speedup": "faster, measured"}
MOST_TASKS = 12
FLOOR = 0.85
"""Settings below this share of the dense network's top-1 are left out of the chart, which says how many."""


def draw(summary: DataFrame, answer: Answer | None = None) -> bytes:
    """A PNG with one row per task: top-1 against file size, MACs and latency. BenchError if nothing was measured.

    With an `answer`, its rows are drawn; the lines remain the fronts of all rows.
    """
    shown = summary if answer is None else answer.shown
    tasks = [rows for _, rows in shown[shown["seeds"] > 0].groupby(TASK, sort=False)]
    if not tasks:
        raise BenchError("there are no measured records to draw")
    if len(tasks) > MOST_TASKS:
        raise BenchError(
            f"{len(tasks)} tasks are too many for one picture of at most {MOST_TASKS}; the page (format html) has all"
        )
    figure = Figure(figsize=(13, 4.6 * len(tasks) + 0.5), layout="constrained")
    for strip, rows in zip(figure.subfigures(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True):
        strip.suptitle(
            printable(board_title(rows_of(rows))), x=0.01, ha="left", fontsize=11, weight="bold", parse_math=False
        )
        panels = strip.subplots(1, len(GAINS), sharey=True)
        for panel, (gain, words) in zip(panels, GAINS.items(), strict=True):
            _draw_panel(panel, rows, gain, _front(summary, rows, gain))
            noted = gain == "latency_speedup" and rows["latency_noisy"].any()
            panel.set_xlabel(f"times {words}" + (" (hollow: noisy)" if noted else ""))
        panels[0].set_ylabel("top-1 %")
        strip.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    if answer is not None and answer.narrowed:
        figure.suptitle(printable(answer.notes[0]), x=0.01, ha="left", fontsize=9, parse_math=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _front(summary: DataFrame, rows: DataFrame, gain: str) -> DataFrame:
    """The front of top-1 and the gain, of the task that the rows are of."""
    of_task = (summary[TASK] == rows[TASK].iloc[0]).all(axis=1)
    return summary[of_task & summary[FRONTS[gain]]].sort_values(gain)


def _draw_panel(panel: Any, rows: DataFrame, gain: str, front: DataFrame) -> None:
    rows = rows.assign(name=rows["method"].where(rows["setting"] != DENSE, label(DENSE)))
    names = list(dict.fromkeys(rows["name"]))
    rows = rows.dropna(subset=[gain, "top1"])
    if rows.empty:
        panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color="#6c757d")
        return
    dense = rows.loc[rows["setting"] == DENSE, "top1"].max()
    floor = FLOOR * (dense if dense == dense else rows["top1"].max())
    seen = rows["top1"] >= floor
    for index, name in enumerate(names):
        own = rows[seen & (rows["name"] == name)].sort_values(gain)
        colour = COLOURS[index % len(COLOURS)]
        style = {"color": "black", "marker": "*", "markersize": 12} if name == label(DENSE) else {"color": colour}
        style = {"marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)], "markersize": 5.5, **style}
        style |= {"linestyle": "none", "elinewidth": 1, "label": printable(name).replace("$", r"\$")}
        _draw_points(panel, own, gain, style)
    panel.step(front[gain], 100 * front["top1"], where="pre", color="#6c757d", linewidth=1, zorder=0)
    top, lowest = 100 * rows["top1"].max(), 100 * (rows["top1"] - rows["top1_ci95"].fillna(0))[seen].min()
    margin = max(1, 0.06 * (top - lowest))
    panel.set_ylim(max(lowest, 100 * floor) - margin, top + margin)
    if below := int((~seen).sum()):
        panel.text(0.02, 0.02, f"{below} below", transform=panel.transAxes, fontsize=8, color="#6c757d")
    panel.set_xscale("log", base=2)
    if rows[gain].max() < 2:
        panel.set_xlim(min(0.9, 0.95 * rows[gain].min()), max(1.25, 1.05 * rows[gain].max()))
    panel.xaxis.set_major_locator(FixedLocator(SMALL) if rows[gain].max() < 2 else LogLocator(base=2))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_points(panel: Any, own: DataFrame, gain: str, style: dict[str, Any]) -> None:
    """Points with their intervals; hollow where a latency is noisy."""
    timed = gain == "latency_speedup"
    hollow = own["latency_noisy"] if timed else own["latency_noisy"] & False
    for noisy, rows in ((False, own[~hollow]), (True, own[hollow])):
        if noisy and rows.empty:
            continue
        across = rows["latency_speedup_ci95"].fillna(0) if timed else None
        look = {**style, "fillstyle": "none", "label": None} if noisy else style
        panel.errorbar(rows[gain], 100 * rows["top1"], 100 * rows["top1_ci95"].fillna(0), across, **look)
