"""What the processes of a Ray cluster say and do, shown by the process that started the run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from bench.system.progress import SAID, activities, say
from bench.trials.ray_nodes import on_node
from bench.trials.units import Unit

POLL_SECONDS = 0.2
ANSWER_SECONDS, END_SECONDS = 60.0, 5.0
"""Seconds after which a cluster that does not answer is no longer asked for messages, or waited for at the end."""
SHOWN = 16
"""Trials whose activities are displayed at a time."""


def mailbox() -> Any:
    """An actor on this machine that keeps messages until they are taken.

    Its class is sent by value, as nested classes are, so that its process does not import this module, and torch.
    """

    class Mailbox:
        def __init__(self) -> None:
            self.kept: list[tuple[str, str, str, str]] = []

        def add(self, message: tuple[str, str, str, str]) -> None:
            self.kept.append(message)

        def take(self) -> list[tuple[str, str, str, str]]:
            kept, self.kept = self.kept, []
            return kept

    here = ray.get_runtime_context().get_node_id()
    return ray.remote(num_cpus=0)(Mailbox).options(scheduling_strategy=on_node(here)).remote()


@contextmanager
def shown(messages: Any) -> Iterator[Callable[[Unit], None]]:
    """Print what the processes say and show what they do; call what this yields with every unit that has ended."""
    over, ended, stop = set[str](), deque[Unit](), threading.Event()

    def show() -> None:
        lines, told = set[str](), set[str]()
        with activities() as act, suppress(RayError):
            last = False
            while not last:
                if last := stop.wait(POLL_SECONDS):
                    time.sleep(POLL_SECONDS)  # for what is on its way
                for fingerprint, title, kind, text in ray.get(messages.take.remote(), timeout=ANSWER_SECONDS):
                    if kind == SAID:
                        if text not in told:  # every process says how the images are prepared
                            say(text)
                        told.add(text)
                    elif fingerprint not in over and (title in lines or len(lines) < SHOWN):
                        lines.add(title)
                        act(title, text)
                while ended:
                    unit = ended.popleft()
                    over.add(unit.fingerprints[0])
                    lines.discard(unit.title)
                    act(unit.title, "")

    thread = threading.Thread(target=show, daemon=True, name="messages")
    thread.start()
    try:
        yield ended.append
    finally:
        stop.set()
        thread.join(END_SECONDS)
