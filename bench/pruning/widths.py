"""How many filters a layer may keep, and which filters are removed under this rule.

Two rules apply to every method that removes filters. A width is a multiple of `round_to`, because matrix units and
vector instructions work on 8 or more channels at a time, and other widths may cost more than they save. Every layer
keeps a given share of its filters (`keep_at_least`), because a ranking over the whole network can empty a layer.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil, floor
from typing import Annotated, TypeVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor

Layer = TypeVar("Layer", bound=Hashable)
"""What a layer goes by: its name, or the number of its group."""
RoundTo = Annotated[int, Ge(1), "filters: a layer that loses any keeps a multiple of this; 8 suits most devices"]
"""The option for widths, as `remove_lowest(..., round_to=...)` takes it."""
KeepAtLeast = Annotated[float, Interval(ge=0, lt=1), "share that every layer keeps, however low it ranks"]
"""The option for a limit on what a layer loses, as `remove_lowest(..., keep_at_least=...)` takes it."""


def fewest(count: int, share: float) -> int:
    """The fewest of `count` that stay: the share, rounded up, and at least one."""
    return max(1, ceil(round(share * count, 9)))


def rounded_counts(counts: Sequence[int], channels: Sequence[int], least: Sequence[int], round_to: int) -> list[int]:
    """How many filters each layer loses, near the wanted `counts`, so that it keeps an allowed number.

    A layer that is to lose filters keeps the nearest multiple of `round_to` that is not below `least`, or all filters
    if there is no such multiple. What rounding adds to one layer is taken from the next that loses any (error
    diffusion), so that the whole network keeps about as many filters as without rounding. No layer is more than one
    multiple from its own count, unless it would keep fewer than it must.
    """
    lost, carried = [], 0.0
    for count, width, low in zip(counts, channels, least, strict=True):
        wanted = width - count - carried
        lowest = ceil(low / round_to) * round_to
        kept = width if count == 0 or lowest > width else min(max(lowest, _nearest(wanted, round_to)), width)
        if count:
            carried = min(max(kept - wanted, -round_to / 2), round_to / 2)
        lost.append(width - kept)
    return lost


def _nearest(wanted: float, unit: int) -> int:
    return floor(wanted / unit + 0.5) * unit


def lowest_overall(
    scores: Mapping[Layer, Tensor], total: int, units: Mapping[Layer, int], least: Mapping[Layer, int]
) -> dict[Layer, Tensor]:
    """The lowest `total` of all layers' scores: their positions in the flattened scores, in ascending order of score.

    They are removed in blocks, so that every layer keeps a multiple of its unit: the lowest scores of a layer form a
    block, which is ranked by their mean. Blocks are removed as long as all of them together have at most `total`
    scores. Every layer keeps at least `least`. Of equal scores, the first is removed first.
    """
    orders = {name: some.flatten().double().sort(stable=True) for name, some in scores.items()}
    sizes = {name: _blocks(some.numel(), units[name], least[name]) for name, some in scores.items()}
    means = [_means(orders[name].values, sizes[name]) for name in orders]
    ranked = torch.cat([torch.zeros(0, dtype=torch.double), *(some.cpu() for some in means)]).sort(stable=True).indices
    size = torch.cat([torch.zeros(0, dtype=torch.long), *sizes.values()])
    gone = torch.zeros(len(size), dtype=torch.long)
    gone[ranked[size[ranked].cumsum(0) <= total]] = 1
    parts = (gone * size).split([len(some) for some in sizes.values()])
    return {name: orders[name].indices[: int(part.sum())] for name, part in zip(orders, parts, strict=True)}


def _blocks(count: int, unit: int, least: int) -> Tensor:
    """Sizes of a layer's blocks, until it is as narrow as it may be: first the rest beyond a multiple of the unit."""
    goes = count - ceil(least / unit) * unit
    if goes <= 0:
        return torch.zeros(0, dtype=torch.long)
    odd = [count % unit] if count % unit else []
    return torch.tensor([*odd, *[unit] * ((goes - sum(odd)) // unit)])


def _means(ascending: Tensor, sizes: Tensor) -> Tensor:
    """The mean of each block of the sorted scores."""
    ends = sizes.cumsum(0).tolist()
    if len(sizes) == 0 or int(sizes.max()) == 1:
        return ascending[: len(sizes)]
    return torch.stack([ascending[end - size : end].mean() for end, size in zip(ends, sizes.tolist(), strict=True)])
