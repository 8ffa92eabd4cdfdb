"""Completion in the shell: names of methods, networks and datasets, also in lists that are separated by commas."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def methods(incomplete: str) -> list[str]:
    from bench.plugins import declared

    return _completed(incomplete, _quietly(declared.methods))


def datasets(incomplete: str) -> list[str]:
    from bench.plugins import declared

    return _completed(incomplete, _quietly(declared.datasets))


def models(incomplete: str) -> list[str]:
    from bench.plugins import declared

    return _completed(incomplete, [name for names in _quietly(declared.models).values() for name in names])


def _completed(incomplete: str, names: Iterable[str]) -> list[str]:
    """What was typed, with its last name completed; nothing within the options of a method."""
    if incomplete.count("(") > incomplete.count(")"):
        return []
    before, typed = re.fullmatch(r"(.*[,+\[]\s*|)(.*)", incomplete, re.DOTALL).groups()  # type: ignore[union-attr]
    return [before + name for name in names if name.startswith(typed)]


def _quietly(read: Callable[[], T]) -> T:
    """A shell that completes a word has no place for warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()
