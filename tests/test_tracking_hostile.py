"""Runs in MLflow that somebody edited, and text of strangers in its descriptions."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.tracking import EXPERIMENT, Tracker, runs
from bench.tracking.reading import read
from bench.tracking.text import LONGEST, LONGEST_NAME, fitting
from bench.tracking.view import SAVED, TASK_VIEW, views_of_tasks

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

pytest.importorskip("mlflow")


def make_record(fingerprint: str, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "fingerprint": fingerprint, "status": "ok", "method": "kse", "setting": "kse(G=4)", "model": "resnet20",
        "dataset": "ramps", "weights": "shipped", "seed": 0, "budget_epochs": 1.0, "device": "cpu", "top1": 0.9,
        "macs": 40_000_000, "started_at": "2026-01-01T00:00:00+00:00", "duration_seconds": 1.0,
        "config": {"stages": [{"method": "kse", "G": 4}]},
    }  # fmt: skip
    return Record(**{**values, **changes})


def put(store: Store, record: Record) -> None:
    with store.prepare(record.fingerprint) as folder:
        write_record(record, folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("edited") / "runs")


@pytest.fixture(scope="module")
def tracker(store: Store) -> Tracker:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Tracker(store.root)


@pytest.fixture
def client(tracker: Tracker) -> MlflowClient:
    return tracker._experiment.client


def as_run(record: Record, **changes: dict[str, Any]) -> Any:
    """The run of a record as MLflow gives it back, without MLflow; `changes` of its tags, params or metrics."""
    start, end = runs.milliseconds(record)
    content = {"tags": runs.tags(record), "params": runs.parameters(record)}
    content["metrics"] = {name: float(value) for name, value in runs.metrics(record).items()}
    for part, changed in changes.items():
        edited = {**content[part], **changed}
        content[part] = {name: value for name, value in edited.items() if value is not None}
    status = "FINISHED" if record.status == "ok" else "FAILED"
    info = SimpleNamespace(run_id="abc", start_time=start, end_time=end, status=status, experiment_id="1")
    return SimpleNamespace(info=info, data=SimpleNamespace(**content))


def test_what_is_written_is_read_back() -> None:
    back = read(as_run(make_record("back", error=None)))
    assert (back.fingerprint, back.top1, back.macs, back.seed, back.budget_epochs) == ("back", 0.9, 40_000_000, 0, 1.0)
    assert isinstance(back.macs, int) and back.loss is None


@pytest.mark.parametrize(
    ("part", "name", "value", "reason"),
    [
        ("params", "seed", "zero", "seed: 'zero', expected a number"),
        ("params", "seed", "1" * 30, "seed: 1.11111e+29, expected a number below"),
        ("params", "seed", None, "it has no parameter seed"),
        ("params", "budget_epochs", "nan", "budget_epochs: nan"),
        ("params", "setting", None, "it has no parameter setting"),
        ("metrics", "top1", float("nan"), "top1: nan"),
        ("metrics", "top1", 1.5, "top1: "),
        ("metrics", "macs", 0.5, "macs: "),
        ("metrics", "compression_ratio", float("inf"), "compression_ratio: inf"),
        ("tags", "fingerprint", None, "it has no tag fingerprint"),
        ("tags", "fingerprint", "../../etc", "its fingerprint is '../../etc'"),
        ("tags", "fingerprint", "..", "its fingerprint is '..'"),
        ("tags", "started_at", "yesterday", "started_at: 'yesterday'"),
        ("tags", "started_at", None, "it has no tag started_at"),
        ("params", "sources", "abc", "Expecting value"),
        ("params", "sources", '"abc"', "config: sources: "),
    ],
)
def test_a_run_that_is_no_record_says_why(part: str, name: str, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        read(as_run(make_record("edited"), **{part: {name: value}}))


ANY_TEXT = st.none() | st.text(max_size=30) | st.sampled_from(["../x", "1e999", "-1", "nan", "[" * 500, "x" * 9000])
ANY_NUMBER = st.none() | st.floats()


@settings(max_examples=100)
@given(
    params=st.dictionaries(st.sampled_from(runs.PARAMETERS), ANY_TEXT),
    tags=st.dictionaries(st.sampled_from(["fingerprint", "started_at", "error", "status"]), ANY_TEXT),
    metrics=st.dictionaries(st.sampled_from(runs.METRICS), ANY_NUMBER),
)
def test_a_run_is_read_or_refused(params: Any, tags: Any, metrics: Any) -> None:
    try:
        record = read(as_run(make_record("fuzzed"), params=params, tags=tags, metrics=metrics))
    except ValueError:
        return
    assert Record.from_json(record.to_json()) == record


def edited_runs(client: MlflowClient) -> list[str]:
    """Runs of strangers in our experiment, each broken in another way."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    good = as_run(make_record("stranger"))
    edits: list[dict[str, dict[str, str]]] = [
        {"tags": {"fingerprint": "../../../etc/passwd"}},
        {"tags": {"started_at": "\x1b[31mnow"}},
        {"params": {"seed": "[" * 5000}},
        {"params": {}},
    ]
    made = []
    for edit in edits:
        tags, params = good.data.tags | edit.get("tags", {}), good.data.params | edit.get("params", {})
        run = client.create_run(experiment.experiment_id, tags=tags)
        for name, value in params.items() if edit.get("params") != {} else ():
            client.log_param(run.info.run_id, name, value)
        client.set_terminated(run.info.run_id)
        made.append(run.info.run_id)
    return made


