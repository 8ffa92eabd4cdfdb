import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError
from bench.tracking import EXPERIMENT, Tracker, tracking_uri
from bench.tracking.delivery import Delivery
from bench.tracking.reading import read
from bench.tracking.server import connect, explained
from bench.trials import run as harness
from bench.trials.plan import Plan

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
    assert f"[Leaderboard]({tracker.page})" in experiment.tags["mlflow.note.content"]
    key = tracker.page.rpartition("=")[2]
    state = json.loads(json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])["state"])
    assert state["orderByKey"] == "metrics.`top1`" and "metrics.`compression_ratio`" in state["selectedColumns"]
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


def seeds_of(store: Store, model: str, *accuracies: float | None, first: int = 0, month: int = 1) -> list[Record]:
    """Records of one setting, a seed each; None failed."""
    records = [
        make_record(
            f"{model}{seed}", model=model, seed=seed, top1=top1, started_at=f"2026-0{month}-0{seed + 1}T00:00:00+00:00",
            **({"status": "failed", "error": "RuntimeError: no luck"} if top1 is None else {}),
        )
        for seed, top1 in enumerate(accuracies, start=first)
    ]  # fmt: skip
    for record in records:
        put(store, record)
    return records


def of_model(client: "MlflowClient", model: str) -> "tuple[Run, list[Run]]":
    """The one run of a setting, and the runs of its seeds."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id], f"tags.model = '{model}'", order_by=["attribute.run_name"])
    (setting,) = (run for run in runs if run.data.tags["kind"] == "setting")
    seeds = [run for run in runs if run.data.tags["kind"] == "seed"]
    assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {setting.info.run_id}
    return setting, seeds


def test_a_setting_is_the_mean_above_its_seeds(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    seeds_of(store, "mean", 0.90, 0.92, 0.94, None)
    tracker.sync(store)
    setting, seeds = of_model(client, "mean")
    assert setting.info.run_name == "tic(k=64)" and setting.info.status == "FINISHED"
    assert [run.info.status for run in seeds] == ["FINISHED", "FINISHED", "FINISHED", "FAILED"]
    figures = setting.data.metrics
    assert figures["top1"] == pytest.approx(0.92) and (figures["seeds"], figures["failed"]) == (3, 1)
    # Student's t of 2 degrees of freedom at 97.5% is 4.3027 (any table); the deviation of the sample is 0.02.
    assert figures["top1_ci95"] == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert figures["compression_ratio"] == 12.3457 and "loss" not in figures
    assert setting.data.params["tic.k"] == "64" and "seed" not in setting.data.params
    assert "recipe.milestones" not in setting.data.params
    assert "no luck" in setting.data.tags["error"] and setting.data.tags["pareto"] == "yes"
    assert all(run.info.run_id in setting.data.tags["mlflow.note.content"] for run in seeds)

    seeds_of(store, "mean", 0.96, first=3, month=2)
    tracker.log(store.get("mean3"), store.folder("mean3"))
    again, _ = of_model(client, "mean")
    assert again.info.run_id == setting.info.run_id
    assert again.data.metrics["top1"] == pytest.approx(0.93) and again.data.metrics["failed"] == 0
    assert again.data.tags["error"] == ""


def test_the_figures_are_the_leaderboards(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    from bench.leaderboard.summary import METRICS, load_records, summarise

    seeds_of(store, "board", 0.8123, 0.8234, 0.8345)
    tracker.sync(store)
    setting, _ = of_model(client, "board")
    (row,) = (row for _, row in summarise(load_records(store.root)).iterrows() if row["model"] == "board")
    expected = {name: row[name] for name in [*METRICS, "top1_ci95", "seeds", "failed"] if row[name] == row[name]}
    assert setting.data.metrics == pytest.approx(expected, rel=1e-5)


def test_the_board_is_a_page_among_the_artifacts(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    seeds_of(store, "paged", 0.8765)
    tracker.sync(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (board,) = client.search_runs([experiment.experiment_id], "tags.kind = 'board'")
    page = store.root / "mlartifacts" / board.info.run_id / "artifacts" / "leaderboard.html"
    assert "87.65" in page.read_text() and "paged on fashion-mnist" in board.data.tags["mlflow.note.content"]


def test_nothing_is_written_twice(
    store: Store, tracker: Tracker, client: "MlflowClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("written again")

    seeds_of(store, "settled", 0.9, 0.92)
    tracker.sync(store)
    for name in ("create_run", "log_batch", "delete_run", "set_terminated", "log_text", "set_experiment_tag"):
        monkeypatch.setattr(tracker._experiment.client, name, refuse)
    assert tracker.sync(store) == 0
    assert not tracker.log(store.get("settled1"), store.folder("settled1"))


def test_what_others_left_is_put_in_order(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    """Runs without parents, as they were at first; a setting's run twice; one cut off; one of a seed that is gone."""
    seeds_of(store, "order", 0.9, 0.92)
    tracker.sync(store)
    setting, seeds = of_model(client, "order")
    for name in ("kind", "mlflow.parentRunId"):
        client.delete_tag(seeds[0].info.run_id, name)
    same = {name: value for name, value in setting.data.tags.items() if not name.startswith("mlflow.run")}
    late = setting.info.start_time + 5
    double = client.create_run(setting.info.experiment_id, late, same, "double")
    client.set_tag(seeds[1].info.run_id, "mlflow.parentRunId", double.info.run_id)
    gone = client.create_run(setting.info.experiment_id, late, same | {"model": "gone"}, "gone")
    assert tracker.sync(store) == 0
    again, both = of_model(client, "order")
    assert again.info.run_id == setting.info.run_id and len(both) == 2
    assert client.get_run(gone.info.run_id).info.lifecycle_stage == "deleted"

    client.delete_run(setting.info.run_id)
    assert tracker.sync(store) == 0
    assert of_model(client, "order")[0].data.metrics == setting.data.metrics


def test_a_figure_that_is_no_longer_true_goes(store: Store, tracker: Tracker, client: "MlflowClient") -> None:
    seeds_of(store, "withdrawn", 0.9)
    tracker.sync(store)
    (failed,) = seeds_of(store, "withdrawn", None, month=2)
    tracker.log(failed, store.folder("withdrawn0"))
    setting, _ = of_model(client, "withdrawn")
    assert "top1" not in setting.data.metrics and setting.info.status == "FAILED"


def test_a_method_twice_in_a_pipeline_has_two_columns() -> None:
    from bench.tracking.runs import parameters

    stages = [{"method": "l1", "rate": 0.5}, {"method": "tic", "k": 8}, {"method": "l1", "rate": 0.25}]
    chosen = parameters(make_record("twice", config={"stages": stages}))
    assert {name: value for name, value in chosen.items() if "." in name} == {
        "1.l1.rate": "0.5", "tic.k": "8", "3.l1.rate": "0.25",
    }  # fmt: skip


def test_two_processes_at_once_deliver_once(tmp_path: Path) -> None:
    """They also create the database and the experiment at once."""
    store = Store(tmp_path / "runs")
    seeds_of(store, "both", 0.9, 0.91, 0.92)
    arguments = ["bench", "sync", "--store", str(store.root)]
    code = f"from bench.cli.commands import main; import sys; sys.argv = {arguments!r}; main()"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert sorted(said) == ["0 records delivered\n", "3 records delivered\n"]
    uri = f"sqlite:///{store.root}/mlflow.db"
    with explained(uri, store.root):
        setting, seeds = of_model(connect(uri), "both")
    assert len(seeds) == 3 and setting.data.metrics["seeds"] == 3


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
