"""One piece of the state of a process: how to read it, and how to restore an earlier value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LONGEST_VALUE = 60
"""Characters of a value in a message."""


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that cannot be read, such as a working directory that was deleted."""

    reason: str

    def __str__(self) -> str:
        return f"unreadable ({self.reason})"


@dataclass(frozen=True)
class State:
    """A named piece of state.

    `read` returns the current value, in a form that later changes do not affect and that `==` can compare. `write`
    restores such a value.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    details: Callable[[Any, Any], str] | None = None
    """Describes a change, given the values before and now; None shows both values."""

    def now(self) -> Any:
        """The value, or Unreadable."""
        try:
            return self.read()
        except Exception as error:  # a library may raise anything in a broken state
            return Unreadable(f"{type(error).__name__}: {error}")

    def put_back(self, before: Any) -> bool:
        """Write an earlier value. Returns whether it can then be read back."""
        try:
            self.write(before)
        except Exception:  # the comparison decides
            return bool(self.now() == before)
        return bool(self.now() == before)

    def describe(self, before: Any, now: Any) -> str:
        """The change in words: `default dtype (torch.float32 → torch.float64)`."""
        details = f"{_short(before)} → {_short(now)}" if self.details is None else self.details(before, now)
        return f"{self.name} ({details})" if details else self.name


def unnamed(before: Any, now: Any) -> str:
    """For values that say nothing to a reader."""
    return ""


def changed_keys(before: Any, now: Any) -> str:
    """For tables: the keys whose entries differ."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return ""
    return ", ".join(_short(key) for key in {**before, **now} if before.get(key) != now.get(key))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
