"""Records sent to MLflow: what a run holds, that it is delivered once, and what is said where MLflow is not there."""

import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.plugins.setting import parse
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.tracking import EXPERIMENT, Tracker, tracking_uri
from bench.tracking.delivery import Delivery
from bench.tracking.reading import read
from bench.trials import run as harness
from bench.trials.plan import Plan

from .tracked_records import client as client
from .tracked_records import make_record, put
from .tracked_records import store as store
from .tracked_records import tracker as tracker

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytest.importorskip("mlflow")


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
        patch.setattr(tracker._experiment.client, "log_artifact", interrupt)
        tracker.log(make_record("cut"), folder)
    assert [run.info.status for run in runs_of(client, "cut")] == ["RUNNING"]
    assert tracker.sync(store) == 1
    assert [run.info.status for run in runs_of(client, "cut")] == ["FINISHED"]

    with monkeypatch.context() as patch:
        patch.setattr(tracker._experiment, "search", lambda *_: [])
        assert tracker.log(make_record("cut"), folder)
    assert len(runs_of(client, "cut")) == 2
    assert tracker.sync(store) == 0
    assert len(runs_of(client, "cut")) == 1


def test_the_experiment_opens_on_the_leaderboard(tracker: Tracker, client: "MlflowClient", store: Store) -> None:
    tracker.log(make_record("opens", model="one", setting="kse(G=4)"), put(store, make_record("opens", model="one")))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    note = experiment.tags["mlflow.note.content"]
    assert f"[Leaderboard]({tracker.page})" in note and "leaderboard.html" in note.splitlines()[0], "one click away"
    key = tracker.page.rpartition("=")[2]
    state = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])["state"])
    assert state["orderByKey"] == "metrics.`top1`" and "metrics.`compression_ratio`" in state["selectedColumns"]
    first = ["attributes.`Run Name`", "runDateAndNestInfo", "metrics.`top1`", "metrics.`top1_ci95`"]
    first += [f"metrics.`{name}`" for name in ("compression_ratio", "macs_ratio", "latency_speedup")]
    assert state["selectedColumns"][: len(first)] == state["columnOrder"][: len(first)] == first
    # Of 1440 pixels, MLflow's menu, margins and boxes to tick take 340.
    assert sum(state["columnWidths"][name] for name in first) <= 1100
    assert state["runListHidden"] and state["compareRunSections"][0]["columns"] == 2
    shown = client.search_runs([experiment.experiment_id], state["searchFilter"], order_by=["metrics.top1 DESC"])
    assert {run.data.tags["kind"] for run in shown} == {"setting"}

    title = "one on fashion-mnist, weights shipped"
    key = tracker.pages()[title].rpartition("=")[2]
    view = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])["state"])
    (run,) = client.search_runs([experiment.experiment_id], view["searchFilter"])
    assert run.info.run_name == "kse(G=4)"


def test_a_description_of_the_users_stays(tracker: Tracker, client: "MlflowClient", store: Store) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "Our group's board")
    tracker.log(make_record("described"), put(store, make_record("described")))
    assert client.get_experiment_by_name(EXPERIMENT).tags["mlflow.note.content"] == "Our group's board"


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
    with pytest.raises(BenchError, match=f"records are safe in {tmp_path}$") as caught:
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
    with pytest.raises(BenchError, match="pip install mlflow`, or run without tracking"):
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


def test_what_a_run_measures_comes_back_from_mlflow(
    quick_timing: None, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records as trials write them, with all of their configuration, not as these tests do."""
    from mlflow.tracking import MlflowClient

    place = Store(tmp_path / "runs")
    plan = Plan(
        settings=parse("none,l1+tic(k=4)"), models=["resnet20"], dataset=f"folder:{image_folder}", weights="scratch",
        epochs=0, seeds=range(2),
    )  # fmt: skip
    outcome = harness.run(plan, place, Delivery(place))
    assert [record.status for record in outcome.records] == ["ok"] * 3
    assert "warning" not in capsys.readouterr().err
    runs = MlflowClient(Tracker(place.root).uri).search_runs(["1"])
    kinds = Counter(run.data.tags["kind"] for run in runs)
    assert kinds == {"seed": 3, "setting": 2, "board": 1}
    back = {record.fingerprint: record for record in (read(run) for run in runs if run.data.tags["kind"] == "seed")}
    for record in outcome.records:
        told = back[record.fingerprint]
        assert (told.setting, told.seed, told.top1) == (record.setting, record.seed, pytest.approx(record.top1))
        assert all(told.config[name] == record.config[name] for name in ("protocol", "sources", "dataset_digest"))
        assert told.recalibrate is record.recalibrate is True
