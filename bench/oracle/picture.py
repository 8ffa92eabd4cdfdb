"""The picture of `bench oracle`: ranks by criterion and oracle, and the correlation in every layer."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.oracle.comparison import CRITERIA, Comparison
from bench.system.text import printable

READABLE = 24
"""Layers for which the numbers are written into the cells, at most."""
MOST_NAMES = 60
"""Names of layers that fit below the picture, at most."""


def draw(comparison: Comparison) -> bytes:
    """A PNG. Top: the rank of every filter by the oracle against its rank by each criterion. Bottom: the layers."""
    figure = Figure(figsize=(15, 6.6), layout="constrained")
    figure.suptitle(printable(comparison.title), x=0.01, ha="left", weight="bold", parse_math=False)
    rows = figure.add_gridspec(2, 1, height_ratios=(1, 1.25))
    _draw_ranks(figure.add_subfigure(rows[0]), comparison)
    _draw_layers(figure.add_subfigure(rows[1]), comparison)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _draw_ranks(figure: Any, comparison: Comparison) -> None:
    layers = comparison.filters["layer"]
    depth = layers.map({name: number for number, name in enumerate(layers.unique(), start=1)})
    ranks = comparison.normalised[[*CRITERIA, "oracle"]].rank(pct=True)
    raw, normalised = (comparison.summary[column] for column in ("all_layers", "all_layers_normalised"))
    panels = figure.subplots(1, len(CRITERIA), sharey=True)
    for panel, criterion in zip(panels, CRITERIA, strict=True):
        points = panel.scatter(ranks[criterion], ranks["oracle"], c=depth, s=8, alpha=0.7, linewidths=0)
        panel.set_title(f"{criterion}\nρ = {normalised[criterion]:.2f}, raw {raw[criterion]:.2f}", fontsize=10)
        panel.set_box_aspect(1)
        panel.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        panel.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    panels[0].set_ylabel("rank by the oracle")
    middle = panels[len(CRITERIA) // 2]
    middle.set_xlabel(
        f"rank of all {len(layers)} filters by the criterion, each layer divided by its L2 norm (0: least important)"
    )
    figure.colorbar(
        points, ax=panels, label="layer, from the input on", ticks=MaxNLocator(integer=True), shrink=0.85, pad=0.01
    )


def _draw_layers(figure: Any, comparison: Comparison) -> None:
    by_layer = comparison.by_layer
    names, correlations = [str(name) for name in by_layer.index], by_layer.to_numpy().T
    panel = figure.subplots()
    fields = panel.imshow(correlations, cmap="RdBu", norm=Normalize(-1, 1), aspect="auto")
    panel.set_title(
        f"Spearman's ρ with the oracle in each layer, over {comparison.images} held-out images", fontsize=10
    )
    means = comparison.summary["per_layer"]
    panel.set_yticks(range(len(CRITERIA)), [f"{name}\naverage {means[name]:.2f}" for name in CRITERIA])
    step = -(-len(names) // MOST_NAMES)
    panel.set_xticks(range(0, len(names), step), names[::step], rotation=35, ha="right", rotation_mode="anchor")
    panel.tick_params(axis="x", labelsize=8)
    for (row, column), value in np.ndenumerate(correlations):
        if len(names) <= READABLE and np.isfinite(value):
            shade = "white" if abs(value) > 0.6 else "black"
            panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=shade)
    figure.colorbar(fields, ax=panel, pad=0.01)
