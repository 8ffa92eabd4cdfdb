"""The syntax of settings: text becomes trees of Python's own syntax, within limits."""

from __future__ import annotations

import ast
import warnings

from bench.plugins.ranges import EXAMPLE as RANGE_EXAMPLE
from bench.plugins.sweeps import check_number, looks_unfinished, named_ranges, restored
from bench.system.errors import BenchError
from bench.system.text import has_surrogate, shortened, shown

EXAMPLE = "write it like 'tic(k=64),kse(G=4)', and several values like 'tic(k=[16,32])'"
LONGEST = 100_000
"""Characters of settings that are read."""
DEEPEST = 20
"""Brackets inside each other."""
MOST_BITS = 1024
"""Of an integer."""
SEEN = 100
"""Characters after a mistake that are looked at, of which a message shows the first."""


def trees(text: str, source: str) -> list[ast.expr]:
    """The syntax tree of each setting, with its ranges as names (`sweeps.singles`). Nothing in it is evaluated."""
    _check_size(text, source)
    named, ranges = named_ranges(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's own, about a backslash or a number run into a word
            body = ast.parse(f"[{named}]", mode="eval").body
    except (SyntaxError, ValueError) as error:
        hint = RANGE_EXAMPLE if looks_unfinished(named) else EXAMPLE
        raise BenchError(f"{source} {shown(text)}: cannot be read{_place(error, named, ranges)}; {hint}") from None
    if not isinstance(body, ast.List):
        raise BenchError(f"{source} {shown(text)}: cannot be read; {EXAMPLE}")
    if not body.elts:
        raise BenchError(f"{source} {shown(text)}: names no method; {EXAMPLE}")
    for node in ast.walk(body):
        if isinstance(node, ast.Constant):
            _check_constant(node.value, source)
        elif isinstance(node, ast.Name):
            node.id = ranges.get(node.id, node.id)
    check_number(body.elts, source)
    return body.elts


def _check_size(text: str, source: str) -> None:
    """Refuse what Python's parser would spend minutes on, or give up with a MemoryError."""
    if len(text) > LONGEST:
        raise BenchError(f"{source} {shown(text)}: {len(text):,} characters, at most {LONGEST:,} are read")
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > DEEPEST:
            raise BenchError(f"{source} {shown(text)}: more than {DEEPEST} nested brackets; {EXAMPLE}")


def _check_constant(value: object, source: str) -> None:
    """Refuse values that cannot be printed or stored."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise BenchError(f"{source}: {shown(value)} is too large; integers have at most {MOST_BITS} bits")
    if isinstance(value, str) and has_surrogate(value):
        raise BenchError(f"{source}: {shown(value)} holds half of a character (a lone surrogate)")


def _place(error: Exception, named: str, ranges: dict[str, str]) -> str:
    """The text at which Python's parser gave up; it read one bracket more, in front."""
    start = (getattr(error, "offset", None) or 0) - 2
    if start < 0:
        return ""
    rest = restored(named[start : start + SEEN], ranges)
    return f" at {shown(rest[:12])}" if rest else ", it is not complete"


def written(node: ast.expr) -> str:
    """A part of a setting as text, shortened."""
    return shortened(ast.unparse(node))
