"""Progress of long work: on a terminal a bar with the time left, elsewhere a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.system.terminal import Screen
from bench.system.text import one_line

console = Screen(stderr=True)
SECONDS_BETWEEN_LINES = 30.0

_live: Progress | None = None
_between_steps: list[Callable[[], None]] = []
_display: Callable[[str, str], None] | None = None

Advance = Callable[[int], None]
SAID, STEP = "said", "step"
"""What a process without a display of its own sends: a line to print, or what it is doing."""
SECONDS_BETWEEN_STEPS = 0.5


def send_to(display: Callable[[str, str], None]) -> None:
    """Show nothing in this process from now on: send it, as `display(SAID or STEP, text)`, to one that shows it."""
    global _display
    _display = display


def send(kind: str, text: str) -> None:
    """Send a message of another kind to the process that shows this one's progress, if there is one."""
    if _display is not None:
        _display(kind, text)


@contextmanager
def between_steps(act: Callable[[], None]) -> Iterator[None]:
    """Within this block, call `act` after every step of work that shows progress."""
    _between_steps.append(act)
    try:
        yield
    finally:
        _between_steps.remove(act)


@contextmanager
def bar(description: str, total: int | None, *, hidden: bool = False) -> Iterator[Advance]:
    """Show the progress of `total` steps (None: unknown). Yields a function to call with the number of steps done."""
    with _shown(description, total, hidden) as show:

        def advance(steps: int) -> None:
            show(steps)
            for act in _between_steps:
                act()

        yield advance


@contextmanager
def _shown(description: str, total: int | None, hidden: bool) -> Iterator[Advance]:
    global _live
    description = one_line(description)
    if hidden:
        yield lambda steps: None
        return
    if _display is not None:
        yield _sent(_display, description, total)
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
    """Draw no bar within this block, because drawing takes processor time and would disturb a measurement."""
    if _live is None:
        yield
        return
    _live.stop()
    try:
        yield
    finally:
        _live.start()


@contextmanager
def activities() -> Iterator[Callable[[str, str], None]]:
    """Show what several processes do, below a bar: call what this yields with a process's name and its activity.

    An empty activity removes the process. Without a terminal, a line is printed for each process every half minute.
    """
    tasks: dict[str, TaskID] = {}
    said: dict[str, float] = {}

    def show(process: str, text: str) -> None:
        line = one_line(f"{process}: {text}")
        if not text:
            said.pop(process, None)
            if process in tasks and _live is not None:
                _live.remove_task(tasks.pop(process))
        elif _live is not None:
            if process not in tasks:
                tasks[process] = _live.add_task(line, total=None)
            _live.update(tasks[process], description=line)
        elif time.monotonic() - said.setdefault(process, time.monotonic()) >= SECONDS_BETWEEN_LINES:
            said[process] = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        for task in tasks.values():
            if _live is not None:
                _live.remove_task(task)


def say(message: str) -> None:
    """Print one line on standard error, above any bar."""
    if _display is not None:
        _display(SAID, message)
        return
    (_live.console if _live else console).print(one_line(message), highlight=False, soft_wrap=True)


def _start() -> Progress:
    progress = Progress(
        TextColumn("{task.description}", markup=False),
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


def _sent(display: Callable[[str, str], None], description: str, total: int | None) -> Advance:
    done, sent = 0, 0.0

    def advance(steps: int) -> None:
        nonlocal done, sent
        done += steps
        if time.monotonic() - sent >= SECONDS_BETWEEN_STEPS:
            sent = time.monotonic()
            display(STEP, f"{description}: {done}" + (f"/{total}" if total else ""))

    return advance


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
