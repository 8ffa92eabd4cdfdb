"""What each measurement of a trial returns, and the record that is assembled from all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.measuring.cost import Cost
from bench.measuring.evaluation import Accuracy
from bench.measuring.latency import Speed, Timing
from bench.measuring.robustness import Attack, Robustness
from bench.records.record import NormStatistics, Record

Figures = dict[str, Any]
"""Values by field name of the record."""


@dataclass(frozen=True)
class Effort:
    """The cost of compressing: seconds without training, seconds of training, passes over the training images."""

    compress_seconds: float
    fit_seconds: float
    epochs_spent: float


@dataclass(frozen=True)
class Recalibration:
    """Where the batch-norm statistics come from, and the passes over the training images that re-estimated them."""

    norm_statistics: NormStatistics
    recalibration_batches: int = 0
    epochs: float = 0.0


@dataclass(frozen=True)
class Sizes:
    """Bytes of the artifact, of the artifact after zstandard, and of the dense float32 state dict."""

    artifact_bytes: int
    artifact_compressed_bytes: int
    dense_bytes: int

    @property
    def compression_ratio(self) -> float:
        return self.dense_bytes / self.artifact_bytes

    @property
    def compressed_ratio(self) -> float:
        return self.dense_bytes / self.artifact_compressed_bytes


@dataclass(frozen=True)
class Measured:
    """What is measured for every network; `speed` is None if it was not timed."""

    sizes: Sizes
    cost: Cost
    accuracy: Accuracy
    speed: Speed | None
    remarks: list[str]


@dataclass(frozen=True)
class Attacked:
    """An attack and its outcome."""

    attack: Attack
    outcome: Robustness


@dataclass(frozen=True)
class Results:
    """All measurements of one trial; `attacked` is None if no attack was asked for."""

    effort: Effort
    statistics: Recalibration
    measured: Measured
    attacked: Attacked | None = None

    @property
    def figures(self) -> list[Figures]:
        """The part of the record that each measurement fills; no two parts share a name."""
        parts = [
            vars(self.effort),
            _of_statistics(self.statistics),
            _of_sizes(self.measured.sizes),
            _of_cost(self.measured.cost),
            of_accuracy(self.measured.accuracy),
        ]
        parts += [of_speed(self.measured.speed)] if self.measured.speed else []
        return [*parts, _of_attack(self.attacked)] if self.attacked else parts


def assemble(blank: Record, results: Results, notes: Sequence[str], seconds: float) -> Record:
    """The record of a trial that succeeded, from the one that was written before anything was measured."""
    figures = {name: value for part in results.figures for name, value in part.items()}
    return replace(blank, **figures, status="ok", notes=[*blank.notes, *notes], duration_seconds=seconds)


def failed(blank: Record, error: str, notes: Sequence[str], seconds: float) -> Record:
    """The record of a trial that failed: no figures, the reason, and the warnings up to there."""
    return replace(blank, status="failed", error=error, notes=[*blank.notes, *notes], duration_seconds=seconds)


def _of_statistics(statistics: Recalibration) -> Figures:
    return {
        "norm_statistics": statistics.norm_statistics,
        "recalibration_batches": statistics.recalibration_batches,
    }


def _of_sizes(sizes: Sizes) -> Figures:
    ratios = {"compression_ratio": sizes.compression_ratio, "compressed_ratio": sizes.compressed_ratio}
    return vars(sizes) | ratios


def _of_cost(cost: Cost) -> Figures:
    return {
        "params": cost.params,
        "params_dense": cost.params_dense,
        "macs": cost.macs,
        "macs_dense": cost.macs_dense,
        "macs_ratio": cost.macs_ratio,
        "macs_full": cost.macs_full,
        "macs_full_ratio": cost.macs_full_ratio,
        "formula_ratio": cost.formula_ratio,
        "kernel_ratio": cost.kernel_ratio,
        "reachable_share": cost.reachable_share,
    }


def of_accuracy(accuracy: Accuracy) -> Figures:
    return {
        "top1": accuracy.compressed.top1,
        "top5": accuracy.compressed.top5,
        "loss": accuracy.compressed.loss,
        "top1_dense": accuracy.dense.top1,
        "top1_drop": accuracy.top1_drop,
        "agreement": accuracy.agreement,
        "worst_class": accuracy.worst_class.name,
        "worst_class_drop": accuracy.worst_class.drop,
        "calibration_error": accuracy.compressed.calibration_error,
    }


def of_speed(speed: Speed) -> Figures:
    one, many = speed.one, speed.many
    return {
        "latency_ms_p50": one.p50,
        "latency_ms_p90": one.p90,
        "latency_ms_p99": one.p99,
        "latency_dense_ms_p50": one.dense_p50,
        "throughput_batch": many.batch,
        "throughput_ips": many.images_per_second,
        "throughput_dense_ips": many.dense_images_per_second,
        "other_load": speed.other_load,
        "peak_memory_mb": speed.peak_memory_mb,
        **_of_timing("latency", one),
        **_of_timing("throughput", many),
    }


def _of_timing(name: str, timing: Timing) -> Figures:
    speedup, own = timing.speedup, timing.self_speedup
    return {
        f"{name}_speedup": speedup.value,
        f"{name}_speedup_low": speedup.low,
        f"{name}_speedup_high": speedup.high,
        f"{name}_self_speedup_low": own.low,
        f"{name}_self_speedup_high": own.high,
        f"{name}_noisy": bool(timing.noise),
    }


def _of_attack(attacked: Attacked) -> Figures:
    outcome = attacked.outcome
    return {
        "attack_images": len(outcome.labels),
        "attack_distance": attacked.attack.distance,
        "clean_top1": outcome.clean_top1,
        "robust_top1": outcome.robust_top1,
        "attack_success_rate": outcome.attack_success_rate,
        "prediction_change_rate": outcome.prediction_change_rate,
    }
