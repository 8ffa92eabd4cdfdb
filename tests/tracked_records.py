"""A store and MLflow beside it, for all tests of a file, and records to deliver."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.tracking import Tracker

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def make_record(fingerprint: str, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "fingerprint": fingerprint,
        "status": "ok",
        "method": "tic",
        "setting": "tic(k=64)",
        "model": "resnet20",
        "dataset": "fashion-mnist",
        "weights": "shipped",
        "seed": 3,
        "budget_epochs": 1.0,
        "device": "cpu",
        "top1": 0.9312,
        "compression_ratio": 12.3456789,
        "macs": 40_000_000,
        "started_at": "2026-01-01T00:00:00+00:00",
        "duration_seconds": 45.5,
        "versions": {"cnn-compression-bench": "0.1.0"},
        "config": {
            "protocol": 1,
            "stages": [{"method": "tic", "k": 64}],
            "sources": ["0f1e2d3c", "4b5a6978"],
            "dataset_digest": "1234567890123456",
            "weights_digest": "6543210987654321",
            "recipe": {"milestones": [1, 2]},
        },
    }
    return Record(**{**values, **changes})


def put(store: Store, record: Record) -> Path:
    with store.prepare(record.fingerprint) as folder:
        write_record(record, folder)
        (folder / "layers.csv").write_text("layer,bits\n")
    return store.folder(record.fingerprint)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all tests, in a folder with a space in its name: to create a database takes seconds."""
    return Store(tmp_path_factory.mktemp("with space") / "runs")


@pytest.fixture(scope="module")
def tracker(store: Store) -> Tracker:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Tracker(store.root)


@pytest.fixture(scope="module")
def client(tracker: Tracker) -> "MlflowClient":
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracker.uri)
