"""The tables that a trial leaves beside its record, as CSV: layers, classes and raw timings."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bench.execution.executable import Execution
from bench.measuring.cost import LayerCost
from bench.measuring.evaluation import ClassAccuracy
from bench.measuring.latency import Timing

LAYERS = "layers.csv"
TIMINGS = "timings.csv"


def write_layers(layers: list[LayerCost], path: Path, executed: Mapping[str, Execution]) -> None:
    """One line per convolution and linear layer. Columns that only some encodings have are empty elsewhere.

    `executed`, by column, says in which form the layers were timed, and the speed-up of each form.
    """
    rows = [asdict(layer) | layer.details for layer in layers]
    for column, execution in executed.items():
        for row, form in zip(rows, (execution.layers[layer.name] for layer in layers), strict=True):
            row[column] = form.form
            row[f"{column}_speedup"] = "" if form.speedup is None else f"{form.speedup:.3g}"
    for row in rows:
        del row["details"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or ["name"], restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_classes(classes: list[ClassAccuracy], path: Path) -> None:
    """One line per class with test images; accuracies are fractions."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "images", "top1", "top1_dense", "drop"])
        writer.writerows((one.name, one.images, one.top1, one.top1_dense, one.drop) for one in classes)


def write_timings(timings: list[Timing], path: Path) -> None:
    """The raw samples: one line per round, in milliseconds, in the order in which the rounds were taken."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["batch", "round", "ms", "again_ms", "dense_ms", "dense_again_ms"])
        for timing in timings:
            for number, times in enumerate(timing.times, 1):
                writer.writerow([timing.batch, number, *(f"{value:.6g}" for value in times)])
