"""Sweeps: lists and ranges in a setting, each of which stands for several settings.

`tic(k=[16, 32])` is `tic(k=16)` and `tic(k=32)`; `l1(rate=0.1..0.9/0.2)` is five settings. Several sweeps are
multiplied, within a stage and over the stages of a pipeline; the last one changes fastest. A stage may be a list of
methods: `[l1, magnitude]+tic`.

Square brackets are a sweep and round ones a value: `skip=(16, 20)` leaves both layers alone, `skip=[16, 20]` first one
and then the other, and `skip=[(16, 20), (3,)]` tries both pairs of brackets. A sweep within round brackets is one, too:
`skip=(1, [16, 20])` is `(1, 16)` and `(1, 20)`. Text in quotes is never a sweep.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from itertools import product
from math import prod

from bench.plugins.ranges import COUNTLESS, RANGE, read_range
from bench.system.errors import BenchError
from bench.system.text import shortened

MOST = 10_000
"""Settings that one text may name."""

_TEXT = (
    r"""'''(?:\\.|(?!''').)*+(?:''')?|\"{3}(?:\\.|(?!\"{3}).)*+(?:\"{3})?|'(?:\\.|[^'\\\n])*+'?|"(?:\\.|[^"\\\n])*+"?"""
)
_SKIPPED_OR_RANGE = re.compile(rf"(?P<skipped>{_TEXT}|\#[^\n]*+)|(?P<range>{RANGE.pattern})", re.DOTALL)
"""Text in quotes, a comment, or a range outside of both. Unclosed text ends with the setting."""


def named_ranges(text: str) -> tuple[str, dict[str, str]]:
    """The text with a name in place of each range, which Python could not read, and the ranges by these names."""
    ranges: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        if match["range"] is None:
            return match[0]
        ranges[f"__range_{len(ranges)}__"] = match[0]
        return f"__range_{len(ranges) - 1}__"

    return _SKIPPED_OR_RANGE.sub(name, text), ranges


def restored(text: str, ranges: dict[str, str]) -> str:
    """A part of what `named_ranges` made, as it was written."""
    return re.sub(r"__range_\d+__", lambda match: ranges.get(match[0], match[0]), text)


def looks_unfinished(text: str) -> bool:
    """Whether two dots are left in what `named_ranges` made, outside of quotes: somebody meant a range."""
    return ".." in _SKIPPED_OR_RANGE.sub("", text)


def check_number(settings: Iterable[ast.expr], source: str) -> None:
    """Raise BenchError for lists that cannot be swept, and for more than `MOST` settings: before any is made."""
    total = 0
    for node in settings:
        try:
            total = min(total + _count(node), COUNTLESS)
        except ValueError as error:
            raise BenchError(f"{source}: {shortened(ast.unparse(node))}: {error}") from None
        if total > MOST:
            number = f"more than {COUNTLESS:,}" if total == COUNTLESS else f"{total:,}"
            raise BenchError(
                f"{source}: {shortened(ast.unparse(node))}: {number} settings, at most {MOST:,} are taken; "
                "shorten a list or widen a step"
            )


def singles(node: ast.expr) -> list[ast.expr]:
    """What is written with lists and ranges, once for each combination of their values."""
    if isinstance(node, ast.List):
        return [single for element in node.elts for single in singles(element)]
    if isinstance(node, ast.Name):
        found = read_range(node.id)
        return [ast.Constant(value) for value in found.values] if found else [node]
    if isinstance(node, ast.Tuple):
        return [ast.Tuple(list(elements), ast.Load()) for elements in product(*map(singles, node.elts))]
    if isinstance(node, ast.BinOp):
        return [ast.BinOp(left, node.op, right) for left, right in product(singles(node.left), singles(node.right))]
    if isinstance(node, ast.Call):
        names = [keyword.arg for keyword in node.keywords]
        return [
            ast.Call(node.func, node.args, [ast.keyword(*pair) for pair in zip(names, values, strict=True)])
            for values in product(*(singles(keyword.value) for keyword in node.keywords))
        ]
    return [node]


def _count(node: ast.expr) -> int:
    """The length of `singles`, or `COUNTLESS`; ValueError for what cannot be swept."""
    if isinstance(node, ast.List):
        if not node.elts:
            raise ValueError("[] is an empty list; expected at least one value, as in k=[16, 32]")
        if any(isinstance(element, ast.List) for element in node.elts):
            raise ValueError("a list in a list; a value of several parts has round brackets, as in [(16, 20), (3,)]")
        return min(sum(map(_count, node.elts)), COUNTLESS)
    if isinstance(node, ast.Name):
        found = read_range(node.id)
        return found.count if found else 1
    parts: list[ast.expr] = []
    if isinstance(node, ast.Tuple):
        parts = node.elts
    elif isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call):
        parts = [keyword.value for keyword in node.keywords]
    return min(prod(map(_count, parts)), COUNTLESS)
