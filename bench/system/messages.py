"""How much of what the program says on standard error is shown, and the log that keeps all of it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from bench.system.text import encoded, one_line

VARIABLE = "BENCH_OUTPUT"
"""The environment variable that holds the loudness, so that processes that are started from here have it too."""
ERRORS = ("bench: ", "failed: ", "not run: ")
"""How messages begin that are shown in any case."""
LOG = "bench.log"
"""The log's name in a store."""


class Loudness(StrEnum):
    quiet = "quiet"
    normal = "normal"
    verbose = "verbose"


def set_loudness(loudness: Loudness) -> None:
    os.environ[VARIABLE] = loudness.value


def loudness() -> Loudness:
    chosen = os.environ.get(VARIABLE, "")
    return Loudness(chosen) if chosen in Loudness.__members__ else Loudness.normal


def is_quiet() -> bool:
    return loudness() == Loudness.quiet


def is_shown(message: str) -> bool:
    return not is_quiet() or message.startswith(ERRORS)


@dataclass
class _Log:
    path: Path | None = None
    heading: str = ""
    """A line to be written before the first one."""


_log = _Log()


def log_to(path: Path, heading: str) -> None:
    """Keep everything that is said from now on in this file, below a line that says what was asked for."""
    _log.path, _log.heading = path, heading


def log(message: str) -> None:
    """Append a message to the log, if there is one, with the time (UTC) and the number of this process.

    A line is one write, so that several processes can share a log. A log that cannot be written is left alone.
    """
    if _log.path is None:
        return
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # Neither waits for a reader of a pipe nor follows a link out of the store.
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(_log.path, flags, 0o644)
        try:
            for line in filter(None, (_log.heading, message)):
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                os.write(descriptor, encoded(f"{now} {os.getpid()} {one_line(line)}\n"))
                _log.heading = ""
        finally:
            os.close(descriptor)
