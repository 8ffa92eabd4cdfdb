"""Progress of long work: bars with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
SECONDS_BETWEEN_LINES = 30.0

_live: Progress | None = None

Advance = Callable[[int], None]


@contextmanager
def bar(description: str, total: int | None, *, hidden: bool = False) -> Iterator[Advance]:
    """Show work of `total` steps (None: nobody knows); call what this yields with each number of steps done."""
    global _live
    if hidden:
        yield lambda steps: None
        return
    if not console.is_terminal:
        with _lines(description, total) as advance:
            yield advance
        return
    outermost = _live is None
    progress = _live or _start()
    _live = progress
    task = progress.add_task(description, total=total)
    try:
        yield lambda steps: progress.advance(task, steps)
    finally:
        progress.remove_task(task)
        if outermost:
            progress.stop()
            _live = None


@contextmanager
def paused() -> Iterator[None]:
    """No bar is drawn within: drawing takes a processor's time, which is being measured."""
    if _live is None:
        yield
        return
    _live.stop()
    try:
        yield
    finally:
        _live.start()


def say(message: str) -> None:
    """A line for the person at the terminal, above any bar, on standard error."""
    (_live.console if _live else console).print(message, highlight=False, markup=False, soft_wrap=True)


def _start() -> Progress:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    progress.start()
    return progress


@contextmanager
def _lines(description: str, total: int | None) -> Iterator[Advance]:
    started = said = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, said
        done += steps
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done:
            said = now
            left = f"/{total}, {(now - started) * (total - done) / done:.0f} s left" if total else " steps"
            print(f"{description}: {done}{left}", file=sys.stderr, flush=True)

    yield advance
