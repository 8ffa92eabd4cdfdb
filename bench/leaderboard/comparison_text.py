"""A comparison of two settings as a terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.comparing.paired import ALPHA
from bench.leaderboard.grouping import budget_title, task_title
from bench.system.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.leaderboard.compare import Comparison, Side

ALMOST_NONE = 1e-6
"""A p-value below this is not written out."""

TWO_SEEDS = (
    " Two seeds: the interval is very wide, because their spread has one degree of freedom; a third seed makes it much "
    "narrower."
)
BOTH = "With re-estimated batch-norm statistics; --no-recalibrate compares the records without."


def render_comparison(comparison: Comparison) -> RenderableType:
    """What was compared, the figures of both side by side, and the verdict."""
    from rich.console import Group

    from bench.system.grid import Grid, Heading
    from bench.system.terminal import styled

    sides = (comparison.first, comparison.second)
    names = [Heading(one_line(side.name).replace(")+", ")\n+"), right=True, folds=True) for side in sides]
    table = Grid([Heading("", folds=True), *names])
    for name, cells in {
        "top-1 %": [f"{100 * side.top1:.2f}" for side in sides],
        "only this one right, images": [f"{count:.4g}" for count in (comparison.only_first, comparison.only_second)],
        "size": [_ratio(side.compression_ratio) for side in sides],
        "MACs": [_ratio(side.macs_ratio) for side in sides],
        "worst class, points lost": [_worst(side) for side in sides],
    }.items():
        table.add_row([name, *cells])
    return Group(
        styled(one_line(_title(comparison)), "bold"),
        table,
        "",
        styled(one_line(f"{comparison.verdict} ({_p(comparison.p)}).")),
        styled(_basis(comparison), "dim"),
        *([styled(BOTH, "dim")] if comparison.both_protocols else []),
    )


def _title(comparison: Comparison) -> str:
    return f"{task_title(comparison.task)}, {budget_title(comparison.budget_epochs)}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def _worst(side: Side) -> str:
    if side.worst_class_drop <= 0:
        return "none"
    return one_line(f"{100 * side.worst_class_drop:.2f} of {side.worst_class} ({side.worst_class_images} images)")


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= ALMOST_NONE else f"p < {ALMOST_NONE:g}"


def _basis(comparison: Comparison) -> str:
    """What the verdict is based on, and what it leaves open."""
    by_seed = ", ".join(f"{100 * value:+.2f}" for value in comparison.by_seed)
    seeds, kept = len(comparison.seeds), len(comparison.seeds_kept)
    text = f"Paired on {comparison.images:,} test images; differences by seed: {by_seed} points; 95% interval."
    if comparison.p <= ALPHA and not comparison.differs:
        text += " These networks differ; whether others of the same settings would is not certain from so few seeds."
    if seeds == 1:
        return text + " One seed: how other seeds would differ is not known."
    text += TWO_SEEDS if seeds == 2 else ""
    return text + (f" Predictions are kept of {kept} of {seeds} seeds." if kept < seeds else "")
