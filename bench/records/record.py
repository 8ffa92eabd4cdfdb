"""What one trial leaves behind: a record, and the store it lies in."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError


@dataclass(kw_only=True)
class Record:
    """One trial: task x setting x seed.

    Ratios are dense / compressed, so higher is better; accuracies are fractions in [0, 1]; `*_bytes` are sizes of
    files; MACs are multiply-adds of one image, `macs_full` with the additions and scalings that papers ignore;
    latencies are of one image (batch 1) unless they say otherwise. A figure that was not measured is None, never 0.
    `latency_speedup` is the dense model's median over the compressed one's, timed in turns, and `_low` to `_high` its
    95% interval over those turns; `throughput_*` are at `throughput_batch`, the batch that saturates the device.
    `attack_images` test images were attacked, by at most `attack_distance` levels of 255 a pixel: `clean_top1` is the
    accuracy on them as they are, `robust_top1` under attack.
    """

    __pydantic_config__: ClassVar = ConfigDict(allow_inf_nan=False)

    fingerprint: str
    status: Literal["ok", "failed"]
    error: str | None = None
    method: str
    """The method's name; of a pipeline, the names joined by `+`."""
    setting: str
    """As the command line takes it: `tic(k=64, transforms=4)`."""
    model: str
    dataset: str
    weights: str
    seed: int
    budget_epochs: float
    epochs_spent: float | None = None
    device: str

    top1: float | None = None
    top5: float | None = None
    loss: float | None = None
    top1_dense: float | None = None
    top1_drop: float | None = None
    agreement: float | None = None

    compression_ratio: float | None = None
    formula_ratio: float | None = None
    kernel_ratio: float | None = None
    artifact_bytes: int | None = None
    dense_bytes: int | None = None
    params: int | None = None
    params_dense: int | None = None
    macs: int | None = None
    macs_dense: int | None = None
    macs_ratio: float | None = None
    macs_full: int | None = None
    macs_full_ratio: float | None = None

    latency_ms_p50: float | None = None
    latency_ms_p90: float | None = None
    latency_ms_p99: float | None = None
    latency_dense_ms_p50: float | None = None
    latency_speedup: float | None = None
    latency_speedup_low: float | None = None
    latency_speedup_high: float | None = None
    throughput_ips: float | None = None
    throughput_dense_ips: float | None = None
    throughput_speedup: float | None = None
    throughput_batch: int | None = None
    peak_memory_mb: float | None = None

    compress_seconds: float | None = None
    fit_seconds: float | None = None
    attack_images: int | None = None
    attack_distance: int | None = None
    clean_top1: float | None = None
    robust_top1: float | None = None
    attack_success_rate: float | None = None
    prediction_change_rate: float | None = None

    started_at: str
    """UTC, ISO 8601."""
    duration_seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)

    config: dict[str, Any] = field(default_factory=dict)
    """What it takes to run the trial again: the command, every option, the recipe, digests of data and weights."""
    notes: list[str] = field(default_factory=list)
    """Warnings, as of a method without effect; why a layer stayed dense is in `layers.csv`."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read a record of this or another version: unknown fields are left out, missing ones are None.

        ValueError for a field that is of another type, or holds what cannot have been measured.
        """
        known = {item.name for item in fields(cls)}
        written = json.loads(text)
        if not isinstance(written, dict):
            raise ValueError(f"a {type(written).__name__}, expected an object")
        content = {name: value for name, value in written.items() if name in known}
        try:
            return _plausible(_checker().validate_python(content))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


SHARES = (
    "top1", "top5", "top1_dense", "agreement",
    "clean_top1", "robust_top1", "attack_success_rate", "prediction_change_rate",
)  # fmt: skip
SIGNED = ("top1_drop",)


def _plausible(record: Record) -> Record:
    for name, value in vars(record).items():
        if (
            isinstance(value, int | float)
            and name not in SIGNED
            and not 0 <= value <= (1 if name in SHARES else math.inf)
        ):
            raise ValueError(f"{name}: {value:g}, expected a number from 0" + (" to 1" if name in SHARES else ""))
    try:
        datetime.fromisoformat(record.started_at)
    except ValueError:
        raise ValueError(
            f"started_at: {record.started_at!r}, expected a time as in 2026-01-31T12:00:00+00:00"
        ) from None
    return record


@cache
def _checker() -> TypeAdapter[Record]:
    return TypeAdapter(Record)
