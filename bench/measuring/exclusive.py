"""Only one process of this program times on a machine at a time; the others pause meanwhile."""

from __future__ import annotations

import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.records.claims import Claims
from bench.system.clock import waiting_for_others
from bench.system.progress import between_steps, say

NAME = "timing"
POLL_SECONDS = 0.1
"""Seconds between two attempts to get the lock. A trial takes longer to time again, so every waiting process gets a
turn."""
LONGEST_WAIT_SECONDS = 900.0
"""Seconds of timing after which a process is assumed to hang."""
LOOK_SECONDS = 0.05
"""Seconds between two checks whether another process is timing."""

_ours = False


def lock_folder() -> Path:
    """The folder of the lock: one for each user, in the folder for temporary files.

    A lock in a store would not be seen by runs on other stores, and the cache may lie on a disk that several machines
    share. Each user has their own lock, because anyone who can open a lock can hold it forever, and a folder that
    everybody can write to can be tampered with. Runs of other users count as other load.
    """
    return Path(tempfile.gettempdir()) / f"cnn-compression-bench-{_user()}"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


@contextmanager
def alone() -> Iterator[str]:
    """Wait until no other process of this program is timing on this machine, and keep others from it within the block.

    There is one lock for all devices, because short passes on a GPU wait for the processor. Yields "", or the reason
    why others may be timing all the same: the lock's owner is suspended, or the folder cannot be written.
    """
    global _ours
    with ExitStack() as stack:
        disturbed = _enter(stack)
        _ours = True
        try:
            yield disturbed
        finally:
            _ours = False


@contextmanager
def making_way() -> Iterator[None]:
    """Within this block, work that shows progress pauses while another process of this program is timing.

    Other work makes a timing noisy, and on a busy machine wrong. A step is not interrupted, so a step that takes
    seconds still counts as other load. The waiting time does not count as work (`bench.system.clock`). Nothing waits
    for a process that is suspended or hangs, or if there can be no lock.
    """
    with between_steps(_Courtesy()):
        yield


class _Courtesy:
    """Waits, when it is called, until no other process is timing."""

    def __init__(self) -> None:
        self._next_look = 0.0
        self._given_up = ""

    def __call__(self) -> None:
        if _ours or time.monotonic() < self._next_look:
            return
        with suppress(OSError), waiting_for_others():
            self._wait(Claims(lock_folder()))
        self._next_look = time.monotonic() + LOOK_SECONDS

    def _wait(self, claims: Claims) -> None:
        if not claims.taken(NAME):
            self._given_up = ""
            return
        watch, started = claims.watch(NAME), time.monotonic()
        while watch.owner != self._given_up and claims.taken(NAME):
            if watch.stalled or time.monotonic() - started > LONGEST_WAIT_SECONDS:
                self._given_up = watch.owner
            time.sleep(LOOK_SECONDS)


def _enter(stack: ExitStack) -> str:
    try:
        claims = Claims(_made(lock_folder()))
        watch, started, told = claims.watch(NAME), time.monotonic(), False
        while True:
            attempt = ExitStack()
            if attempt.enter_context(claims.take(NAME)):
                stack.push(attempt)
                return ""
            attempt.close()
            if watch.stalled or time.monotonic() - started > LONGEST_WAIT_SECONDS:
                return f"{watch.owner} did not end its timing, perhaps it is suspended"
            if not told:
                say(f"waiting to time: {watch.owner} is timing on this machine")
                told = True
            time.sleep(POLL_SECONDS)
    except OSError as error:
        return f"no lock in {lock_folder()}: {error.strerror or error}"


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise PermissionError(0, "the folder belongs to another user")
    return folder
