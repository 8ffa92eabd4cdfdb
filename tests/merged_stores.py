"""Small stores in a folder of a test, to be merged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records.merging import join
from bench.records.record import Record
from bench.records.store import Store, write_record

Say = Callable[..., Any]


def made(fingerprint: str = "f0", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "fingerprint": fingerprint, "status": "ok", "method": "tic", "setting": "tic(k=64)", "model": "resnet20",
        "dataset": "fashion-mnist", "weights": "shipped", "seed": 0, "budget_epochs": 1.0, "device": "cpu",
        "top1": 0.9134, "loss": 0.3, "artifact_bytes": 5, "latency_ms_p50": 1.5, "duration_seconds": 9.0,
        "started_at": "2026-01-02T00:00:00+00:00",
    }  # fmt: skip
    return Record(**values | changes)


def failed(fingerprint: str = "f0", **changes: Any) -> Record:
    return made(fingerprint, status="failed", error="no memory", top1=None, loss=None, artifact_bytes=None, **changes)


def put(root: Path, *records: Record) -> Path:
    for record in records:
        with Store(root).prepare(record.fingerprint) as folder:
            write_record(record, folder)
            (folder / "layers.csv").write_text(f"layer,{root.name}\n")
            if record.status == "ok":
                (folder / "model.safetensors").write_bytes(b"model")
                (folder / "predictions.safetensors").write_bytes(b"predictions")
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def joined(*roots: Path, into: Path, keep: Any = None) -> dict[str, Record]:
    join(roots, into, keep)
    return {record.fingerprint: record for record in Store(into).records()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
