"""A search without networks: methods whose size and accuracy follow formulas, so that the best answer is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.plugins.setting import Pipeline
from bench.records.record import Record

FALLS = {"l1": 0.45, "magnitude": 0.86, "random": 0.3, "tic": 0.5, "kse": 0.55}
"""By method, the strength beyond which accuracy falls steeply."""


def strength(setting: Pipeline) -> float:
    """Of its first stage, from 0 to 1."""
    stage = setting.stages[0]
    assert stage.strength is not None
    wanted = getattr(stage, stage.strength.option)
    return min((abs(stage.strength.value(at / 1000) - wanted), at / 1000) for at in range(1001))[1]


@dataclass
class Curves:
    """Measures settings by formula, and remembers the training that it took.

    The file shrinks by 20 to the power of the strength, and by 32 / bits if a stage has them. Beyond its method's
    place in `FALLS`, a setting loses 40 points for the whole range of strengths; with less than a tenth of an epoch of
    training, it loses more.
    """

    epochs_spent: float = 0.0
    asked: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, settings: Sequence[Pipeline], epochs: float) -> Mapping[str, Record]:
        self.epochs_spent += epochs * len(settings)
        self.asked += [(str(setting), epochs) for setting in settings]
        return {str(setting): record_of(setting, epochs) for setting in settings}


def record_of(setting: Pipeline, epochs: float) -> Record:
    at, bits = strength(setting), [stage.bits for stage in setting.stages if hasattr(stage, "bits")]
    ratio = 20**at * (32 / bits[0] if bits else 1)
    lost = 40 * max(0.0, at - FALLS.get(setting.stages[0].name, 0.5)) + (
        0.6 * (5 - bits[0]) if bits and bits[0] < 5 else 0
    )
    lost += 8 * at * max(0.0, 0.1 - epochs) / 0.1
    return record(str(setting), top1_drop=lost / 100, top1=0.94 - lost / 100, compression_ratio=ratio)


def record(setting: str, **figures: Any) -> Record:
    return Record(
        fingerprint="0" * 16,
        status="ok",
        method="x",
        setting=setting,
        model="m",
        dataset="d",
        weights="w",
        seed=0,
        budget_epochs=1,
        device="cpu",
        started_at="2026-01-01T00:00:00+00:00",
        top1_dense=0.94,
        artifact_bytes=1000,
        **figures,
    )
