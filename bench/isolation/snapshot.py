"""The state of this process at one moment, to be restored later; and whether this process can still measure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.isolation.changes import Changes
from bench.isolation.leftovers import Running
from bench.isolation.namespaces import Names
from bench.isolation.process_state import process_states
from bench.isolation.state import State
from bench.isolation.torch_state import torch_states
from bench.system.errors import BenchError

_spoiled: list[str] = []


class SpoiledProcess(BenchError):
    """A change in this process cannot be undone, so anything that it measured from now on could be wrong."""


def spoil(reason: str) -> None:
    """Make `require_intact` raise from now on, in one line that gives this reason."""
    _spoiled.append(reason)


def require_intact() -> None:
    """Raise SpoiledProcess if an earlier trial made a change in this process that could not be undone."""
    if _spoiled:
        raise SpoiledProcess(
            f"{_spoiled[0]}; every finished trial is recorded, and the same command goes on in a new process"
        )


@dataclass(frozen=True)
class Snapshot:
    """Functions of libraries, running threads and processes, and known settings of torch, Python and the system."""

    names: Names
    running: Running
    values: list[tuple[State, Any]]

    @classmethod
    def now(cls) -> Snapshot:
        return cls(Names.now(), Running.now(), [(state, state.now()) for state in _states()])

    def restore(self) -> Changes:
        """Restore everything that differs. Functions come first, because some of them write the settings."""
        changes = self.names.restore() + self.running.restore()
        for state, before in self.values:
            now = state.now()
            if now != before:
                changes += Changes.of(state.describe(before, now), state.put_back(before))
        return changes


@cache
def _states() -> tuple[State, ...]:
    return (*torch_states(), *process_states())
