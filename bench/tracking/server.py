"""The connection to MLflow: one process at a time, and errors in one line."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import shutil
import socket
import tempfile
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.system.cache import cache_dir
from bench.system.errors import BenchError, Undelivered
from bench.tracking.address import database_path, database_uri, shown, without_secrets
from bench.tracking.interrupts import heeded

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # With MLflow's own values (7 retries, 120 s) a run would wait minutes for each record while the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Defaults for MLflow's environment variables."""

PATIENCE = 600.0
"""Seconds to wait for another process that delivers to the same address."""


@contextmanager
def alone(uri: str, root: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Let one process of this machine at a time deliver to `uri`, because MLflow itself would create a run twice.

    The lock file is beside a database. For a server it is in the cache, or in the store where the cache cannot be
    written. Raises BenchError where another process holds the lock for longer than `patience` seconds, or where no lock
    file can be written.
    """
    with ExitStack() as stack:
        if not _acquire(stack, _lock_files(uri, root), patience):
            held = f"another process has been delivering there for {patience:g} seconds"
            raise BenchError(f"MLflow at {shown(uri)}: {held}")
        yield


def _lock_files(uri: str, root: Path) -> list[Path]:
    if (database := database_path(uri)) is not None:
        return [database.with_name(f".{database.name}.lock")]
    name = f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
    return [cache_dir() / "locks" / name, root / f".{name}.lock"]


def _acquire(stack: ExitStack, files: list[Path], patience: float) -> bool:
    """Lock the first of `files` that can be written, until the stack is closed; False where it stays locked."""
    from filelock import FileLock, Timeout

    refusals = []
    for path in files:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path, timeout=patience))
        except Timeout:
            return False
        except NotImplementedError:
            pass  # a file system without locks; the next delivery removes duplicates
        except OSError as error:
            refusals.append(f"{path}: {error.strerror}")
            continue
        return True
    hint = "; set BENCH_CACHE to a folder that can be written" if len(files) > 1 else ""
    raise BenchError("; ".join(refusals) + hint)


@contextmanager
def explained(uri: str, root: Path) -> Iterator[None]:
    """Turn every exception of MLflow and the libraries below it into Undelivered, with a message of one line.

    Their warnings and logs are dropped. Every exception is caught, because each artifact store has its own errors, and
    none may end a run whose records are safe. Ctrl-C always leaves the block as KeyboardInterrupt.
    """
    with heeded():
        try:
            with _quiet():
                yield
        except Undelivered:
            raise
        except Exception as error:
            message = str(error) if isinstance(error, BenchError) else f"MLflow at {shown(uri)}: {_reason(error, uri)}"
            raise Undelivered(message, root) from error


def _reason(error: Exception, uri: str) -> str:
    """The message of an error, without the statement and parameters that SQLAlchemy adds."""
    if unreachable := _unreachable(error):
        return str(unreachable.strerror or unreachable)
    text = " ".join(str(error).split("[SQL")[0].split()) or type(error).__name__
    if "MLFLOW_ALLOW_FILE_STORE" in text:
        return (
            "a folder of files, which this version of MLflow opens only with MLFLOW_ALLOW_FILE_STORE=true; "
            "use a database such as sqlite:///mlflow.db (`mlflow migrate-filestore` moves old runs into one)"
        )
    if isinstance(error, ModuleNotFoundError) and error.name != "mlflow":
        return f"its driver is missing; install the package that provides {error.name}"
    return textwrap.shorten(without_secrets(text, uri), 200, placeholder=" ...")


def _unreachable(error: BaseException | None) -> OSError | None:
    """The error of the network, which libraries wrap in long messages."""
    while error is not None and not isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def load() -> None:
    """Import MLflow, which takes seconds, with our DEFAULTS. Raises BenchError where it is not installed."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow.tracking  # noqa: F401
    except ModuleNotFoundError as error:
        raise BenchError("MLflow is not installed; `pip install mlflow`, or run without tracking") from error


def connect(uri: str) -> MlflowClient:
    """A client of MLflow at `uri`. Call it inside `alone`, because it creates a missing database file."""
    load()
    from mlflow.tracking import MlflowClient

    if (database := database_path(uri)) is not None:
        _tidy(database)
        if not database.exists():
            _create(database)
    return MlflowClient(uri)


def _create(database: Path) -> None:
    """Let MLflow create its database in a scratch folder, then move it into place.

    MLflow runs 70 migrations. A killed run must not leave some of them, and none needs to wait for the disk.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import Engine, event

    def do_not_wait(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", do_not_wait)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{database.name}.", dir=database.parent) as folder:
            scratch = Path(folder) / database.name
            MlflowClient(database_uri(scratch)).search_experiments(max_results=1)
            scratch.replace(database)
    finally:
        event.remove(Engine, "connect", do_not_wait)


def _tidy(database: Path) -> None:
    """Remove the scratch files of killed runs; this process holds the lock, so no other creates the database now.

    Earlier versions left files named after a process, `.mlflow.db.4321`, and their journals.
    """
    for leftover in database.parent.glob(glob.escape(f".{database.name}.") + "*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.name.removeprefix(f".{database.name}.").partition("-")[0].isdigit():
            leftover.unlink(missing_ok=True)
