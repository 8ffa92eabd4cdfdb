"""How much of each layer a method removes. Layers are counted from 1, the stem, as papers count them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Annotated

from annotated_types import Ge
from pydantic import AfterValidator
from torch import nn

from bench.errors import BenchError
from bench.layers import convolutions

_RANGE = re.compile(r"(\d+)(?:-(\d+))?=([0-9.eE+-]+)")


def parse_ranges(text: str) -> list[tuple[int, int, float]]:
    """First position, last position and rate of each part of '2-19=0.6,20=0.3'; a ValueError where it is not that."""
    ranges = []
    for part in filter(None, text.replace(" ", "").split(",")):
        match = _RANGE.fullmatch(part)
        if not match:
            raise ValueError(f"should look like '2-19=0.6,20=0.3' (layers=rate), not '{part}'")
        first, last, rate = int(match[1]), int(match[2] or match[1]), float(match[3])
        if not (1 <= first <= last and 0 <= rate < 1):
            raise ValueError(f"should count layers from 1 upwards with rates in [0, 1), not '{part}'")
        ranges.append((first, last, rate))
    return ranges


def _validated(text: str) -> str:
    parse_ranges(text)
    return text


LayerRanges = Annotated[str, AfterValidator(_validated)]
"""Rates by layer, '2-19=0.6,20-37=0.3'."""
Positions = tuple[Annotated[int, Ge(1)], ...]
"""Convolutions, counted from 1 in the order the network defines them."""


def layer_rates(model: nn.Module, rate: float, ranges: str = "", skip: Sequence[int] = ()) -> dict[str, float]:
    """The rate of each convolution by name: `rate`, unless a range says otherwise (the last one does); 0 where skipped.

    A BenchError for a position the network does not have.
    """
    names = list(convolutions(model))
    parts = parse_ranges(ranges) + [(position, position, 0.0) for position in skip]
    rates = [rate] * len(names)
    for first, last, part in parts:
        if last > len(names):
            raise BenchError(f"there is no layer {last}: the network has {len(names)} convolutions")
        rates[first - 1 : last] = [part] * (last - first + 1)
    return dict(zip(names, rates, strict=True))


def removed_count(channels: int, rate: float) -> int:
    """Filters to remove so that floor(channels * (1 - rate)) stay, and at least one; 1 - 0.9 is a tenth here."""
    return channels - max(1, floor(channels * (1 - Fraction(str(rate)))))
