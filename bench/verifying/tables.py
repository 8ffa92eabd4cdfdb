"""The tables beside a record, compared with what they are made from."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measuring.cost import LayerCost
from bench.measuring.evaluation import Accuracy
from bench.records.store import CLASSES, read_text, reason
from bench.trials.tables import LAYERS
from bench.verifying.findings import EXACTLY, Finding, Verdict, together

LARGEST_TABLE = 50_000_000
COLUMNS = (
    "name",
    "shape",
    "encoding",
    "params_dense",
    "params",
    "bits_dense",
    "bits",
    "macs_dense",
    "macs",
    "macs_full",
)
"""The columns of `layers.csv` that the network itself gives."""


def check_layers(path: Path | None, layers: Sequence[LayerCost]) -> list[Finding]:
    """Compare the table of layers with the network's layers."""
    rows = [{name: str(getattr(layer, name)) for name in COLUMNS} for layer in layers]
    return _compared(path, LAYERS, rows)


def check_classes(path: Path | None, accuracy: Accuracy) -> list[Finding]:
    """Compare the table of classes with the submitted predictions."""
    rows = [
        {"class": one.name, "images": one.images, "top1": one.top1, "top1_dense": one.top1_dense, "drop": one.drop}
        for one in accuracy.by_class
    ]
    return _compared(path, CLASSES, rows)


def _compared(path: Path | None, name: str, rows: Sequence[dict[str, Any]]) -> list[Finding]:
    if path is None:
        return []
    try:
        claimed = list(csv.DictReader(io.StringIO(read_text(path, LARGEST_TABLE))))
    except (OSError, ValueError, csv.Error) as error:
        return [Finding(name, Verdict.DIFFERS, note=f"not a table ({reason(error)})")]
    if len(claimed) != len(rows):
        return [Finding(name, Verdict.DIFFERS, f"{len(claimed)} lines", f"{len(rows)} lines")]
    wrong = [
        (f"{name}, line {line}, {column}", theirs.get(column), value)
        for line, (theirs, ours) in enumerate(zip(claimed, rows, strict=True), 2)
        for column, value in ours.items()
        if not _is_same(theirs.get(column), value)
    ]
    return together(name, wrong[:3], Verdict.SAME) or [Finding(name, Verdict.SAME, note="line by line")]


def _is_same(claimed: str | None, value: object) -> bool:
    if not isinstance(value, float) or claimed is None:
        return claimed == str(value)
    try:
        return abs(float(claimed) - value) <= EXACTLY
    except ValueError:
        return False
