"""Ctrl-C while libraries are at work."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heeded() -> Iterator[None]:
    """Whatever happens inside the block, a Ctrl-C during it ends it with KeyboardInterrupt.

    The exception alone is not enough. Python drops it when it is raised inside a destructor, a weak reference's
    callback or a garbage collection, and SQLite turns it into an error of its own inside its callbacks.
    Also a decorator of functions.
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
    """A Ctrl-C or SIGTERM inside the block waits for its end, where it is raised as KeyboardInterrupt."""
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
