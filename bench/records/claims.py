"""Claims: which process works on which trial, and whether that process still runs.

A claim is a lock on a file, so it ends when its process does, for whatever reason. Its owner also keeps a heartbeat: a
file that is touched every few seconds. A process that is suspended keeps its locks, but its heartbeat stops.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

BEAT_SECONDS = 5.0
STALLED_SECONDS = 60.0
"""A process without a heartbeat for this long counts as suspended."""


@contextmanager
def hold(path: Path, timeout: float = 0) -> Iterator[bool]:
    """Hold the lock file `path` until the block ends, then remove it; False if another process holds it.

    Waits up to `timeout` seconds, or forever if that is negative. NotImplementedError on a file system without locks.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class Claims:
    """The claims on trials, in one folder."""

    folder: Path

    @contextmanager
    def take(self, fingerprint: str) -> Iterator[bool]:
        """Claim a trial until the block ends; False if another process has it.

        On a file system without locks every process gets the claim, and a trial may be run twice.
        """
        with ExitStack() as stack:
            ours = True
            with suppress(NotImplementedError):
                ours = stack.enter_context(hold(self.folder / fingerprint))
            if ours:
                stack.enter_context(_heartbeat(self._beat(fingerprint)))
            yield ours

    def taken(self, fingerprint: str) -> bool:
        """Whether another process has this claim; takes microseconds where none has."""
        if not self._beat(fingerprint).exists():
            return False
        with self.take(fingerprint) as ours:
            return not ours

    def watch(self, fingerprint: str) -> Watch:
        """A watch over the heartbeat of the process that has this claim."""
        return Watch(self._beat(fingerprint))

    def tidy(self) -> None:
        """Remove the files that killed processes left."""
        for name in {path.name.partition("@")[0] for path in self.folder.glob("[!.]*")}:
            with suppress(NotImplementedError), hold(self.folder / name) as dead:
                if dead:
                    self._beat(name).unlink(missing_ok=True)

    def _beat(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}@owner"


@dataclass
class Watch:
    """Watches a heartbeat: compares it with its own earlier value, because the clocks of two machines may differ."""

    path: Path
    _last: int | None = None
    _since: float = field(default_factory=time.monotonic)

    @property
    def stalled(self) -> bool:
        """Whether there was no heartbeat for `STALLED_SECONDS` of watching."""
        try:
            beat = self.path.stat().st_mtime_ns
        except OSError:
            beat = None
        if beat != self._last:
            self._last, self._since = beat, time.monotonic()
        return time.monotonic() - self._since >= STALLED_SECONDS

    @property
    def owner(self) -> str:
        """The process as its owner wrote it down, as in `process 4711 on host`."""
        try:
            with self.path.open(encoding="utf-8") as file:
                text = file.read(300)
        except (OSError, ValueError):
            text = ""
        return text if re.fullmatch(r"process \d+ on [\w.-]+", text) else "another process"


@contextmanager
def _heartbeat(path: Path) -> Iterator[None]:
    """Touch `path` every few seconds within the block, from a thread, because the block may take hours."""
    ended = Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            try:
                os.utime(path)
            except OSError:
                continue  # a full or vanished disk is for the trial to report

    path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    thread = Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        path.unlink(missing_ok=True)
