"""Sends records to MLflow while trials are running."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path

from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.system.files import write_atomically
from bench.system.progress import say
from bench.tracking.address import database_path, tracking_uri
from bench.tracking.tracker import Tracker

SECONDS_BETWEEN_BOARDS = 60
PATIENCE = 60.0
"""Seconds that a run waits, once, for another process that delivers to the same address."""


class Delivery:
    """Sends records to MLflow as they are finished.

    The store lists the records that were sent, so a repeated run does not ask MLflow. Means over seeds and the board
    are updated at most once a minute, and at the end. After a failure, which is a warning, nothing more is sent;
    `Tracker.sync` delivers the remaining records later. Raises BenchError for an address that cannot hold records.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.uri = tracking_uri(store.root)
        self.failed = False
        self._tracker: Tracker | None = None
        self._settled_at, self._unsettled = -math.inf, False

    def send(self, record: Record) -> None:
        """Deliver one record with its files, unless it was delivered before."""
        if self.failed:
            return
        try:
            if self._was_sent(record):
                return
            self._tracker = self._tracker or Tracker(self.store.root, PATIENCE)
            self._tracker.log(record, self.store.folder(record.fingerprint), settled=False)
            write_atomically(self._mark(record), record.started_at.encode())
        except (BenchError, OSError) as error:
            self._fail(error)
            return
        self._unsettled = True
        if time.monotonic() - self._settled_at > SECONDS_BETWEEN_BOARDS:
            self.finish()

    def finish(self) -> None:
        """Update the board in MLflow with the records that were sent."""
        if self.failed or not self._unsettled or self._tracker is None:
            return
        try:
            self._tracker.settle()
            self._settled_at, self._unsettled = time.monotonic(), False
        except (BenchError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed = True
        say(f"warning: {error}")

    def _was_sent(self, record: Record) -> bool:
        database = database_path(self.uri)
        mark = self._mark(record)
        is_there = database is None or database.is_file()
        return is_there and mark.is_file() and mark.read_bytes() == record.started_at.encode()

    def _mark(self, record: Record) -> Path:
        place = hashlib.sha256(self.uri.encode()).hexdigest()[:8]
        return self.store.root / ".delivered" / place / record.fingerprint
