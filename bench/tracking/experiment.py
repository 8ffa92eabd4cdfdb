"""One experiment in MLflow, with the calls that are needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.store import regular_files
from bench.tracking.interrupts import heeded

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

SEARCHED, BATCH = 1000, 100
"""Runs in a page of results, and parameters in a request, at most; the limits are MLflow's."""


class Experiment:
    """An experiment whose runs are identified by tags. Logging the same content again changes nothing.

    A Ctrl-C ends the current call even where a library loses the exception: the next call may wait for a server.
    """

    def __init__(self, client: MlflowClient, id: str) -> None:
        self.client = client
        self.id = id

    @heeded()
    def search(self, condition: str = "") -> list[Run]:
        """All runs that fulfil a condition in MLflow's filter language."""
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.id], condition, max_results=SEARCHED, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs

    @heeded()
    def create(self, name: str, tags: dict[str, str], start: int) -> Run:
        """Create an unfinished run; `start` is in milliseconds since 1970."""
        return self.client.create_run(self.id, start, tags, name)

    @heeded()
    def delete(self, runs: Iterable[Run]) -> None:
        for run in runs:
            self.client.delete_run(run.info.run_id)

    @heeded()
    def log(
        self,
        run_id: str,
        time: int = 0,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags of a run, in as few requests as MLflow allows.

        If a metric was logged before, the value with the later `time` (milliseconds since 1970) counts.
        """
        from mlflow.entities import Metric, Param, RunTag

        figures = [Metric(name, value, time, 0) for name, value in (metrics or {}).items()]
        labels = [RunTag(*tag) for tag in (tags or {}).items()]
        if figures or labels:
            self.client.log_batch(run_id, metrics=figures, tags=labels)
        pairs = iter((parameters or {}).items())
        while batch := list(islice(pairs, BATCH)):
            self.client.log_batch(run_id, params=[Param(*pair) for pair in batch])

    @heeded()
    def log_files(self, run_id: str, folder: Path) -> None:
        """Log the files in a record's folder, but no links, which may lead anywhere."""
        for path in regular_files(folder):
            self.client.log_artifact(run_id, str(path))

    @heeded()
    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.client.log_text(run_id, text, name)

    @heeded()
    def last_logged(self, run_id: str, metric: str) -> int:
        """The time of a metric's latest value, in milliseconds since 1970; 0 where there is none."""
        return max((point.timestamp for point in self.client.get_metric_history(run_id, metric)), default=0)

    @heeded()
    def finish(self, run_id: str, status: str, end: int) -> None:
        self.client.set_terminated(run_id, status, end)

    @heeded()
    def tags(self) -> dict[str, str]:
        return dict(self.client.get_experiment(self.id).tags)

    @heeded()
    def set_tags(self, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_experiment_tag(self.id, name, value)


def open_experiment(client: MlflowClient, name: str, artifacts: str | None) -> Experiment:
    """The experiment of that name. It is created if it is missing, and restored if it was deleted.

    `artifacts` is the address of a new experiment's files; with None the server chooses it.
    """
    existing = client.get_experiment_by_name(name)
    if existing is None:
        return Experiment(client, _create(client, name, artifacts))
    if existing.lifecycle_stage != "active":
        client.restore_experiment(existing.experiment_id)
    return Experiment(client, str(existing.experiment_id))


def _create(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifacts))
    except MlflowException:
        # Another machine may have created it in the meantime.
        if (existing := client.get_experiment_by_name(name)) is None:
            raise
        return str(existing.experiment_id)
