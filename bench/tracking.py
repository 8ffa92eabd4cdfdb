"""Records to MLflow, each exactly once. The one module that imports mlflow, and only when something is delivered."""

from __future__ import annotations

import json
import logging
import os
import re
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.leaderboard import DENSE, METRICS
from bench.progress import bar
from bench.record import Record
from bench.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "cnn-compression-bench"
PARAMETERS = ("method", "setting", "model", "dataset", "weights", "seed", "budget_epochs", "device")
TAGS = ("fingerprint", "status", "method", "setting", "model", "dataset", "weights", "seed", "device", "started_at")
DESCRIPTION = """\
CNN compression methods compared: a run is one setting on one task, with one seed. [Open the leaderboard]({page}).

- `top1`, `top5`, `agreement` with the dense model: fractions of the test set. `top1_drop`: what was lost against it.
- `compression_ratio` (bytes of files), `macs_ratio`, `latency_speedup`: dense / compressed, so **higher is better**.
- `dense` is the uncompressed model, `random` prunes by chance: a method worth its name beats the second.
- Only runs of one model, dataset, weights, device and budget may be ranked together. Filter by tags:
  `tags.model = "resnet20" and tags.dataset = "fashion-mnist"`.
"""

# A saved view, as MLflow's own UI (3.x) keeps it in a tag of the experiment: the columns, and their widths in pixels.
VIEW = "leaderboard"
VIEW_COLUMNS = {
    "attributes.`Run Name`": 260,
    "runDateAndNestInfo": 120,
    "tags.`model`": 100,
    "tags.`dataset`": 120,
    "metrics.`top1`": 90,
    "metrics.`top1_drop`": 100,
    "metrics.`compression_ratio`": 140,
    "metrics.`macs_ratio`": 100,
    "metrics.`latency_speedup`": 140,
}

NO_FILTER = {
    "searchFilter": "",
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "modelVersionFilter": "All Runs",
    "datasetsFilter": [],
}

# What MLflow reads from its environment, where the user has not decided.
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Of MLflow's own (7 retries, 120 s) a run would wait minutes at each record while the server is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
PAGE = 1000
BATCH = 100


class Tracker:
    """The experiment that records are delivered to: at `MLFLOW_TRACKING_URI`, else in `root`.

    Everything raises BenchError where MLflow is missing, cannot be reached or cannot write; nothing is lost by that,
    for the records are in the store and `sync` delivers what is not there yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = tracking_uri(root)
        with self._explained():
            self._client = _connect(self.uri)
            self._experiment = self._find_experiment() or self._create_experiment()

    @property
    def page(self) -> str:
        """Where MLflow's UI shows the leaderboard, to follow the server's address and a slash."""
        return _page(self._experiment)

    def log(self, record: Record, folder: Path) -> bool:
        """Deliver a record and every file in its folder; False if that was done before.

        A run that was cut off, or of an earlier trial with this fingerprint, is deleted.
        """
        with self._explained():
            return self._deliver(record, folder, self._runs(f"tags.fingerprint = '{record.fingerprint}'"))

    def sync(self, store: Store) -> int:
        """Deliver what the store holds and MLflow lacks; how many records that was."""
        records = store.records()
        with self._explained(), bar("to MLflow", len(records)) as advance:
            known: dict[str, list[Run]] = defaultdict(list)
            for run in self._runs():
                known[run.data.tags.get("fingerprint", "")].append(run)
            delivered = 0
            for record in records:
                folder = store.folder(record.fingerprint)
                delivered += self._deliver(record, folder, known[record.fingerprint])
                advance(1)
        return delivered

    def _deliver(self, record: Record, folder: Path, runs: list[Run]) -> bool:
        """Leaves one run of all that have the record's fingerprint: the latest that is whole."""
        whole = [
            run for run in runs if run.info.status in ("FINISHED", "FAILED") and _started(run) >= record.started_at
        ]
        kept = max(whole, key=lambda run: (_started(run), run.info.run_id), default=None)
        for run in runs:
            if run is not kept:
                self._client.delete_run(run.info.run_id)
        if kept is None:
            self._write(record, folder)
        return kept is None

    def _write(self, record: Record, folder: Path) -> None:
        from mlflow.entities import Metric, Param

        start, end = _milliseconds(record)
        run = self._client.create_run(self._experiment, start, _tags(record), f"{_label(record)} seed {record.seed}")
        run_id = run.info.run_id
        metrics = [Metric(name, value, end, 0) for name, value in _metrics(record).items()]
        self._client.log_batch(run_id, metrics=metrics)
        parameters = iter([Param(name, value) for name, value in _parameters(record).items()])
        while batch := list(islice(parameters, BATCH)):
            self._client.log_batch(run_id, params=batch)
        self._client.log_artifacts(run_id, str(folder))
        # Last, so that a run with this status is a whole one.
        self._client.set_terminated(run_id, "FINISHED" if record.status == "ok" else "FAILED", end)

    def _runs(self, condition: str = "") -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _find_experiment(self) -> str | None:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            return None
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _create_experiment(self) -> str:
        """A server decides itself where it keeps artifacts; the default database has them beside it."""
        beside = self.uri == _default_uri(self.root)
        location = (self.root.resolve() / "mlartifacts").as_uri() if beside else None
        experiment = self._client.create_experiment(EXPERIMENT, location, _view())
        note = DESCRIPTION.format(page=_page(experiment))
        self._client.set_experiment_tag(experiment, "mlflow.note.content", note)
        return experiment

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with _quiet():
                yield
        except BenchError:
            raise
        # Artifact stores of many makes raise errors of their own; none may end a run whose records are safe.
        except Exception as error:
            reason = " ".join(str(error).split("[SQL")[0].split()) or type(error).__name__
            message = f"MLflow at {self.uri}: {textwrap.shorten(reason, 200, placeholder=' ...')}"
            safe = f"the records are safe in {self.root}, `bench sync` delivers them"
            raise BenchError(f"{without_password(message)}; {safe}") from error


