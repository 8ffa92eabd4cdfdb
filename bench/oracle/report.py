"""The report of `bench oracle`: a table for the terminal, the scores as CSV, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Group

from bench.leaderboard.exports import for_spreadsheets
from bench.oracle.comparison import Comparison
from bench.oracle.picture import draw
from bench.system.files import write_atomically
from bench.system.grid import Grid, Heading
from bench.system.terminal import styled
from bench.system.text import encoded, one_line

if TYPE_CHECKING:
    from bench.trials.baseline import Task

LEGEND = "Spearman's correlation with the oracle, which is the change of the loss when a filter is set to zero"


def stem(task: Task) -> str:
    """The name of a task's files, without the ending."""
    return f"{task.name}-{task.dataset.title}".replace("/", "--").replace(":", "--")


def write(comparison: Comparison, folder: Path, stem: str) -> list[Path]:
    """Write the scores of every filter and the correlations by layer as CSV, and the picture of both as PNG."""
    paths = [folder / f"{stem}{ending}" for ending in (".csv", "-layers.csv", ".png")]
    for path, frame in zip(paths, (comparison.filters, comparison.by_layer.reset_index(names="layer")), strict=False):
        write_atomically(path, encoded(for_spreadsheets(frame).to_csv(index=False)))
    write_atomically(paths[2], draw(comparison))
    return paths


def table(comparison: Comparison) -> Group:
    """The summary as a table; – where a correlation is undefined."""
    columns = ("per layer, mean", "all layers", "all layers, normalised")
    rows = Grid([Heading("criterion"), *(Heading(column, right=True, folds=True) for column in columns)], ruled=False)
    for name, row in comparison.summary.iterrows():
        rows.add_row([str(name), *("–" if pd.isna(value) else f"{value:.2f}" for value in row)])
    title = f"{comparison.title}: {len(comparison.filters)} filters, {comparison.images} images"
    return Group(styled(one_line(title), "bold"), rows, styled(LEGEND, "dim"))
