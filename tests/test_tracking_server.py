"""A real `mlflow server` that goes away and comes back, and MLflow's UI: processes of their own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.tracking import EXPERIMENT, Tracker, ui
from bench.tracking.delivery import Delivery
from bench.tracking.server import connect, explained

pytest.importorskip("mlflow")
Say = Callable[..., Any]


def put(store: Store, seed: int, top1: float) -> Record:
    record = Record(
        fingerprint=f"seed{seed}", status="ok", method="kse", setting="kse(G=4)", model="resnet20",
        dataset="fashion-mnist", weights="shipped", seed=seed, budget_epochs=1.0, device="cpu", top1=top1,
        started_at=f"2026-01-0{seed + 1}T00:00:00+00:00", duration_seconds=1.0,
    )  # fmt: skip
    with store.prepare(record.fingerprint) as folder:
        write_record(record, folder)
        (folder / "layers.csv").write_text("layer,bits\nconv1,32\n")
        (folder / "curve.png").write_bytes(b"\x89PNG")
    return record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_that_goes_away_loses_nothing_and_doubles_nothing(
    store: Store, tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = f"sqlite:///{tmp_path / 'server.db'}"
    with explained(database, tmp_path):
        connect(database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    records = [put(store, seed, top1) for seed, top1 in enumerate([0.90, 0.92, 0.94])]
    delivery = Delivery(store)
    with ui.running(database, tmp_path, port) as process:
        delivery.send(records[0])
        cut_off = Tracker(store.root)
        client = cut_off._experiment.client
        monkeypatch.setattr(client, "log_artifact", lambda *_: os.killpg(process.pid, signal.SIGKILL))
        with pytest.raises(Exception, match="records are safe"):
            cut_off.log(records[1], store.folder("seed1"))
    assert is_free(port)
    capsys.readouterr()
    delivery.send(records[2])
    said = capsys.readouterr().err
    assert said.startswith(f"warning: MLflow at http://127.0.0.1:{port}: ") and said.count("\n") == 1

    with ui.running(database, tmp_path, port):
        assert Tracker(store.root).sync(store) == 2
        assert Tracker(store.root).sync(store) == 0
        client = connect(os.environ["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        (setting,) = (run for run in runs if run.data.tags["kind"] == "setting")
        seeds = [run for run in runs if run.data.tags["kind"] == "seed"]
        assert sorted(run.data.tags["fingerprint"] for run in seeds) == ["seed0", "seed1", "seed2"]
        assert {run.data.tags["mlflow.parentRunId"] for run in seeds} == {setting.info.run_id}
        assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 5
        assert setting.data.metrics["top1"] == pytest.approx(0.92) and setting.data.metrics["seeds"] == 3
        for run in seeds:
            names = {file.path for file in client.list_artifacts(run.info.run_id)}
            assert names == {"record.json", "layers.csv", "curve.png"}
    assert is_free(port)


def test_the_ui_opens_on_a_store_and_ends(store: Store, port: int) -> None:
    put(store, 0, 0.9)
    code = f"from bench.cli.commands import main; import sys; sys.argv = 'bench ui --port {port} --store'.split(); "
    code += f"sys.argv.append({str(store.root)!r}); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        address, _, view = url.partition("/#/")
        assert address == f"http://127.0.0.1:{port}" and "viewStateShareKey=leaderboard" in view
        with urllib.request.urlopen(f"{address}/", timeout=60) as answer:
            assert b"MLflow" in answer.read()
    finally:
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out == "" and "1 records delivered" in err, err
    assert is_free(port)


def test_a_taken_port_is_one_line(store: Store, bench_command: Say) -> None:
    put(store, 0, 0.9)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        said = bench_command("ui", "--store", store.root, "--port", taken)
    assert said.mistake == f"--port {taken}: Address already in use; choose another"
    assert not (store.root / "mlflow.db").exists()


def test_an_empty_store_has_nothing_to_show(store: Store, bench_command: Say) -> None:
    said = bench_command("ui", "--store", store.root)
    assert said.mistake == f"--store {store.root}: no records yet; `bench run` makes some"
    assert not store.root.exists()


def test_with_a_server_the_ui_is_there_already(
    store: Store, bench_command: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        uri = "http://me:secret@board.example:5000/"
        page = "#/experiments/1"

        def __init__(self, root: Path) -> None:
            assert root == store.root

        def sync(self, found: Store) -> int:
            return len(found.records())

        def pages(self) -> dict[str, str]:
            return {"one task": "#/1", "another": "#/2"}

    put(store, 0, 0.9)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Elsewhere.uri)
    monkeypatch.setattr(ui, "Tracker", Elsewhere)
    said = bench_command("ui", "--store", store.root)
    assert (said.code, said.err) == (0, "1 records delivered\n")
    assert said.out.splitlines() == [
        "http://board.example:5000/#/experiments/1",
        "one task: http://board.example:5000/#/1",
        "another: http://board.example:5000/#/2",
    ]
