"""Ranges of numbers as people write them: `16..64/16` is 16, 32, 48, 64; `16..64*2` is 16, 32, 64.

The last number belongs to a range where a step reaches it. Steps are taken in decimal arithmetic, so `0.1..0.9/0.2` is
0.1, 0.3, 0.5, 0.7, 0.9 to the last digit. Three whole numbers give whole numbers; their step is 1 by default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, localcontext

EXAMPLE = "a range is written first..last/step, as in 16..64/16 or 0.1..0.9/0.2, or first..last*factor, as in 16..256*2"
COUNTLESS = 10**15
"""Where counting ends."""
_DIGITS = 1000
"""Of a result; enough for sums of the numbers that `_number` takes to be exact."""
_LONGEST = 30
_LARGEST_EXPONENT = 300

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
RANGE = re.compile(
    rf"(?<![\w.])(?P<first>{_NUMBER})\s*\.\.(?!\.)\s*(?P<last>{_NUMBER})"
    rf"(?:\s*(?P<sign>[/*])\s*(?P<step>{_NUMBER}))?(?![\w.])"
)
"""A range within a longer text."""


@dataclass(frozen=True)
class Range:
    """The numbers from `first` to `last`, `step` apart, or each `step` times the one before it (`geometric`)."""

    first: Decimal
    last: Decimal
    step: Decimal
    geometric: bool
    whole: bool
    """Whether it consists of whole numbers."""

    @property
    def count(self) -> int:
        """How many numbers there are; `COUNTLESS` stands for more."""
        with localcontext(prec=_DIGITS):
            if not self.geometric:
                return int(min((self.last - self.first) // self.step + 1, Decimal(COUNTLESS)))
            with localcontext(prec=_LONGEST + 20):
                count = int(min((self.last / self.first).ln() / self.step.ln(), Decimal(COUNTLESS - 1))) + 1
            if count == COUNTLESS:
                return count
            # A logarithm is rounded: it may be one off where a power of the factor meets the last number.
            return count + (self._number(count) <= self.last) - (self._number(count - 1) > self.last)

    @property
    def values(self) -> list[int] | list[float]:
        with localcontext(prec=_DIGITS):
            numbers = [self._number(index) for index in range(self.count)]
        return [int(number) for number in numbers] if self.whole else [float(number) for number in numbers]

    def _number(self, index: int) -> Decimal:
        return self.first * self.step**index if self.geometric else self.first + index * self.step


def read_range(text: str) -> Range | None:
    """The range that a text is; None for other text, and a ValueError, in one line, for a range without numbers."""
    match = RANGE.fullmatch(text.strip())
    if match is None:
        return None
    written = [part for part in (match["first"], match["last"], match["step"]) if part is not None]
    first, last, *steps = map(_number, written)
    whole = all(re.fullmatch(r"[+-]?\d+", part) for part in written)
    if not (steps or whole):
        raise ValueError(f"{text}: needs a step, as in {match['first']}..{match['last']}/0.1")
    step, geometric = steps[0] if steps else Decimal(1), match["sign"] == "*"
    if last < first:
        raise ValueError(f"{text}: ends below its beginning; write the smaller number first")
    if geometric and (first <= 0 or step <= 1):
        raise ValueError(f"{text}: with * the first number has to be above 0 and the factor above 1, as in 16..256*2")
    if step <= 0:
        raise ValueError(f"{text}: the step has to be above 0")
    return Range(first, last, step, geometric, whole)


def _number(text: str) -> Decimal:
    number = Decimal(text) if len(text) <= _LONGEST else Decimal("NaN")
    if number.is_nan() or abs(number.adjusted()) > _LARGEST_EXPONENT:
        raise ValueError(f"{text[:_LONGEST]}: a range takes numbers of up to {_LONGEST} characters and up to 1e300")
    return number
