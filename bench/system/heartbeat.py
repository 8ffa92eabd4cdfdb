"""Progress without a terminal: a line whenever half a minute has passed without one, however long a step takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SECONDS_BETWEEN_LINES = 30.0


@dataclass(eq=False)
class Work:
    """Something that takes a while, and how far it is. A total of None is unknown."""

    description: str
    total: int | None
    began: float = field(default_factory=time.monotonic)
    stepped: float = field(default_factory=time.monotonic)
    done: int = 0

    def step(self, steps: int) -> None:
        self.done += steps
        self.stepped = time.monotonic()

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.description}: {self.done} steps" if self.done else self.description
        return f"{self.description}: {self.done}/{self.total}"

    def told(self) -> str:
        """With the time left or, where a step takes long, the time since it began."""
        now = time.monotonic()
        if now - self.stepped >= SECONDS_BETWEEN_LINES:
            return f"{self}, {now - self.stepped:.0f} s in this step"
        if not self.done or self.total is None:
            return str(self)
        return f"{self}, {(now - self.began) * (self.total - self.done) / self.done:.0f} s left"


class Heartbeat:
    """Tells of the innermost work, and in brackets of what it is a part of. A thread tells it during long steps."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._works: list[Work] = []
        self._spoke = time.monotonic()
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._awake.set()

    @contextmanager
    def working(self, description: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Work until the block ends. Yields a function to call with the number of steps done."""
        work, ended = Work(description, total), threading.Event()
        if not self._works:
            self.spoke()
            threading.Thread(target=self._beat, args=(ended,), daemon=True, name="progress").start()
        self._works.append(work)

        def advance(steps: int) -> None:
            work.step(steps)
            self._tell_if_due()

        try:
            yield advance
        finally:
            self._works.remove(work)
            ended.set()

    def spoke(self) -> None:
        """Note that something was said."""
        self._spoke = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Say nothing within this block, and do not even wake up."""
        self._awake.clear()
        try:
            yield
        finally:
            self._awake.set()

    def _tell_if_due(self) -> None:
        with self._lock:
            if time.monotonic() - self._spoke < SECONDS_BETWEEN_LINES or not self._works:
                return
            self.spoke()
            *around, innermost = list(self._works)
            within = f" ({', '.join(map(str, reversed(around)))})" if around else ""
            self._write(innermost.told() + within)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(max(0.01, self._spoke + SECONDS_BETWEEN_LINES - time.monotonic())):
            self._awake.wait()
            if not ended.is_set():
                self._tell_if_due()
