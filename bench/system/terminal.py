"""Standard output, as people read it."""

from __future__ import annotations

import sys

from rich.console import Console

WIDTH = 100
"""Columns of a table in a file or a pipe, which have no width of their own."""


def output() -> Console:
    """As wide as the terminal, where it is one."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
