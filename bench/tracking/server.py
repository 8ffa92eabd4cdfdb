"""Where MLflow is, and a connection to it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.system.cache import cache_dir
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SQLITE = "sqlite:///"

# What MLflow reads from its environment, where the user has not decided.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Of MLflow's own (7 retries, 120 s) a run would wait minutes at each record while the server is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def tracking_uri(root: Path) -> str:
    """Where the records of the store at `root` are delivered to."""
    return os.environ.get("MLFLOW_TRACKING_URI") or default_uri(root)


def default_uri(root: Path) -> str:
    """The database in the store."""
    return f"{SQLITE}{(root.resolve() / 'mlflow.db').as_posix()}"


def without_password(text: str) -> str:
    """An address, or a text with addresses in it, as it may be shown."""
    return re.sub(r"//[^/@ ]*@", "//", text)


def database_missing(root: Path) -> bool:
    """Whether records would go to a database file that is not there (any more)."""
    uri = tracking_uri(root)
    return uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file()


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """One process of this machine at a time delivers to an address: MLflow itself would create a run twice."""
    from filelock import FileLock

    lock = cache_dir() / "locks" / f"mlflow-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


@contextmanager
def explained(uri: str, root: Path) -> Iterator[None]:
    """BenchError, of one line, for whatever MLflow or the libraries under it raise; they do not warn or log.

    Artifact stores of many makes have errors of their own; none may end a run whose records are safe.
    """
    try:
        with _quiet():
            yield
    except BenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split("[SQL")[0].split()) or type(error).__name__
        message = f"MLflow at {uri}: {textwrap.shorten(reason, 200, placeholder=' ...')}"
        safe = f"the records are safe in {root}, `bench sync` delivers them"
        raise BenchError(f"{without_password(message)}; {safe}") from error


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


def connect(uri: str) -> MlflowClient:
    """A client; it creates the database, where that is a file that is not there. BenchError without MLflow."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise BenchError(
            "MLflow is not installed: `pip install mlflow`, or use --no-tracking and deliver later with `bench sync`"
        ) from error
    if uri.startswith(SQLITE):
        _create_database(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(uri)


def _create_database(path: Path) -> None:
    """Let MLflow create its database aside, then move it into its place.

    It takes 70 migrations, which a killed run must not leave halfway, and which need not wait for the disk each.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import Engine, event

    if path.exists():
        return

    def do_not_wait(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    event.listen(Engine, "connect", do_not_wait)
    try:
        MlflowClient(f"{SQLITE}{scratch.as_posix()}").search_experiments(max_results=1)
        scratch.replace(path)
    finally:
        event.remove(Engine, "connect", do_not_wait)
        scratch.unlink(missing_ok=True)
