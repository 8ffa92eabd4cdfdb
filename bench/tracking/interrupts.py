"""Handling of Ctrl-C inside calls of libraries."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heeded() -> Iterator[None]:
    """Make sure that a Ctrl-C inside the block ends it with KeyboardInterrupt. Also a decorator of functions.

    The exception can be lost: Python drops it inside destructors, callbacks of weak references and garbage collection,
    and SQLite turns it into an error of its own inside its callbacks.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def note(number: int, frame: Any) -> None:
        nonlocal came
        try:
            before(number, frame)
        except KeyboardInterrupt:
            came = True
            raise

    hook = sys.unraisablehook
    try:
        signal.signal(signal.SIGINT, note)
        sys.unraisablehook = lambda dropped: None if dropped.exc_type is KeyboardInterrupt else hook(dropped)
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook
        if came:
            raise KeyboardInterrupt


@contextmanager
def deferred() -> Iterator[None]:
    """Delay a Ctrl-C or SIGTERM inside the block to its end, and raise it there as KeyboardInterrupt."""
    came = False

    def note(*_: object) -> None:
        nonlocal came
        came = True

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            raise KeyboardInterrupt
