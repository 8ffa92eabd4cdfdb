"""Records of a small board, in a store and summarised."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas
import pytest

from bench.leaderboard.summary import load_records, summarise
from bench.records.record import Record
from bench.records.store import Store, write_record


def make_record(
    setting: str, seed: int = 0, top1: float | None = None, ratio: float | None = None, **changes: Any
) -> Record:
    dataset = changes.get("dataset", "fashion-mnist")
    values: dict[str, Any] = {
        "fingerprint": sha256(f"{setting} {seed} {dataset}".encode()).hexdigest()[:16],
        "status": "ok" if top1 is not None else "failed",
        "method": setting.split("(")[0],
        "setting": setting,
        "model": "resnet20",
        "dataset": dataset,
        "weights": "shipped",
        "seed": seed,
        "budget_epochs": 1.0,
        "device": "cpu",
        "top1": top1,
        "top1_drop": None if top1 is None else 0.94 - top1,
        "compression_ratio": ratio,
        "started_at": "2026-01-01T00:00:00+00:00",
        "config": {"command": "bench run"},
    }
    return Record(**{**values, **changes})


RECORDS = [
    make_record("none", 0, 0.94, 1.0, epochs_spent=1.0, macs_ratio=1.0, latency_speedup=1.0),
    make_record("tic(k=64)", 0, 0.92, 10.0, epochs_spent=1.0, macs_ratio=2.5, latency_speedup=0.98),
    make_record("tic(k=64)", 1, 0.93, 10.0, epochs_spent=1.0, macs_ratio=2.5, latency_speedup=1.0),
    make_record("tic(k=64)", 2, 0.94, 10.0, epochs_spent=1.0, macs_ratio=2.5, latency_speedup=1.02),
    make_record("kse(G=4)", 0, 0.925, 5.0),
    make_record("kse(G=4)", 1, error="out of\nmemory"),
    make_record("l1(granularity=kernel, rate=0.5)+tic(k=128)", 0, 0.9, 20.0),
    make_record("dynamic(rate=0.5)", 0, error="diverged"),
    make_record("tic(k=64)", 0, 0.8, 3.0, dataset="cifar10", budget_epochs=10.0),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for record in RECORDS:
        with Store(tmp_path / "runs").prepare(record.fingerprint) as folder:
            write_record(record, folder)
    return tmp_path / "runs"


@pytest.fixture
def summary(store: Path) -> pandas.DataFrame:
    return summarise(load_records(store))
