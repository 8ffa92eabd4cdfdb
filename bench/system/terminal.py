"""Standard output and standard error, as people read them."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from bench.system.text import printable

WIDTH = 100
"""Width in characters where output goes to a file or a pipe, which have no width of their own; COLUMNS sets another."""


class Screen(Console):
    """A console on which a plain string, alone or in a table's cell, is text and nothing else.

    It reads no markup, so `l1[/red]` is printed literally, and it writes control characters as escapes. Styled text is
    made with `styled`.
    """

    def render_str(self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any) -> Text:
        return Text(printable(text, keep="\n"), style=style, justify=justify, overflow=overflow)


def styled(text: str, style: str = "") -> Text:
    """Text with one style and no control characters."""
    return Text(printable(text, keep="\n"), style=style)


def output() -> Screen:
    """Standard output, as wide as the terminal if it is one."""
    return Screen(width=None if sys.stdout.isatty() else width_of_files(), highlight=False)


def width_of_files() -> int:
    """The width that COLUMNS in the environment asks for, or `WIDTH`. On a terminal, rich reads COLUMNS itself."""
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if re.fullmatch(r"[1-9][0-9]{0,3}", asked) else WIDTH
