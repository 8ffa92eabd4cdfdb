"""What `bench oracle` prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bench.oracle.comparison import Comparison
from bench.oracle.picture import draw
from bench.system.files import write_atomically

if TYPE_CHECKING:
    from bench.trials.baseline import Task

LEGEND = "Spearman's correlation with the oracle: how much the loss changes when a filter is gated to zero"


def stem(task: Task) -> str:
    """What a task's files are called."""
    return f"{task.name}-{task.dataset.title}".replace("/", "--").replace(":", "--")


def write(comparison: Comparison, folder: Path, stem: str) -> list[Path]:
    """Every filter's scores as CSV, the correlations by layer as CSV, and the picture of both as PNG."""
    paths = [folder / f"{stem}{ending}" for ending in (".csv", "-layers.csv", ".png")]
    write_atomically(paths[0], comparison.filters.to_csv(index=False).encode())
    write_atomically(paths[1], comparison.by_layer.to_csv(index_label="layer").encode())
    write_atomically(paths[2], draw(comparison))
    return paths


def table(comparison: Comparison) -> Group:
    """The summary as people read it; – where a correlation has no meaning."""
    found = Table("criterion", box=None, pad_edge=False)
    for heading in ("per layer, mean", "all layers", "all layers, normalised"):
        found.add_column(heading, justify="right")
    for name, row in comparison.summary.iterrows():
        found.add_row(str(name), *("–" if pd.isna(value) else f"{value:.2f}" for value in row))
    title = f"{comparison.title}: {len(comparison.filters)} filters, {comparison.images} images"
    return Group(Text(title, style="bold"), found, Text(LEGEND, style="dim"))
