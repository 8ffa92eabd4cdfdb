"""The state of this process at one moment, to be put back later; and whether this process can still measure."""

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
    """Something in this process was changed that cannot be put back: what it would measure from now on is wrong."""


def spoil(reason: str) -> None:
    """From now on `require_intact` raises, in one line that gives this reason."""
    _spoiled.append(reason)


def require_intact() -> None:
    """Raise SpoiledProcess where an earlier trial changed this process for good."""
    if _spoiled:
        raise SpoiledProcess(
            f"{_spoiled[0]}; every finished trial is recorded, and the same command goes on in a new process"
        )


@dataclass(frozen=True)
class Snapshot:
    """The functions of the libraries, what runs, and every setting of torch, Python and the system that we know."""

    names: Names
    running: Running
    values: list[tuple[State, Any]]

    @classmethod
    def now(cls) -> Snapshot:
        return cls(Names.now(), Running.now(), [(state, state.now()) for state in _states()])

    def restore(self) -> Changes:
        """Put back everything that differs, the functions first, for the settings are written by some of them."""
        changes = self.names.restore() + self.running.restore()
        for state, before in self.values:
            now = state.now()
            if now != before:
                changes += Changes.of(state.describe(before, now), state.put_back(before))
        return changes


@cache
def _states() -> tuple[State, ...]:
    return (*torch_states(), *process_states())
