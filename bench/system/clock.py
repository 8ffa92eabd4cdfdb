"""Working time: durations without the time that a process waited for others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Clock:
    """Stands still while the process waits."""

    def __init__(self) -> None:
        self.waited = 0.0


_clock = _Clock()


def working_seconds() -> float:
    """Seconds on a clock that stands still within `waiting_for_others`; only differences are meaningful."""
    return time.monotonic() - _clock.waited


@contextmanager
def waiting_for_others() -> Iterator[None]:
    """Within this block the process does nothing but wait."""
    started = time.monotonic()
    try:
        yield
    finally:
        _clock.waited += time.monotonic() - started
