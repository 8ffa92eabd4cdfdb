"""The board as one picture: accuracy against size, MACs and latency, with the Pareto fronts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from bench.leaderboard.answer import Answer
from bench.leaderboard.board import board_title
from bench.leaderboard.columns import label, rows_of
from bench.leaderboard.curves import along, curves
from bench.leaderboard.grouping import DENSE, TASK
from bench.leaderboard.labels import Box, is_far, place, text_of
from bench.leaderboard.style import style_of
from bench.leaderboard.summary import FRONTS
from bench.system.errors import BenchError
from bench.system.text import printable

if TYPE_CHECKING:
    from pandas import DataFrame

QUIET = "#6c757d"
SMALL = [0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2]
"""Ticks of an axis on which no setting reaches a gain of 2."""
GAINS = {"compression_ratio": "smaller file", "macs_ratio": "fewer MACs", "latency_speedup": "faster, measured"}
MOST_TASKS = 12
FLOOR = 0.85
"""Settings below this share of the dense network's top-1 are left out of the chart, which says how many."""
MOST_NAMED = 6
"""Methods that the legend of a page names; with the dense network and all others it has eight entries."""
OTHERS, OTHER = "#b9bec4", " more"
LETTER = (4.1, 9.0)
"""Width and height of a label's letter, in points."""
KINDS = ("png", "pdf")
PLAIN_PDF = {"Creator": None, "Producer": None, "CreationDate": None}
"""Nothing of the machine and the time, so that equal boards give equal files."""


@dataclass(frozen=True)
class Look:
    """How a picture names methods: all of them, or those `named`; the others are small dots under one name."""

    named: frozenset[str] | None = None

    def has(self, method: str) -> bool:
        return self.named is None or method in self.named


@dataclass(frozen=True)
class Labelled:
    """A panel with the points of its front, which get labels, and all points that it shows."""

    panel: Any
    gain: str
    front: DataFrame
    seen: DataFrame


def draw(summary: DataFrame, answer: Answer | None = None, kind: str = "png") -> bytes:
    """A picture with one row per task: top-1 against file size, MACs and latency. BenchError if nothing was measured.

    With an `answer`, its rows are drawn; the lines of the fronts remain those of all rows. A `kind` of `pdf` is a page
    for printing: vectors, and a legend of at most eight entries, with the methods that are on most fronts.
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
    fronts: list[Labelled] = []
    for strip, rows in zip(figure.subfigures(len(tasks), 1, squeeze=False)[:, 0], tasks, strict=True):
        fronts += _draw_task(strip, rows, summary, Look(prominent(rows) if kind == "pdf" else None))
    if answer is not None and answer.narrowed:
        figure.suptitle(printable(answer.notes[0]), x=0.01, ha="left", fontsize=9, parse_math=False)
    _write_labels(figure, fronts)
    buffer = io.BytesIO()
    metadata: Any = PLAIN_PDF if kind == "pdf" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    return buffer.getvalue()


def prominent(rows: DataFrame) -> frozenset[str]:
    """The methods that a legend of at most eight entries names: those with most points on fronts, then by top-1."""
    compressed = rows[rows["setting"] != DENSE]
    order = compressed.groupby("method")[[*FRONTS.values(), "top1"]].agg(
        dict.fromkeys(FRONTS.values(), "sum") | {"top1": "max"}
    )
    order["fronts"] = order[list(FRONTS.values())].sum(axis=1)
    ranked = order.sort_values(["fronts", "top1"], ascending=False, kind="stable")
    fits = MOST_NAMED + 1 if len(ranked) == MOST_NAMED + 1 else MOST_NAMED
    return frozenset(map(str, ranked.index[:fits]))


def _draw_task(strip: Any, rows: DataFrame, summary: DataFrame, look: Look) -> list[Labelled]:
    """Draw a task's panels; returns what is to be labelled in them."""
    strip.suptitle(
        printable(board_title(rows_of(rows))), x=0.01, ha="left", fontsize=11, weight="bold", parse_math=False
    )
    panels, labelled = strip.subplots(1, len(GAINS), sharey=True), []
    for panel, (gain, words) in zip(panels, GAINS.items(), strict=True):
        drawn = _draw_panel(panel, rows, gain, _front(summary, rows, gain), look)
        labelled += [drawn] if drawn else []
        noted = gain == "latency_speedup" and rows["latency_noisy"].any()
        panel.set_xlabel(f"times {words}" + (" (hollow: noisy)" if noted else ""))
    panels[0].set_ylabel("top-1 %")
    handles, names = panels[0].get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda place: names[place].endswith(OTHER))  # the others come last
    entries = [handles[place] for place in order], [names[place] for place in order]
    strip.legend(*entries, loc="outside right center", frameon=False, fontsize=8)
    return labelled


def _front(summary: DataFrame, rows: DataFrame, gain: str) -> DataFrame:
    """The front of top-1 and the gain, of the task that the rows are of."""
    of_task = (summary[TASK] == rows[TASK].iloc[0]).all(axis=1)
    return summary[of_task & summary[FRONTS[gain]]].sort_values(gain)


