"""Whether two records of one trial tell the same, and which of them stands for it.

A trial that was run twice has two records with one fingerprint. They never agree in times: when it was started, how
long it took, what its network's latency was, what memory it took. They should agree in everything else, but not to the
last digit: a GPU adds in no fixed order, and another version of a library may round otherwise. So whole numbers (bytes,
parameters, MACs) and descriptions have to be the same. Other figures agree within a thousandth, or within a hundredth
of their value: `top1` 0.9134 and 0.9141 agree, `loss` 0.30 and 0.31 do not. `worst_class_drop` and figures after
zstandard are left out: the first hangs on a few images, the others on the version of zstandard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from math import isclose
from pathlib import Path
from typing import Any

from bench.records.record import FIGURES, Record

APART, RELATIVELY = 1e-3, 1e-2
"""How far figures that are not whole numbers may be apart: absolutely, or as a share of the larger one. For a fraction
such as an accuracy only the first counts, for a hundredth of it would be a point."""

_DESCRIPTIONS = (
    "method", "setting", "runtime", "model", "dataset", "seed", "budget_epochs", "recalibrate", "norm_statistics",
)  # fmt: skip
_OF_TIME = re.compile(r"latency_\w+|throughput_\w+|\w+_seconds|other_load|peak_memory_mb")
_UNSTEADY = ("worst_class_drop", "artifact_compressed_bytes", "compressed_ratio")
COMPARED = (*_DESCRIPTIONS, *(name for name in FIGURES if not _OF_TIME.fullmatch(name) and name not in _UNSTEADY))
"""The fields in which two records of one trial should agree."""


@dataclass(frozen=True)
class Found:
    """A record in a store, with the files beside it."""

    store: Path
    record: Record
    files: tuple[Path, ...] = ()
    size: int = 0
    """Bytes of its files."""
    whole: bool = True
    """Whether the files that a measured trial leaves are there."""


def differences(first: Record, second: Record) -> list[str]:
    """The fields in which two records of one trial disagree, each with both values."""
    pairs = ((name, _value(first, name), _value(second, name)) for name in COMPARED)
    return [
        f"{name} {_written(one)} and {_written(other)}" for name, one, other in pairs if not _agree(name, one, other)
    ]


def standing(first: Found, second: Found) -> Found | None:
    """Which of two records of a trial stands for it; None where both were measured and their figures differ.

    A trial that was measured goes before one that failed, and one with its files before one that lost them. Otherwise
    the earlier stands, and of equal ones the first.
    """
    if first.record.status != second.record.status:
        return first if first.record.status == "ok" else second
    if first.record.status == "ok" and differences(first.record, second.record):
        return None
    if first.whole != second.whole:
        return first if first.whole else second
    return second if _started(second.record) < _started(first.record) else first


def _value(record: Record, name: str) -> Any:
    value = getattr(record, name)
    return "torch" if name == "runtime" and value is None else value


def _agree(name: str, one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        is_fraction = name in FIGURES and FIGURES[name].unit == "fraction"
        return isclose(one, other, rel_tol=0 if is_fraction else RELATIVELY, abs_tol=APART + 1e-9)
    return bool(one == other)


def _written(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def _started(record: Record) -> float:
    return datetime.fromisoformat(record.started_at).timestamp()
