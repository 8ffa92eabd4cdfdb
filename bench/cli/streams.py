"""Standard output and standard error, also when they are closed, on a full disk or in an old encoding."""

from __future__ import annotations

import codecs
import os
import shlex
import sys
from typing import Any

from bench.system.messages import is_shown, log
from bench.system.text import encoded, one_line

PLAIN = {
    "×": "x", "–": "-", "—": "-", "±": "~", "→": "->", "·": ".", "…": "...", "●": "*", "○": "o", "✗": "x", "≠": "#",
    "▲": "^", "◆": "#", "ρ": "rho", "─": "-", "━": "-",
}  # fmt: skip
"""Replacements for the symbols of our output that the terminal's encoding lacks."""


def prepare() -> None:
    """Make both streams accept any text. Call it once, before anything is printed."""
    codecs.register_error("bench", _in_plain_signs)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by the parent process, as with `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="bench")


def tell(message: str) -> None:
    """Log one line and print it on standard error, or nothing if that is closed or full."""
    line = one_line(message)
    log(line)
    if not is_shown(line):
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        pass


def asked() -> str:
    """The command line, as it can be typed again."""
    return shlex.join(["bench", *sys.argv[1:]])


def write(text: str) -> None:
    """Write text for other programs to standard output, in UTF-8 whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded(text))
    sys.stdout.buffer.flush()


def finish() -> int:
    """Flush standard output. Returns the exit code: 0, 1 if the reader is gone, or 2 if it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Python would try again on exit, and print a traceback.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        if isinstance(error, BrokenPipeError):
            return 1
        tell(f"bench: standard output: {error.strerror}")
        return 2
    return 0


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(char, char.encode("unicode_escape").decode()) for char in lacking), error.end
