"""Progress of long work: on a terminal a bar with the time left, elsewhere a line every half minute.

What is said is kept in the log, too, and with `--quiet` only errors are shown (`bench.system.messages`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.system import heartbeat
from bench.system.heartbeat import Heartbeat
from bench.system.messages import Loudness, is_quiet, is_shown, log, loudness
from bench.system.terminal import Screen
from bench.system.text import one_line

console = Screen(stderr=True)

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
    if hidden or is_quiet():
        yield lambda steps: None
        return
    if _display is not None:
        yield _sent(_display, description, total)
        return
    if not console.is_terminal:
        with _heartbeat.working(description, total) as advance:
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
    """Show nothing within this block, because that takes processor time and would disturb a measurement."""
    if _live is None:
        with _heartbeat.paused():
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
        if is_quiet():
            return
        if not text:
            said.pop(process, None)
            if process in tasks and _live is not None:
                _live.remove_task(tasks.pop(process))
        elif _live is not None:
            if process not in tasks:
                tasks[process] = _live.add_task(line, total=None)
            _live.update(tasks[process], description=line)
        elif time.monotonic() - said.setdefault(process, time.monotonic()) >= heartbeat.SECONDS_BETWEEN_LINES:
            said[process] = time.monotonic()
            _write_line(line)

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
    line = one_line(message)
    log(line)
    if is_shown(line):
        _heartbeat.spoke()
        (_live.console if _live else console).print(line, highlight=False, soft_wrap=True)


def detail(message: str) -> None:
    """`say`, if the user asked for details."""
    if loudness() == Loudness.verbose:
        say(message)


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


def _write_line(line: str) -> None:
    log(line)
    _heartbeat.spoke()
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


_heartbeat = Heartbeat(_write_line)
