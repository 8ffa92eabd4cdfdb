"""Addresses of MLflow: what is refused, what becomes absolute, and what is never shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError, Undelivered
from bench.tracking import Tracker, is_server, shown, tracking_uri
from bench.tracking.address import VARIABLE, database_path, database_uri, without_secrets
from bench.tracking.delivery import Delivery

pytest.importorskip("mlflow")


def put(store: Store, fingerprint: str) -> None:
    record = Record(
        fingerprint=fingerprint, status="ok", method="kse", setting="kse(G=4)", model="resnet20", dataset="ramps",
        weights="shipped", seed=0, budget_epochs=1.0, device="cpu", top1=0.9, started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    with store.prepare(fingerprint) as folder:
        write_record(record, folder)
        (folder / "layers.csv").write_text("layer,bits\n")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given_uri", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite:///below/../mlflow.db?timeout=5", "sqlite:///{here}/mlflow.db?timeout=5"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("sqlite:////abs/x.db?timeout=5", "sqlite:////abs/x.db?timeout=5"),
        ("./mlruns", "file://{here}/mlruns"),
        ("mlruns", "file://{here}/mlruns"),
        ("file:mlruns", "file://{here}/mlruns"),
        ("file:///abs/a%20b", "file:///abs/a%20b"),
        ("http://board.example:5000/", "http://board.example:5000/"),
        ("postgresql://me:secret@board.example/db", "postgresql://me:secret@board.example/db"),
    ],
)
def test_a_relative_path_is_made_absolute(
    given_uri: str, absolute: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, given_uri)
    assert tracking_uri(here / "runs") == absolute.format(here=here)


def test_the_address_of_a_delivery_outlives_a_change_of_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sqlite:///mlflow.db")
    delivery = Delivery(Store(here / "runs"))
    monkeypatch.chdir("/")
    assert delivery.uri == f"sqlite:///{here}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///:memory:", "a database in memory is lost when the command ends"),
        ("sqlite://", "a database in memory is lost when the command ends"),
        ("sqlite+pysqlite:///", "a database in memory is lost when the command ends"),
        ("sqlite:///file::memory:?uri=true", "a database in memory is lost when the command ends"),
        ("sqlite:///file:x?mode=memory&uri=true", "a database in memory is lost when the command ends"),
        ("sqlite://mlflow.db", "a path follows three slashes"),
        ("sqlite:mlflow.db", "not an address"),
        ("databricks", "Databricks names experiments by workspace paths"),
        ("databricks://profile", "Databricks names experiments by workspace paths"),
    ],
)
def test_an_address_that_cannot_hold_records_is_refused(
    uri: str, reason: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, uri)
    with pytest.raises(BenchError, match=re.escape(f"{VARIABLE} {uri}: {reason}")):
        tracking_uri(here)


def test_a_folder_of_files_is_refused_with_mlflows_condition(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "./mlruns")
    with pytest.raises(Undelivered, match="opens only with MLFLOW_ALLOW_FILE_STORE=true; use a database"):
        Tracker(here / "runs")


@given(name=st.text("abé %?#&=+;:@'\"\\$~", min_size=1, max_size=12))
def test_every_path_has_an_address(name: str) -> None:
    path = Path("/stores") / name / "mlflow.db"
    assert database_path(database_uri(path)) == path


@pytest.mark.parametrize("uri", ["http://board.example", "postgresql://board.example/db", "file:///mlruns"])
def test_other_addresses_have_no_database_file(uri: str) -> None:
    assert database_path(uri) is None
    assert is_server(uri) == uri.startswith("http")


@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec/ret", "sec%40ret", "sec ret", "s?ec#ret", "se:cret"])
def test_a_password_is_never_shown(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"postgresql://me:{password}@board.example/db"
    text = without_secrets(f"cannot open {uri}, password {password}", uri)
    assert "board.example/db" in text and "ret" not in text
    assert shown(uri) == "postgresql://board.example/db"
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    assert without_secrets("Bearer tok-123; ?password=abc&x=1", "http://board.example") == (
        "Bearer ***; ?password=***&x=1"
    )


def test_a_missing_driver_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mysql+no_such_driver://me:hidden@board.example/db")
    with pytest.raises(Undelivered) as caught:
        Tracker(here / "runs")
    assert "MLflow at mysql+no_such_driver://board.example/db: " in str(caught.value)
    assert "hidden" not in str(caught.value) and "\n" not in str(caught.value)


ODD = "a%20b?c#d é"


def bench_without_home(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process whose home and cache cannot be written: they would lie below a file."""
    kept = {name: value for name, value in os.environ.items() if name not in ("BENCH_CACHE", "XDG_CACHE_HOME")}
    code = f"from bench.cli.commands import main; import sys; sys.argv = {['bench', *words]!r}; main()"
    environment = {**kept, "HOME": "/dev/null/x", **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, timeout=300)


def test_a_store_of_any_name_is_delivered_without_a_home(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(here / ODD / "runs")
    put(store, "odd")
    done = bench_without_home("sync", "--store", str(store.root))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 records delivered\n", "")
    assert (store.root / "mlflow.db").is_file() and sorted(path.name for path in here.iterdir()) == ["a%20b?c#d é"]
    tracker = Tracker(store.root)
    (run,) = tracker._experiment.search("tags.fingerprint = 'odd'")
    paths = {file.path for file in tracker._experiment.client.list_artifacts(run.info.run_id)}
    assert paths == {"layers.csv", "record.json"}


def test_a_server_needs_no_cache_but_a_place_for_a_lock(here: Path) -> None:
    server = {VARIABLE: "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    put(Store(here / "runs"), "away")
    done = bench_without_home("sync", "--store", str(here / "runs"), **server)
    assert done.returncode == 2 and done.stderr.startswith(
        "bench: MLflow at http://127.0.0.1:9: Connection refused; the records"
    )
    assert done.stderr.endswith(f"; `bench sync --store {here / 'runs'}` delivers them to MLflow\n")


def test_no_place_for_a_lock_names_the_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", "/dev/null/cache")
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:9")
    with pytest.raises(Undelivered, match="^/dev/null/cache.*; set BENCH_CACHE to a folder that can be written; "):
        Tracker(Path("/dev/null/runs"))


def test_a_cache_that_cannot_be_written_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.cli.usage_errors import worded

    monkeypatch.setenv("BENCH_CACHE", "/dev/null/cache")
    hint = "set BENCH_CACHE to a folder that can be written"
    for name in ("/dev/null/cache", "/dev/null/cache/baselines/a.safetensors"):
        told = worded(NotADirectoryError(20, "Not a directory", name))
        assert name in told and told.endswith(hint)
    for name in ("/dev", "/elsewhere"):
        assert hint not in worded(NotADirectoryError(20, "Not a directory", name))
