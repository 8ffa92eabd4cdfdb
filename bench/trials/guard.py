"""Keeps trials from affecting each other: what a trial changes outside its own network is restored and reported."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from bench.isolation.changes import Changes
from bench.isolation.snapshot import Snapshot
from bench.trials import libraries
from bench.trials.ruler import Ruler


class Guard:
    """A context around one trial, after which functions, settings, the dense network and the images are as before.

    All trials run in one process, because importing torch takes seconds and CUDA does not allow forking. `changes` says
    what was different at the end. Random generators are left alone, because every trial seeds them.
    """

    def __init__(self, ruler: Ruler) -> None:
        self.changes = Changes()
        self._ruler = ruler

    def __enter__(self) -> Guard:
        libraries.load()
        _ = self._ruler.reference  # read while nothing is changed
        self._known = self._ruler.kept
        self._before = Snapshot.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.changes = _settled(self._before.restore) + _settled(self._ruler.check_shared)
        if self.changes:  # figures of the dense network that were measured meanwhile may be wrong
            self._ruler.forget_all_but(self._known)


def _settled(check: Callable[[], Changes]) -> Changes:
    """The changes that a check finds. A check that fails counts as a change that cannot be undone."""
    try:
        return check()
    except Exception as error:
        return Changes.of(f"something that cannot be checked ({type(error).__name__}: {error})", restored=False)
