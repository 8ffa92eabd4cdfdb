"""Records sent to MLflow while trials go on."""

from __future__ import annotations

import hashlib
import math
import shlex
import time
from pathlib import Path

from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.system.files import write_atomically
from bench.system.progress import say
from bench.tracking.server import database_missing, tracking_uri, without_password
from bench.tracking.tracker import Tracker

SECONDS_BETWEEN_BOARDS = 60


class Delivery:
    """Sends records to MLflow as they come, and remembers which went, so that a repeated run need not ask.

    The means and the board that are made of them follow at most once a minute, and in the end. After a failure nothing
    more is sent in this run: the records wait in the store for `bench sync`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tracker: Tracker | None = None
        self._failed = False
        self._settled, self._unsettled = -math.inf, False

    def send(self, record: Record) -> None:
        mark = self._mark(record)
        known = mark.is_file() and mark.read_text() == record.started_at and not database_missing(self.store.root)
        if self._failed or known:
            return
        try:
            self._tracker = self._tracker or Tracker(self.store.root)
            self._tracker.log(record, self.store.folder(record.fingerprint), settled=False)
            write_atomically(mark, record.started_at.encode())
        except (BenchError, OSError) as error:
            self._fail(error)
        self._unsettled = True
        if time.monotonic() - self._settled > SECONDS_BETWEEN_BOARDS:
            self.finish()

    def finish(self) -> None:
        """Bring the board in MLflow up to date with what was sent."""
        if self._failed or not self._unsettled or self._tracker is None:
            return
        try:
            self._tracker.settle()
            self._settled, self._unsettled = time.monotonic(), False
        except (BenchError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        say(f"warning: {error}")

    @property
    def hint(self) -> str:
        """How to look at what was delivered."""
        store = f"--store {shlex.quote(str(self.store.root))}"
        if self._failed:
            return f"`bench sync {store}` delivers them to MLflow"
        uri = tracking_uri(self.store.root)
        if uri.startswith("http"):
            return f"MLflow at {without_password(uri)} shows them"
        return f"`bench ui {store}` shows them"

    def _mark(self, record: Record) -> Path:
        place = hashlib.sha256(tracking_uri(self.store.root).encode()).hexdigest()[:8]
        return self.store.root / ".delivered" / place / record.fingerprint
