"""The rules that plans, suites and records share: what each choice and each figure of a trial may be.

A rule is an annotated type. Pydantic checks it wherever a value comes in: in a suite, in a `Plan` made from Python, and
in a record that is written or read. Figures state their unit and which direction is better in the same place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Le
from pydantic import AfterValidator, AllowInfNan, Strict, TypeAdapter, ValidationError

from bench.system.errors import BadArgument

LARGEST_INTEGER = 2**63 - 1
"""What a column of a table holds."""
LONGEST_TEXT = 10_000
"""Characters of an error or a note that are kept."""
DEEPEST = 40
"""Levels of nesting in a record's configuration."""
LONGEST_INTEGER = 300
"""Digits of an integer."""


@dataclass(frozen=True, kw_only=True)
class Bounds(GroupedMetadata):
    """The least and the greatest number allowed, both included; pydantic reads them from here."""

    ge: float = 0
    le: float | None = None

    def __iter__(self) -> Iterator[object]:
        yield Strict()
        yield Ge(self.ge)
        if self.le is not None:
            yield Le(self.le)

    def __str__(self) -> str:
        most = "" if self.le in (None, LARGEST_INTEGER) else f" to {self.le:.12g}"
        return f"a number from {self.ge:g}{most}"


@dataclass(frozen=True, kw_only=True)
class Figure(Bounds):
    """A measured number: its unit, and the direction that is better (None where it describes the conditions)."""

    unit: str
    better: Literal["higher", "lower"] | None = None


def check_fingerprint(text: str) -> str:
    """The text itself; ValueError if it is not a fingerprint. It names a folder, so it must not be a path."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", text):
        return text
    raise ValueError(f"{text[:80]!r}, expected up to 64 letters, digits, '_', '-' and '.', with no '.' in front")


def _time(text: str) -> str:
    try:
        datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{text[:80]!r}, expected a time as in 2026-01-31T12:00:00+00:00") from None
    return text


Fingerprint = Annotated[str, AfterValidator(check_fingerprint)]
Time = Annotated[str, AfterValidator(_time)]
"""UTC, ISO 8601."""

Epochs = Annotated[float, AllowInfNan(False), Bounds(le=1_000_000)]
"""Passes over the training images."""
Seed = Annotated[int, Bounds(le=LARGEST_INTEGER)]
SeedCount = Annotated[int, Bounds(ge=1, le=10_000)]
ImageSize = Annotated[int, Bounds(ge=8, le=4096)]
"""Height and width of the images that a network is given, in pixels."""
AttackImages = Annotated[int, Bounds(le=LARGEST_INTEGER)]
"""Test images to attack; 0 for none."""
AttackDistance = Annotated[int, Bounds(ge=1, le=255)]
"""How far the attack may move a pixel, in levels of 255."""


def check(argument: str, value: object, rule: Any) -> None:
    """Raise BadArgument where `value` breaks the `rule`."""
    try:
        _adapter(rule).validate_python(value)
    except ValidationError as error:
        wanted = str(bounds(rule))
        if error.errors()[0]["type"].startswith("int_"):
            wanted = wanted.replace("a number", "a whole number")
        raise BadArgument(argument, _shown(value), f"expected {wanted}") from None


def _shown(value: object) -> object:
    """The value as a message shows it. Python refuses to print integers with thousands of digits."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    return value


@cache
def _adapter(rule: Any) -> TypeAdapter[Any]:
    return TypeAdapter(rule)


def bounds(rule: Any) -> Bounds | None:
    """The bounds in an annotation, which may be optional (`Share | None`); None where it has none."""
    parts = get_args(rule) if get_origin(rule) is not None else ()
    own = next((part for part in getattr(rule, "__metadata__", ()) if isinstance(part, Bounds)), None)
    return own or next((inner for part in parts if (inner := bounds(part))), None)


def number_type(rule: Any) -> type[int] | type[float] | None:
    """int or float for an annotation of whole numbers or of numbers, which may be optional; None for any other."""
    if rule in (int, float):
        return rule  # type: ignore[no-any-return]
    if bounds(rule) is None:
        return None
    return next(kind for part in get_args(rule) if (kind := number_type(part)))


def shortened(text: str) -> str:
    """At most `LONGEST_TEXT` characters; says how many were left out."""
    left_out = len(text) - LONGEST_TEXT
    return text if left_out <= 0 else f"{text[:LONGEST_TEXT]} ... ({left_out:,} more characters)"


def plain(value: Any, depth: int = 0) -> Any:
    """A copy of `value` that JSON can hold and UTF-8 can encode: tuples become lists, surrogates are escaped.

    ValueError for values that JSON cannot express (infinity, NaN, other objects), for integers of over 300 digits, and
    for nesting deeper than `DEEPEST` levels.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and abs(value) < 10**LONGEST_INTEGER:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth < DEEPEST and isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if depth < DEEPEST and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {plain(key): plain(item, depth + 1) for key, item in value.items()}
    raise ValueError(_unfit(value))


def _unfit(value: Any) -> str:
    if isinstance(value, int):
        return f"an integer of more than {LONGEST_INTEGER} digits"
    if isinstance(value, float):
        return f"{value}, expected a finite number"
    if isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} with keys that are not text, or nested deeper than {DEEPEST} levels"
    return f"a {type(value).__name__}, which JSON cannot hold"
