import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.errors import BenchError
from bench.record import Record
from bench.store import Store, write_record
from bench.tracking import EXPERIMENT, Tracker, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytest.importorskip("mlflow")


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
        "config": {"stages": [{"method": "tic", "k": 64}], "recipe": {"milestones": [1, 2]}},
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


def runs_of(client: "MlflowClient", fingerprint: str) -> "list[Run]":
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], f"tags.fingerprint = '{fingerprint}'"))


def test_a_record_becomes_a_run(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    assert tracker.log(make_record("whole"), put(store, make_record("whole")))
    (run,) = runs_of(client, "whole")
    assert run.info.run_name == "tic(k=64) seed 3" and run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 45_500
    assert run.data.metrics == {
        "top1": 0.9312,
        "compression_ratio": 12.3457,
        "macs": 40_000_000,
        "duration_seconds": 45.5,
    }
    assert run.data.params["tic.k"] == "64" and run.data.params["recipe.milestones"] == "[1, 2]"
    assert run.data.params["setting"] == "tic(k=64)" and run.data.params["budget_epochs"] == "1.0"
    assert run.data.tags["model"] == "resnet20" and run.data.tags["bench_version"] == "0.1.0"
    assert sorted(file.path for file in client.list_artifacts(run.info.run_id)) == ["layers.csv", "record.json"]
    assert (store.root / "mlartifacts" / run.info.run_id / "artifacts" / "layers.csv").is_file()


def test_a_record_is_delivered_once(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    folder = put(store, make_record("once"))
    assert tracker.log(make_record("once"), folder)
    assert not tracker.log(make_record("once"), folder)
    tracker.sync(store)
    assert tracker.sync(store) == 0
    assert len(runs_of(client, "once")) == 1


def test_a_failed_record_is_a_failed_run_until_it_succeeds(
    store: Store, tracker: Tracker, client: "MlflowClient"
) -> None:
    failed = make_record("again", status="failed", error="out of memory", top1=None)
    tracker.log(failed, put(store, failed))
    (run,) = runs_of(client, "again")
    assert run.info.status == "FAILED" and run.data.tags["error"] == "out of memory"
    assert "out of memory" in run.data.tags["mlflow.note.content"] and "top1" not in run.data.metrics

    better = make_record("again", started_at="2026-01-02T00:00:00+00:00")
    assert tracker.log(better, put(store, better))
    (run,) = runs_of(client, "again")
    assert run.info.status == "FINISHED" and "error" not in run.data.tags
    assert not tracker.log(failed, store.folder("again"))


def test_sync_replaces_what_was_cut_off_and_removes_doubles(
    store: Store, tracker: Tracker, client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(store, make_record("cut"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracker._client, "log_artifacts", interrupt)
        tracker.log(make_record("cut"), folder)
    assert [run.info.status for run in runs_of(client, "cut")] == ["RUNNING"]
    assert tracker.sync(store) == 1
    assert [run.info.status for run in runs_of(client, "cut")] == ["FINISHED"]

    with monkeypatch.context() as patch:
        patch.setattr(tracker, "_runs", lambda *_: [])
        assert tracker.log(make_record("cut"), folder)
    assert len(runs_of(client, "cut")) == 2
    assert tracker.sync(store) == 0
    assert len(runs_of(client, "cut")) == 1


def test_the_experiment_opens_on_the_leaderboard(tracker: Tracker, client: "MlflowClient") -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert f"[Open the leaderboard]({tracker.page})" in experiment.tags["mlflow.note.content"]
    key = tracker.page.rpartition("=")[2]
    state = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])["state"])
    assert state["orderByKey"] == "metrics.`top1`" and "metrics.`compression_ratio`" in state["selectedColumns"]


def test_a_second_tracker_finds_the_experiment(
    tracker: Tracker, client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Tracker(tracker.root).page == tracker.page
    client.delete_experiment(client.get_experiment_by_name(EXPERIMENT).experiment_id)
    assert Tracker(tracker.root).page == tracker.page
    assert client.get_experiment_by_name(EXPERIMENT).lifecycle_stage == "active"


def test_an_error_is_one_line_that_says_the_records_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.db").write_text("no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/broken.db")
    with pytest.raises(BenchError, match=f"records are safe in {tmp_path}, `bench sync` delivers them") as caught:
        Tracker(tmp_path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0


def test_a_server_that_is_away_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(BenchError, match=r"MLflow at http://127\.0\.0\.1:9: ") as caught:
        Tracker(tmp_path)
    assert "secret" not in str(caught.value)


def test_without_mlflow_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(BenchError, match="pip install mlflow.*--no-tracking"):
        Tracker(tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_users_server_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://board.example:5000")
    assert tracking_uri(tmp_path) == "http://board.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_module_loads_no_mlflow() -> None:
    code = "import bench.tracking, sys; sys.exit(bool({'torch', 'pandas', 'mlflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
