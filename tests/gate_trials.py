"""Trials as the gate sees them, made up here, and what it finds between two of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.gate.check import compare
from bench.gate.expected import Measured, pack_outcomes
from bench.gate.verdict import Finding, Limits, Verdict

CPU = "cpu: One (2 threads)"


def trial(
    setting: str = "tic(k=64)", wrong: range | None = None, images: int = 200, *, kept: bool = True, **changes: Any
) -> Measured:
    """Of its images those in `wrong` are misclassified by one class."""
    missed = range(20) if wrong is None else wrong
    offsets = np.zeros(images, np.int32)
    offsets[list(missed)] = 1
    values: dict[str, Any] = {
        "setting": setting,
        "stages": [{"method": setting}],
        "model": "resnet20",
        "dataset": "fashion-mnist",
        "weights": "shipped",
        "budget_epochs": 1.0,
        "seed": 0,
        "status": "ok",
        "device": CPU,
        "versions": {"torch": "2.11", "cnn-compression-bench": "0.1"},
        "sources": ["abc"],
        "conditions": {"protocol": 1, "dataset_digest": "d"},
        "top1": 1 - len(missed) / images,
        "loss": 0.25,
        "artifact_bytes": 100_000,
        "params": 30_000,
        "macs": 40_000_000,
        "latency_speedup": 1.0,
        "latency_speedup_low": 0.95,
        "latency_speedup_high": 1.05,
        "outcomes": pack_outcomes(offsets) if kept else None,
    }
    return Measured(**{**values, **changes})


def dense(**changes: Any) -> Measured:
    return trial("none", **changes)


def judged(before: Measured, after: Measured, limits: Limits | None = None, **changes: Any) -> dict[str, Finding]:
    """The findings of one trial, with the same dense network beside it on both sides."""
    report = compare([dense(), before], [dense(**changes), after], limits or Limits())
    return {finding.figure: finding for finding in report.rows[1].findings}


def verdicts(found: dict[str, Finding]) -> dict[str, Verdict]:
    return {figure: finding.verdict for figure, finding in found.items() if finding.verdict is not Verdict.SAME}


def timed(ratio: float, half: float, **changes: Any) -> Measured:
    return trial(latency_speedup=ratio, latency_speedup_low=ratio - half, latency_speedup_high=ratio + half, **changes)
