"""Threads and child processes that a trial leaves running, which would take time from the trials after it."""

from __future__ import annotations

import gc
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from typing import Any

import psutil
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from bench.isolation.changes import Changes
from bench.system.text import listed

SECONDS_TO_END = 2.0
"""Seconds for a thread to end by itself, and for a process to end when asked."""
OF_TORCH = "torch_shm"
"""The beginning of the name of torch's helper process, which lives as long as this process."""


@dataclass(frozen=True)
class Running:
    """Threads that keep the process alive, and child processes.

    Daemon threads are left out, because progress bars, claims and loaders use them. So are processes started by child
    processes.
    """

    threads: frozenset[threading.Thread]
    children: frozenset[psutil.Process]

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
        if new := after.children - self.children:
            own = _of_libraries()
            if left := {process: name for process in new if process.pid not in own and (name := _name(process))}:
                name = f"the child processes ({listed(sorted(left.values()))})"
                changes += Changes.of(name, _ended(list(left)))
        return changes


def _children() -> set[psutil.Process]:
    return {process for process in psutil.Process().children() if _name(process)}


def _name(process: psutil.Process) -> str:
    """The name of a process; empty for one that has ended, and for torch's helper."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        name = "" if ended else process.name()
    except psutil.Error:
        return ""
    return "" if name.startswith(OF_TORCH) else name


def _of_libraries() -> set[int]:
    """Ids of processes that multiprocessing starts once, and of workers of loaders that are still in use."""
    trackers: tuple[Any, ...] = (resource_tracker._resource_tracker, forkserver._forkserver)
    own = {int(getattr(tracker, name, 0) or 0) for tracker in trackers for name in ("_pid", "_forkserver_pid")}
    loaders = (thing for thing in gc.get_objects() if type(thing) is _MultiProcessingDataLoaderIter)
    return own | {int(worker.pid or 0) for loader in loaders for worker in loader._workers}


def _joined(threads: list[threading.Thread]) -> bool:
    deadline = time.monotonic() + SECONDS_TO_END
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _ended(processes: list[psutil.Process]) -> bool:
    """Ask processes to end, then kill them; whether all have ended."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with suppress(psutil.Error):
                end(process)
        _, processes = psutil.wait_procs(processes, timeout=SECONDS_TO_END)
    return not processes