def test_edited_runs_are_named_once_and_left_alone(
    store: Store, tracker: Tracker, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    put(store, make_record("ours"))
    tracker.sync(store)
    (ours,) = tracker._runs_of("ours")
    client.set_tag(ours.info.run_id, "started_at", "9999")
    strangers = edited_runs(client)
    capsys.readouterr()
    assert tracker.sync(store) == 1
    said = capsys.readouterr().err
    assert said.startswith("warning: MLflow has runs that hold no record; they are ignored: ")
    assert said.count("\n") == 1 and said.endswith("; and 2 more\n") and "\x1b" not in said and len(said) < 700
    assert ours.info.run_id in said

    assert tracker.sync(store) == 0
    assert capsys.readouterr().err == ""
    for run in [ours.info.run_id, *strangers]:
        assert client.get_run(run).info.lifecycle_stage == "active"
    (setting,) = (run for run in tracker._experiment.search() if run.data.tags.get("kind") == "setting")
    assert setting.data.metrics["seeds"] == 1


def test_values_longer_than_mlflow_keeps_settle(store: Store, tracker: Tracker, client: MlflowClient) -> None:
    """What MLflow cut would differ from what we write, and be written again each time."""
    long = make_record(
        "long", setting="kse(G=4)+" * 2000, dataset="d" * 9000, error="e" * 9000, notes=["n" * 9000],
        config={"stages": [{"method": "kse", "o" * 400: "v" * 9000}]},
    )  # fmt: skip
    put(store, long)
    assert tracker.sync(store) == 1
    before = {run.info.run_id for run in tracker._experiment.search()}
    assert tracker.sync(store) == 0
    assert {run.info.run_id for run in tracker._experiment.search()} == before


def test_text_of_any_characters_is_delivered(store: Store, tracker: Tracker) -> None:
    put(store, make_record("odd-text", model="m\x00\x1b[31m", method="kse", setting="kse(G='é\u2028')"))
    bad = make_record("surrogate", status="failed", error="lone \ud800 half", top1=None)
    put(store, make_record("surrogate"))
    assert tracker.log(bad, store.folder("surrogate"))
    tracker.sync(store)
    assert len(tracker._runs_of("odd-text")) == 1


def test_descriptions_format_nothing_of_strangers() -> None:
    hostile = "x**y** [l](http://e) ![i](http://e/i.png) <img src=x onerror=alert(1)> `c` | cell\n# title\n- item"
    record = make_record("md", setting=hostile, error=hostile, status="failed", notes=[hostile], top1=None)
    note = runs.tags(record)["mlflow.note.content"]
    assert "<img" not in note and "**y**" not in note and "\n# title" not in note
    assert not re.search(r"(?<!\\)[\[`|]", note)
    seeds: list[tuple[Run, Record]] = [(as_run(record), record)]
    row = {"setting": hostile, "model": hostile, "dataset": hostile}
    table = runs._setting_note(row, seeds)  # type: ignore[arg-type]
    assert "<img" not in table and table.splitlines()[-1].count(" | ") == 3


@given(st.text(max_size=40), st.integers(20, 60))
def test_fitting_is_stable_and_short(text: str, longest: int) -> None:
    once = fitting(text * 3, longest)
    assert len(once) <= longest and fitting(once, longest) == once
    once.encode()


def test_long_texts_that_differ_stay_different() -> None:
    one, other = (fitting("x" * 9000 + end) for end in "ab")
    assert one != other and len(one) == LONGEST
    assert len(runs.name(make_record("n", setting="s" * 900, seed=7))) <= LONGEST_NAME


def test_views_that_somebody_edited_are_left_out() -> None:
    good = json.dumps({"name": "a \x1b task"})
    broken = {"1": "{", "2": "[]", "3": "null", "4": "{}", "5": "[" * 100_000}
    tags = {f"{SAVED}{TASK_VIEW}{key}": view for key, view in {**broken, "6": good}.items()}
    assert list(views_of_tasks("1", tags)) == [r"a \x1b task"]
