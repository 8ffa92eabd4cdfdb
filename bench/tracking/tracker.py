"""Delivers records to MLflow, each exactly once."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.record import Record
from bench.records.store import Store
from bench.system.progress import bar
from bench.tracking import runs as content
from bench.tracking.address import default_uri, tracking_uri
from bench.tracking.board import settle
from bench.tracking.experiment import open_experiment
from bench.tracking.reading import Reader, age, is_whole
from bench.tracking.server import PATIENCE, alone, connect, explained, load
from bench.tracking.view import EXPERIMENT, address, views_of_tasks

if TYPE_CHECKING:
    from mlflow.entities import Run


class Tracker:
    """Delivers records to the experiment at `MLFLOW_TRACKING_URI`, or in the store at `root`.

    Every method raises Undelivered where MLflow is missing, cannot be reached or cannot write, or where another process
    delivers there for longer than `patience` seconds. The records stay in the store, and `sync` delivers them later.
    """

    def __init__(self, root: Path, patience: float = PATIENCE) -> None:
        self.root = root
        self.uri = tracking_uri(root)
        self._patience = patience
        self._reader = Reader()
        with explained(self.uri, root):
            load()
        with self._alone():
            # A server chooses where it keeps artifacts; those of the default database are beside it.
            beside = (root.resolve() / "mlartifacts").as_uri() if self.uri == default_uri(root) else None
            self._experiment = open_experiment(connect(self.uri), EXPERIMENT, beside)

    @property
    def page(self) -> str:
        """The page of the leaderboard in MLflow's UI, relative to the server's address and a slash."""
        return address(self._experiment.id)

    def pages(self) -> dict[str, str]:
        """The page of each task's view, by the task's title."""
        with explained(self.uri, self.root):
            return views_of_tasks(self._experiment.id, self._experiment.tags())

    def log(self, record: Record, folder: Path, *, settled: bool = True) -> bool:
        """Deliver a record and every file in its folder; False if it was delivered before.

        Incomplete runs, and runs of earlier trials with this fingerprint, are deleted. The runs of settings and of the
        board are updated too, unless `settled` is false, because that reads all runs and takes a while.
        """
        with self._alone():
            delivered = self._deliver(record, folder, self._runs_of(record.fingerprint))
            if settled:
                settle(self._experiment, self._reader)
        return delivered

    def settle(self) -> None:
        """Update the runs of settings and of the board."""
        with self._alone():
            settle(self._experiment, self._reader)

    def sync(self, store: Store) -> int:
        """Deliver all records of the store that MLflow lacks; returns their number."""
        records = store.records()
        delivered = 0
        with self._alone(), bar("to MLflow", len(records)) as advance:
            known = self._by_fingerprint()
            for record in records:
                folder = store.folder(record.fingerprint)
                delivered += self._deliver(record, folder, known[record.fingerprint])
                advance(1)
            settle(self._experiment, self._reader)
        return delivered

    def _runs_of(self, fingerprint: str) -> list[Run]:
        if re.fullmatch(r"[\w.-]+", fingerprint):
            return self._experiment.search(f"tags.fingerprint = '{fingerprint}'")
        return self._by_fingerprint()[fingerprint]  # a name that a filter cannot quote

    def _by_fingerprint(self) -> dict[str, list[Run]]:
        known: dict[str, list[Run]] = defaultdict(list)
        for run in self._experiment.search():
            known[run.data.tags.get("fingerprint", "")].append(run)
        return known

    def _deliver(self, record: Record, folder: Path, runs: list[Run]) -> bool:
        """Keep one of the runs with the record's fingerprint, the latest complete one; whether a new one was written.

        A complete run that holds no record was edited, and is not changed.
        """
        readable = self._reader.readable(runs)
        current = [run for run, read in readable if read.started_at >= record.started_at]
        kept = max(current, key=age, default=None)
        cut_off = [run for run in runs if not is_whole(run)]
        self._experiment.delete(cut_off + [run for run, _ in readable if run is not kept])
        if kept is None:
            self._write(record, folder)
        return kept is None

    def _write(self, record: Record, folder: Path) -> None:
        experiment, (start, end) = self._experiment, content.milliseconds(record)
        run_id = experiment.create(content.name(record), content.tags(record), start).info.run_id
        experiment.log(run_id, end, content.metrics(record), content.parameters(record))
        experiment.log_files(run_id, folder)
        # Last, so that a run with this status is complete.
        experiment.finish(run_id, content.status(record.status == "ok"), end)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with explained(self.uri, self.root), alone(self.uri, self.root, self._patience):
            yield
