"""Starts MLflow's own UI on a store."""

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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.records.store import Store
from bench.system.errors import BadArgument, BenchError
from bench.system.progress import say
from bench.tracking.address import is_server, shown, tracking_uri, without_secrets
from bench.tracking.interrupts import deferred
from bench.tracking.tracker import Tracker

HOST = "127.0.0.1"
PATIENCE = 120
"""Seconds that MLflow may take to answer; its imports are slow, above all from a slow disk."""
UNUSED = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Variables that switch off parts of the server that a board does not need, for a faster start."""


def serve(root: Path, port: int) -> None:
    """Deliver the records that MLflow lacks, print the address of the board, and serve the UI until Ctrl-C or SIGTERM.

    With a server at `MLFLOW_TRACKING_URI`, print its address and return. Raises BadArgument for an empty store or a
    port in use, and KeyboardInterrupt for a Ctrl-C before the UI is up.
    """
    store = Store(root)
    if not store.records():
        raise BadArgument("store", root, "no records yet; `bench run` makes some")
    uri = tracking_uri(root)
    if not is_server(uri):
        _check_free(port)
    tracker = Tracker(root)
    if delivered := tracker.sync(store):
        say(f"{delivered} records delivered")
    if is_server(uri):
        _tell(shown(uri).rstrip("/"), tracker)
        return
    with running(uri, root, port) as process:
        _tell(f"http://{HOST}:{port}", tracker)
        try:
            say("press Ctrl-C to stop")
            process.wait()
        except KeyboardInterrupt:
            return
    raise BenchError(f"MLflow's UI stopped unexpectedly, exit code {process.returncode}")


def _tell(server: str, tracker: Tracker) -> None:
    """Print the address of the board and, where there are several tasks, of each task's view."""
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
            raise BadArgument("port", port, f"{os.strerror(error.errno or 0)}; choose another") from error


@contextmanager
def running(uri: str, root: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's UI as a running process; at the end of the block it is stopped, with all its children.

    SIGTERM raises KeyboardInterrupt, as Ctrl-C does.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # In the environment, because all users of the machine can read a command line, and an address may hold a password.
    environment = UNUSED | os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = None
    with tempfile.TemporaryFile() as log:
        try:
            with deferred():  # an exception inside Popen would lose a process that has started
                process = subprocess.Popen(
                    command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            _wait_until_up(process, uri, port, log)
            yield process
        finally:
            signal.signal(signal.SIGTERM, handler)
            if process is not None:
                _end(process)


def _wait_until_up(process: subprocess.Popen[bytes], uri: str, port: int, log: IO[bytes]) -> None:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines() or [f"exit code {process.poll()}"]
    raise BenchError(f"MLflow's UI did not start: {without_secrets(textwrap.shorten(lines[-1], 200), uri)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process and its children to stop, and kill them after ten seconds or at the next Ctrl-C."""
    try:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
