"""Settings in MLflow: a run above those of its seeds, with the leaderboard's figures."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.records.record import Record
from bench.records.store import Store
from bench.tracking import EXPERIMENT, Tracker
from bench.tracking.server import connect, explained

from .tracked_records import client as client
from .tracked_records import make_record, put
from .tracked_records import store as store
from .tracked_records import tracker as tracker

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytest.importorskip("mlflow")


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
