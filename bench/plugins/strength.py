"""The option that makes a method stronger, so that every method can be brought to the same operating point."""

from __future__ import annotations

import math
from dataclasses import dataclass

DIGITS = 4
"""Decimals of a value that is not a whole number, so that a setting reads well: `l1(rate=0.4375)`."""


@dataclass(frozen=True)
class Strength:
    """Which option of a method makes the result smaller, and the range that `bench run --at` searches.

    `weakest` and `strongest` are values of the option `option`. Either may be the larger one, because stronger can mean
    more (`rate`) or less (`keep`). If both are whole numbers, only whole numbers are tried. With `log` the range is
    divided by ratio and not by difference, for options that span orders of magnitude; both ends are then above 0.
    """

    option: str
    weakest: float
    strongest: float
    log: bool = False

    def value(self, progress: float) -> int | float:
        """The option's value at `progress`, from 0 (weakest) to 1 (strongest)."""
        if self.log:
            value = float(self.weakest * (self.strongest / self.weakest) ** progress)
        else:
            value = self.weakest + (self.strongest - self.weakest) * progress
        return round(value) if self.is_whole else round(value, DIGITS)

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are tried, because both ends are whole."""
        return isinstance(self.weakest, int) and isinstance(self.strongest, int)

    def progress(self, value: float) -> float:
        """Where a value lies in the range, from 0 to 1: the inverse of `value`."""
        if self.log:
            return math.log(value / self.weakest) / math.log(self.strongest / self.weakest)
        return (value - self.weakest) / (self.strongest - self.weakest)
