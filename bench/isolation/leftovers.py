"""Threads and child processes that a trial leaves running, which would take time from the trials after it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from bench.isolation.changes import Changes
from bench.system.text import listed

SECONDS_TO_END = 2.0
"""For a thread to end by itself, and for a process that was told to."""
ENDED = ("Z", "X")
"""States of processes that have ended and were not waited for."""
OF_TORCH = ("torch_shm_manag",)
"""Helpers of torch that live as long as the process, by the name that the system keeps, 15 characters long."""


@dataclass(frozen=True)
class Running:
    """Threads that keep the process alive, and child processes by their ids.

    Daemon threads are left out: progress bars, claims and loaders have some. So are the processes of processes, and
    on systems without /proc those that the multiprocessing module did not start.
    """

    threads: frozenset[threading.Thread]
    children: frozenset[int]

    @classmethod
    def now(cls) -> Running:
        return cls(frozenset(thread for thread in threading.enumerate() if not thread.daemon), frozenset(_children()))

    def restore(self) -> Changes:
        """Wait for new threads, end new processes, and name both."""
        after = Running.now()
        changes = Changes()
        if threads := sorted(after.threads - self.threads, key=lambda thread: thread.name):
            name = f"the running threads ({listed([thread.name for thread in threads])})"
            changes += Changes.of(name, _joined(threads))
        if new := sorted(after.children - self.children):
            if left := sorted(set(new) - _of_libraries()):
                name = f"the child processes ({listed([_name(process) for process in left])})"
                changes += Changes.of(name, _ended(left))
        return changes


def _children() -> set[int]:
    files = list(Path("/proc/self/task").glob("*/children"))
    if not files:
        return {process.pid for process in multiprocessing.active_children() if process.pid is not None}
    found = {int(process) for file in files for process in _text(file).split()}
    return {process for process in found if _state(process) not in ENDED}


def _of_libraries() -> set[int]:
    """Processes that multiprocessing and torch start once, and the workers of loaders that somebody still holds."""
    trackers: tuple[Any, ...] = (resource_tracker._resource_tracker, forkserver._forkserver)
    own = {int(getattr(tracker, name, 0) or 0) for tracker in trackers for name in ("_pid", "_forkserver_pid")}
    loaders = (thing for thing in gc.get_objects() if type(thing) is _MultiProcessingDataLoaderIter)
    workers = {int(worker.pid or 0) for loader in loaders for worker in loader._workers}
    return own | workers | {process for process in _children() if _name(process) in OF_TORCH}


def _joined(threads: list[threading.Thread]) -> bool:
    deadline = time.monotonic() + SECONDS_TO_END
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _ended(processes: list[int]) -> bool:
    """Tell processes to end, then make them; whether all have ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in _children().intersection(processes):
            with suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.monotonic() + SECONDS_TO_END
        while _children().intersection(processes) and time.monotonic() < deadline:
            time.sleep(0.01)
    return not _children().intersection(processes)


def _name(process: int) -> str:
    return _text(Path(f"/proc/{process}/comm")).strip() or str(process)


def _state(process: int) -> str:
    """The letter after the name, which is in brackets and may hold anything."""
    return _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].strip()[:1] or ENDED[0]


def _text(file: Path) -> str:
    """Empty for a process that is gone."""
    try:
        return file.read_text(encoding="utf-8", errors="backslashreplace")
    except OSError:
        return ""
