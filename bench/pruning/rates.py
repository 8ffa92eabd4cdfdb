"""Which layers a method works on, and what share of each is removed.

Convolutions are counted from 1, the stem, as in papers. Linear layers are not counted, so that these numbers stay the
same; methods that reach them choose them by name. The annotations `Rate`, `Rates`, `Skip` and `Tied` are types for the
options of methods: a method writes `rate: Rate = 0.5` and gets the rule, the message and the description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from math import floor
from typing import Annotated, Any

from annotated_types import Ge, Interval
from pydantic import AfterValidator, BeforeValidator
from torch import nn

from bench.networks.layers import convolutions, weighted_layers
from bench.system.errors import BenchError

_RANGE = re.compile(r"(\d+)(?:-(\d+))?=(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)")
FIRST = "first"


def parse_ranges(text: str) -> list[tuple[int, int, float]]:
    """First layer, last layer and rate of each part of a text such as '2-19=0.6,20=0.3'; ValueError for other text."""
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


def _as_tuple(value: Any) -> Any:
    """A tuple, even if one layer is given without brackets."""
    return (value,) if isinstance(value, int | str) and not isinstance(value, bool) else value


LayerRanges = Annotated[str, AfterValidator(_validated)]
"""Rates by layer, as in '2-19=0.6,20-37=0.3'."""
Layers = Annotated[
    tuple[Annotated[int, Ge(1)] | Annotated[str, AfterValidator(str.strip)], ...], BeforeValidator(_as_tuple)
]
"""Convolutions by position, counted from 1 in the order in which the network defines them, or layers by patterns of
their names."""
Rate = Annotated[float, Interval(ge=0, lt=1), "share removed"]
"""The option for the share that is removed, in [0, 1)."""
Rates = Annotated[LayerRanges, "other rates for some layers, as in '2-19=0.6,20=0.3'; the stem is 1"]
"""The option for other rates in some layers; `layer_rates` reads it."""
Skip = Annotated[Layers, "layers left alone: positions (the stem is 1) or patterns of names"]
"""The option for layers that keep everything; `layer_rates` reads it."""
Tied = Annotated[bool, "filters: prune residual streams too, not only inside blocks"]
"""The option for filters that are tied together by sums, as `remove_lowest(..., tied=...)` takes it."""


def choose_layers(
    model: nn.Module, wanted: Sequence[int | str], option: str = "layers", *, linear: bool = False
) -> list[str]:
    """The names of the convolutions that `wanted` selects, in the order in which the network defines them.

    Each item is a position, counted from 1, or a text: a name, the name of a module that holds convolutions, a pattern
    such as `layer1.*` or `*downsample*`, or `first`. With `linear=True` a text selects linear layers too; positions
    always count convolutions. Raises BenchError, which names `option`, for an item that selects no layer.
    """
    numbers = {name: position for position, name in enumerate(convolutions(model), 1)}
    names = list(weighted_layers(model) if linear else numbers)
    chosen: set[str] = set()
    for item in wanted:
        matching = [name for name in names if _is(item, numbers.get(name), name)]
        if not matching:
            raise BenchError(f"{option}={item!r} matches no layer: {_known(names, linear)}")
        chosen.update(matching)
    return [name for name in names if name in chosen]


def _is(item: int | str, position: int | None, name: str) -> bool:
    if isinstance(item, int) or item == FIRST:
        return position == (1 if item == FIRST else item)
    return fnmatchcase(name, item) or name.startswith(f"{item}.")


def _known(names: list[str], linear: bool) -> str:
    if not names:
        return "the network has no convolutions"
    shown = names if len(names) < 5 else [*names[:2], "...", names[-1]]
    kinds = "convolutions and linear layers" if linear else "convolutions"
    return f"the network has {len(names)} {kinds}, {', '.join(shown)}"


def layer_rates(
    model: nn.Module, rate: float, ranges: str = "", skip: Sequence[int | str] = (), *, linear: bool = False
) -> dict[str, float]:
    """The rate of each convolution by name, in [0, 1); with `linear=True` of each linear layer too.

    It is 0 for the layers in `skip`, otherwise the rate of the last of `ranges` that includes the layer, otherwise
    `rate`. `ranges` and numbers in `skip` count convolutions, so a linear layer has `rate`, or 0 if `skip` names it.
    Raises BenchError for a layer that the network does not have.
    """
    rates = dict.fromkeys(weighted_layers(model) if linear else convolutions(model), rate)
    for first, last, part in parse_ranges(ranges):
        rates |= dict.fromkeys(choose_layers(model, range(first, last + 1), "rates"), part)
    return rates | dict.fromkeys(choose_layers(model, skip, "skip", linear=linear), 0.0)


def only_rate(rates: Mapping[str, float]) -> float:
    """The common rate of all layers whose rate is not 0; BenchError if there are several rates."""
    several = sorted({rate for rate in rates.values() if rate > 0})
    if len(several) > 1:
        given = f"{several[0]:g} and {several[-1]:g}"
        raise BenchError(f"one ranking over the whole network goes with one rate, not {given}: leave out 'rates'")
    return several[0] if several else 0.0


def removed_count(channels: int, rate: float) -> int:
    """How many filters are removed, so that floor(channels * (1 - rate)) stay, and at least one.

    The rate is taken as the decimal number that it is written as: of 100 filters, exactly 10 stay at rate 0.9.
    """
    return channels - max(1, floor(channels * (1 - Fraction(str(rate)))))
