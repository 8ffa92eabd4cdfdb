"""A board of eight settings and of two tasks, and what is asked of it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas
import pytest

from bench.leaderboard.answer import answer
from bench.leaderboard.question import Question
from bench.leaderboard.summary import summarise
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError

SETTINGS = {
    # top-1, size, MACs, latency with its half width, whether that is noisy, loss of the worst class
    "none": (0.94, 1.0, 1.0, 1.0, 0.01, False, 0.0),
    "quantize(bits=8)": (0.939, 3.997, 1.0, 1.3, 0.2, True, 0.002),
    "tic(k=64)": (0.935, 8.0, 1.1, 0.99, 0.01, False, 0.021),
    "tic(k=16)": (0.92, 16.0, 1.3, 1.02, 0.01, False, 0.05),
    "l1(rate=0.5)": (0.931, 2.0, 2.0, 1.6, 0.01, False, 0.03),
    "l1(rate=0.5)+tic(k=64, transforms=8)": (0.925, 12.0, 2.1, 1.5, 0.01, False, 0.04),
    "kse(G=4)": (0.93, 4.0, 2.5, 1.05, 0.01, False, 0.025),
    "random(rate=0.5)": (0.91, 2.0, 2.0, 1.6, 0.01, False, 0.06),
}


def make(setting: str, **changes: Any) -> Record:
    top1, size, macs, latency, half, noisy, worst = SETTINGS[setting]
    values: dict[str, Any] = {
        "status": "ok", "setting": setting, "model": "resnet20", "dataset": "ramps", "weights": "mine", "seed": 0,
        "method": "+".join(stage.split("(")[0] for stage in setting.split("+")), "budget_epochs": 1.0, "device": "cpu",
        "top1": top1, "top1_drop": 0.94 - top1, "compression_ratio": size, "macs_ratio": macs, "epochs_spent": 1.0,
        "latency_speedup": latency, "latency_speedup_low": latency - half, "latency_speedup_high": latency + half,
        "latency_noisy": noisy, "worst_class": "up", "worst_class_drop": worst,
        "started_at": "2026-01-01T00:00:00+00:00", "config": {"family": setting.split("(")[0]},
    } | changes  # fmt: skip
    key = "".join(str(values[name]) for name in ("setting", "model", "dataset", "budget_epochs"))
    return Record(fingerprint=sha256(key.encode()).hexdigest()[:16], **values)


TWO_TASKS = [
    *(make(setting) for setting in SETTINGS),
    *(make(setting, model="resnet56") for setting in ("none", "kse(G=4)", "random(rate=0.5)")),
]


def board(records: list[Record] | None = None) -> pandas.DataFrame:
    shown = [make(setting) for setting in SETTINGS] if records is None else records
    return summarise(pandas.DataFrame([vars(record) for record in shown]))


def settings(question: Question, summary: pandas.DataFrame | None = None) -> list[str]:
    return list(answer(board() if summary is None else summary, question).rows["setting"])


def refused(question: Question, summary: pandas.DataFrame | None = None) -> str:
    with pytest.raises(BenchError) as raised:
        answer(board() if summary is None else summary, question)
    return str(raised.value)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for record in TWO_TASKS:
        with Store(tmp_path / "runs").prepare(record.fingerprint) as folder:
            write_record(record, folder)
    return tmp_path / "runs"
