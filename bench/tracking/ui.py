"""MLflow's own UI on a store."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.records.store import Store
from bench.system.errors import BenchError
from bench.system.progress import say
from bench.tracking.server import tracking_uri, without_password
from bench.tracking.tracker import Tracker

HOST = "127.0.0.1"
PATIENCE = 120
"""Seconds that MLflow may take to answer: it loads much, and a slow disk makes it slower."""


def serve(root: Path, port: int) -> None:
    """Deliver what MLflow lacks, print where it shows the board, and serve that until Ctrl-C.

    With a server at `MLFLOW_TRACKING_URI` its address is all. BenchError where the store holds nothing, or the port is
    taken.
    """
    store = Store(root)
    if not store.records():
        raise BenchError(f"--store {root}: no records yet; `bench run` makes some")
    elsewhere = tracking_uri(root).startswith("http")
    if not elsewhere:
        _check_free(port)
    tracker = Tracker(root)
    if delivered := tracker.sync(store):
        say(f"{delivered} records delivered")
    if elsewhere:
        _tell(without_password(tracker.uri).rstrip("/"), tracker)
        return
    with running(tracker.uri, root, port) as process:
        _tell(f"http://{HOST}:{port}", tracker)
        say("Ctrl-C ends it")
        process.wait()
    raise BenchError(f"MLflow's UI ended by itself, exit code {process.returncode}")


def _tell(server: str, tracker: Tracker) -> None:
    """The address of the board and, as only settings of one task may be ranked together, of each task's part."""
    pages = tracker.pages()
    print(f"{server}/{tracker.page}", flush=True)
    for title, page in pages.items() if len(pages) > 1 else ():
        print(f"{title}: {server}/{page}", flush=True)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BenchError(f"--port {port}: {os.strerror(error.errno or 0)}; choose another") from error


@contextmanager
def running(uri: str, root: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The UI's process, answering; Ctrl-C and SIGTERM leave the block, and then it is gone with all its children."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # In the environment, for everybody on the machine can read a command line, and an address may hold a password.
    environment = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_until_up(process, port, log)
            yield process
        except KeyboardInterrupt:
            sys.exit(0)
        finally:
            signal.signal(signal.SIGTERM, handler)
            _end(process)


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    told = log.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.poll()}"]
    raise BenchError(f"MLflow's UI did not come up: {without_password(textwrap.shorten(told[-1], 200))}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