def _draw_panel(panel: Any, rows: DataFrame, gain: str, front: DataFrame, look: Look) -> Labelled | None:
    rows = rows.assign(curve=curves(rows))
    names = list(dict.fromkeys(rows.loc[rows["setting"] != DENSE, "method"]))
    rows = rows.dropna(subset=[gain, "top1"])
    if rows.empty:
        panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color=QUIET)
        return None
    dense = rows.loc[rows["setting"] == DENSE, "top1"].max()
    floor = FLOOR * (dense if dense == dense else rows["top1"].max())
    seen = rows[rows["top1"] >= floor]
    _draw_points(panel, seen[seen["setting"] == DENSE], gain, DENSE_STYLE)
    for name in sorted(names, key=lambda name: (not look.has(name), names.index(name))):
        own = seen[(seen["method"] == name) & (seen["setting"] != DENSE)]
        _draw_method(panel, own, gain, name, look)
    _name_others(panel, sum(not look.has(name) for name in names))
    front = front[front["top1"] >= floor]
    panel.step(front[gain], 100 * front["top1"], where="pre", color=QUIET, linewidth=1, zorder=0)
    top, lowest = 100 * rows["top1"].max(), 100 * (seen["top1"] - seen["top1_ci95"].fillna(0)).min()
    margin = max(1, 0.06 * (top - lowest))
    panel.set_ylim(max(lowest, 100 * floor) - margin, top + margin)
    if below := len(rows) - len(seen):
        panel.text(0.02, 0.02, f"{below} below", transform=panel.transAxes, fontsize=8, color=QUIET)
    _arrange_axes(panel, seen[gain])
    return Labelled(panel, gain, front[front["setting"].isin(seen["setting"]) & (front["setting"] != DENSE)], seen)


DENSE_STYLE: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 12, "label": label(DENSE)}


def _draw_method(panel: Any, own: DataFrame, gain: str, name: str, look: Look) -> None:
    """A method's curves, and its points with their intervals."""
    if not look.has(name):
        panel.plot(own[gain], 100 * own["top1"], ".", color=OTHERS, markersize=4, zorder=0.5)
        return
    style = style_of(name)
    for _, points in own.groupby("curve"):
        line = along(points)
        panel.plot(line[gain], 100 * line["top1"], color=style.light, linewidth=0.9, alpha=0.5, zorder=0.8)
    shown = printable(name).replace("$", r"\$")
    _draw_points(
        panel, own, gain, {"color": style.light, "marker": style.matplotlib, "markersize": 5.5, "label": shown}
    )


def _name_others(panel: Any, count: int) -> None:
    if count:
        panel.plot([], [], ".", color=OTHERS, label=f"{count}{OTHER}")


def _draw_points(panel: Any, own: DataFrame, gain: str, style: dict[str, Any]) -> None:
    """Points with their intervals; hollow where a latency is noisy. Without points, the legend still names them."""
    style = {"linestyle": "none", "elinewidth": 1, **style}
    timed = gain == "latency_speedup"
    hollow = own["latency_noisy"] if timed else own["latency_noisy"] & False
    for noisy, rows in ((False, own[~hollow]), (True, own[hollow])):
        if noisy and rows.empty:
            continue
        across = rows["latency_speedup_ci95"].fillna(0) if timed else None
        look = {**style, "fillstyle": "none", "label": None} if noisy else style
        panel.errorbar(rows[gain], 100 * rows["top1"], 100 * rows["top1_ci95"].fillna(0), across, **look)


def _arrange_axes(panel: Any, gains: Any) -> None:
    highest = gains.max()
    panel.set_xscale("log", base=2)
    if highest < 2:
        panel.set_xlim(min(0.9, 0.95 * gains.min()), max(1.25, 1.05 * highest))
    panel.xaxis.set_major_locator(FixedLocator(SMALL) if highest < 2 else LogLocator(base=2))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _write_labels(figure: Figure, panels: Sequence[Labelled]) -> None:
    """Labels beside the points of the fronts. Their places depend on the layout, so they come last."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for each in panels:
        _label(each)


def _label(drawn: Labelled) -> None:
    """Later points of a front first: they are what a reader looks for, and have more room."""
    panel, front = drawn.panel, drawn.front.sort_values(drawn.gain, ascending=False)
    scale = panel.figure.dpi / 72
    texts = [printable(text_of(row["setting"], row["method"])) for row in rows_of(front)]
    sizes = [(LETTER[0] * scale * len(text), LETTER[1] * scale) for text in texts]
    points, marks = _pixels(panel, front, drawn.gain), _pixels(panel, drawn.seen, drawn.gain)
    frame, style = Box(*panel.get_window_extent().extents), {"fontsize": 7, "color": "#343a40", "parse_math": False}
    for text, point, box in zip(texts, points, place(points, sizes, marks, frame), strict=True):
        if box is not None:
            to_panel = panel.transAxes.inverted().transform
            line = {"arrowstyle": "-", "color": QUIET, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
            ends: dict[str, Any] = {"xy": to_panel(point), "xytext": to_panel((box.left, box.bottom))}
            ends |= {"xycoords": "axes fraction", "arrowprops": line if is_far(box, point) else None}
            panel.annotate(text, va="bottom", **ends, **style)


def _pixels(panel: Any, rows: DataFrame, gain: str) -> list[tuple[float, float]]:
    pairs = [*zip(rows[gain], 100 * rows["top1"], strict=True)]
    return [(float(x), float(y)) for x, y in panel.transData.transform(pairs)] if pairs else []
