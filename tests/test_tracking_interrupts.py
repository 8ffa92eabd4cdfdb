"""Ctrl-C while MLflow and the libraries below it are at work: exit code 130, one line, and nothing to mend by hand."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import Undelivered
from bench.tracking import Tracker
from bench.tracking.interrupts import deferred, heeded
from bench.tracking.server import PATIENCE, alone, connect, explained

pytest.importorskip("mlflow")

SAID = "bench: interrupted; finished work is kept, and the same command continues from there\n"


def put(store: Store, *seeds: int) -> None:
    for seed in seeds:
        record = Record(
            fingerprint=f"seed{seed}", status="ok", method="kse", setting="kse(G=4)", model="resnet20", dataset="ramps",
            weights="shipped", seed=seed, budget_epochs=1.0, device="cpu", top1=0.9,
            started_at=f"2026-01-0{seed + 1}T00:00:00+00:00",
        )  # fmt: skip
        with store.prepare(record.fingerprint) as folder:
            write_record(record, folder)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three records with an empty database: to create one takes seconds."""
    store = Store(tmp_path_factory.mktemp("template") / "runs")
    put(store, 0, 1, 2)
    uri = f"sqlite:///{store.root}/mlflow.db"
    with explained(uri, store.root), alone(uri, store.root):
        connect(uri)
    return store.root


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Dropping:
    """Loses whatever is raised while it is destroyed, as Python does for every destructor."""

    def __del__(self) -> None:
        press()


def in_a_destructor() -> None:
    thing = Dropping()
    del thing


def in_a_weak_reference() -> None:
    thing = {1, 2}
    reference = weakref.ref(thing, lambda _: press())
    del thing
    assert reference() is None


def in_a_garbage_collection() -> None:
    gc.callbacks.append(collected := lambda *_: press())
    try:
        gc.collect(0)
    finally:
        gc.callbacks.remove(collected)


def in_a_function_of_sqlite() -> None:
    connection = sqlite3.connect(":memory:")
    connection.create_function("pressed", 0, press)
    try:
        connection.execute("select pressed()")
    finally:
        connection.close()


def in_an_exception_handler_of_a_library() -> None:
    try:
        press()
    except BaseException:
        pass


@pytest.mark.parametrize(
    "lose",
    [
        in_a_destructor,
        in_a_weak_reference,
        in_a_garbage_collection,
        in_a_function_of_sqlite,
        in_an_exception_handler_of_a_library,
    ],
)
def test_an_interrupt_that_a_library_loses_still_ends_the_block(
    lose: Callable[[], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), explained("http://board.example", tmp_path):
        lose()
    with pytest.raises(KeyboardInterrupt):
        heeded()(lose)()
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == (before, hook)
    assert capfd.readouterr() == ("", "")


def test_without_an_interrupt_errors_are_as_they_were(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), heeded():
        raise ZeroDivisionError
    with pytest.raises(Undelivered, match="MLflow at http://board.example: odd; "):
        with explained("http://board.example", tmp_path):
            raise RuntimeError("odd")


def test_a_deferred_interrupt_waits_for_the_end_of_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), deferred():
        press()
        reached = True
    assert reached


def started(*words: object) -> subprocess.Popen[str]:
    code = f"from bench.cli.commands import main; import sys; sys.argv = {['bench', *map(str, words)]!r}; "
    process = subprocess.Popen(
        [sys.executable, "-c", code + "print('ready', flush=True); main()"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_an_interrupt_after_all_is_done_changes_nothing() -> None:
    code = "import atexit, os, signal, sys; from bench.cli.commands import main; sys.argv = ['bench', '--version']; "
    late = "atexit.register(os.kill, os.getpid(), signal.SIGINT); "  # registered first, it runs last
    ended = subprocess.run([sys.executable, "-c", code + late + "main()"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "") and ended.stdout


@pytest.mark.parametrize("seconds", [0.8, 2.5, 4])
def test_sync_is_interrupted_at_any_moment_and_mended_by_the_next(
    seconds: float, template: Path, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    shutil.copytree(template, root)
    process = started("sync", "--store", root)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) in [(130, "", SAID), (0, "3 records delivered\n", "")]

    tracker = Tracker(root)
    tracker.sync(Store(root))
    runs = tracker._experiment.search()
    assert sorted(run.data.tags["kind"] for run in runs) == ["board", "seed", "seed", "seed", "setting"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_ui_is_interrupted_while_it_starts(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    shutil.copytree(template, root)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = started("ui", "--store", root, "--port", port)
    assert process.stderr is not None
    delivered = process.stderr.readline()  # the server is started next, and takes seconds
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, delivered + err) == (130, "", "3 records delivered\n" + SAID)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_what_killed_runs_left_is_tidied_by_the_lock(template: Path, tmp_path: Path) -> None:
    """Whatever process or machine made it: the names say nothing, as another machine may have the same numbers."""
    for name in (".mlflow.db.4321", ".mlflow.db.4321-journal", f".mlflow.db.{os.getpid()}"):
        (tmp_path / name).touch()
    (tmp_path / ".mlflow.db.abc").mkdir()
    (tmp_path / ".mlflow.db.abc" / "mlflow.db").touch()
    shutil.copy(template / "mlflow.db", tmp_path)
    (tmp_path / "mlflow.db.backup").touch()
    Tracker(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", "mlflow.db.backup", ".mlflow.db.lock"}


def test_a_process_that_holds_the_lock_for_too_long_is_no_reason_to_wait(template: Path) -> None:
    uri = f"sqlite:///{template}/mlflow.db"
    code = "from bench.tracking.server import alone; from pathlib import Path; import time\n"
    code += f"with alone({uri!r}, Path()): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Undelivered, match="another process has been delivering there for 0.1 seconds"):
            Tracker(template, patience=0.1)
    finally:
        holder.kill()
        holder.communicate()
    Tracker(template, patience=PATIENCE)