def tracking_uri(root: Path) -> str:
    """Where the records of the store at `root` are delivered to."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _default_uri(root)


def without_password(text: str) -> str:
    """An address, or a text with addresses in it, as it may be shown."""
    return re.sub(r"//[^/@ ]*@", "//", text)


def database_missing(root: Path) -> bool:
    """Whether records would go to a database file that is not there (any more)."""
    uri = tracking_uri(root)
    return uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).is_file()


def _default_uri(root: Path) -> str:
    return f"sqlite:///{(root.resolve() / 'mlflow.db').as_posix()}"


def _connect(uri: str) -> MlflowClient:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise BenchError(
            "MLflow is not installed: `pip install mlflow`, or use --no-tracking and deliver later with `bench sync`"
        ) from error
    if uri.startswith("sqlite:///"):
        _create_database(Path(uri.removeprefix("sqlite:///")))
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
        MlflowClient(f"sqlite:///{scratch.as_posix()}").search_experiments(max_results=1)
        scratch.replace(path)
    finally:
        event.remove(Engine, "connect", do_not_wait)
        scratch.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what MLflow and the libraries under it log and warn of: an error of theirs becomes one line of ours."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _page(experiment: str) -> str:
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def _view() -> dict[str, str]:
    """Tags that make MLflow's UI show this experiment as training runs, with what is compared in columns."""
    columns = list(VIEW_COLUMNS)
    shown = {"orderByKey": "metrics.`top1`", "orderByAsc": False, "selectedColumns": columns, "columnOrder": columns}
    state = {**NO_FILTER, **shown, "columnWidths": VIEW_COLUMNS}
    view = {"name": "Leaderboard", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    kind = "custom_model_development"
    return {"mlflow.experimentKind": kind, f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}


def _started(run: Run) -> str:
    return str(run.data.tags.get("started_at", ""))


def _milliseconds(record: Record) -> tuple[int, int]:
    """Start and end, since 1970."""
    start = datetime.fromisoformat(record.started_at).timestamp()
    return int(1000 * start), int(1000 * (start + (record.duration_seconds or 0)))


def _tags(record: Record) -> dict[str, str]:
    tags = {name: str(getattr(record, name)) for name in TAGS}
    if record.error:
        tags["error"] = record.error
    if "cnn-compression-bench" in record.versions:
        tags["bench_version"] = record.versions["cnn-compression-bench"]
    return tags | {"mlflow.source.name": "bench", "mlflow.note.content": _note(record)}


def _label(record: Record) -> str:
    return "dense" if record.setting == DENSE else record.setting


def _note(record: Record) -> str:
    """What a reader of the run's page sees first."""
    lines = [f"**{_label(record)}** on {record.model}, {record.dataset}, seed {record.seed}."]
    if record.error:
        lines.append(f"Failed: {record.error}")
    if record.top1 is not None and record.compression_ratio is not None:
        lines.append(f"top-1 {100 * record.top1:.2f}%, {record.compression_ratio:.2f}× smaller.")
    return "\n\n".join([*lines, *record.notes])


def _metrics(record: Record) -> dict[str, float]:
    """Six digits, which fit a column of the runs table; all of them are in `record.json`."""
    measured = {name: getattr(record, name) for name in METRICS if getattr(record, name) is not None}
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in measured.items()}


def _parameters(record: Record) -> dict[str, str]:
    """What was chosen, not measured; nested options by dotted names."""
    chosen = {name: str(getattr(record, name)) for name in PARAMETERS}
    config = {name: value for name, value in record.config.items() if name != "stages"}
    # A column each, as `tic.k`, whatever place in a pipeline the method has.
    options = {
        stage["method"]: {k: v for k, v in stage.items() if k != "method"} for stage in record.config.get("stages", [])
    }
    return {re.sub(r"[^\w.\-/ ]", "_", name): value for name, value in _flatten(config | options)} | chosen


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value)
