"""How many filters of each group are removed, and which: the lowest of every layer, or of all layers together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

from torch import Tensor, nn

from bench.networks.surgery import Cuts, merged
from bench.pruning.groups import FilterGroup
from bench.pruning.rates import only_rate, removed_count
from bench.pruning.scores import checked_counts, checked_limits, checked_rates, checked_scores, whole
from bench.pruning.widths import lowest_overall, rounded_counts
from bench.system.errors import BenchError, MethodFault
from bench.system.text import listed

Score = Callable[[FilterGroup], Tensor | None]
"""One number for each filter of a group, [channels]; the lowest are removed first. None keeps all filters."""

Rates = Mapping[str, float] | float


@dataclass(frozen=True)
class Amount:
    """How many filters are removed: `each` has one number per group; or `total` is for all groups in `concerned`."""

    each: list[int]
    total: int | None = None
    concerned: list[int] = field(default_factory=list)


def amount_of(
    model: nn.Module,
    groups: list[FilterGroup],
    left_dense: Mapping[str, str],
    rates: Rates | None,
    count: Mapping[str, int] | int | None,
    overall: bool,
) -> Amount:
    if (rates is None) == (count is None):
        raise MethodFault("remove_lowest needs either rates or count, and not both")
    if isinstance(count, Mapping):
        if overall:
            raise MethodFault("overall=True goes with rates or with one count, not with a count for each layer")
        return Amount(_own_counts(model, groups, left_dense, count))
    if rates is None:
        return Amount([], whole(count, "count"), list(range(len(groups))))
    by_layer = checked_rates(rates, model, [name for group in groups for name in group.convolutions])
    shares = [min(by_layer[name] for name in group.convolutions) for group in groups]
    if not overall:
        return Amount([removed_count(group.channels, share) for group, share in zip(groups, shares, strict=True)])
    concerned = [index for index, share in enumerate(shares) if share > 0]
    filters = sum(groups[index].channels for index in concerned)
    rate = only_rate(rates if isinstance(rates, Mapping) else by_layer)
    return Amount([], floor(filters * Fraction(str(rate))), concerned)


def _own_counts(
    model: nn.Module, groups: list[FilterGroup], left_dense: Mapping[str, str], count: Mapping[str, int]
) -> list[int]:
    """How many filters each group loses; among tied convolutions, those that are named decide."""
    by_name = {name: group for group in groups for name in group.convolutions}
    channels = {name: group.channels for name, group in by_name.items()}
    counts = checked_counts(count, model, channels)
    for name in count:
        refuse_fixed(name, by_name, left_dense)
    return [min([counts[name] for name in group.convolutions if name in count], default=0) for group in groups]


@dataclass(frozen=True)
class Widths:
    """The fewest filters that each group keeps, and the multiple of which every width must be."""

    least: list[int]
    round_to: int

    @classmethod
    def of(cls, groups: list[FilterGroup], round_to: int, keep_at_least: Mapping[str, int] | float) -> Widths:
        channels = {name: group.channels for group in groups for name in group.convolutions}
        limits = checked_limits(keep_at_least, channels)
        least = [max(limits[name] for name in group.convolutions) for group in groups]
        return cls(least, whole(round_to, "round_to", least=1))


def choose(groups: list[FilterGroup], score: Score, amount: Amount, widths: Widths) -> list[list[int] | None]:
    """The filters of each group that are removed; None for a group that the method does not score."""
    if amount.total is None:
        channels = [group.channels for group in groups]
        chosen = _lowest_of_each(groups, rounded_counts(amount.each, channels, widths.least, widths.round_to), score)
    else:
        chosen = _lowest_of_all(groups, amount.concerned, amount.total, score, widths)
    if groups and all(indices is None for indices in chosen):
        raise MethodFault("the score gave None for every group of filters; it should return a number for each filter")
    return chosen


def _lowest_of_each(groups: list[FilterGroup], counts: list[int], score: Score) -> list[list[int] | None]:
    """One group after another; each knows which of its inputs are already removed."""
    cuts: Cuts = {}
    chosen: list[list[int] | None] = []
    for group, count in zip(groups, counts, strict=True):
        gone = {owner: frozenset(positions) for (owner, axis), positions in cuts.items() if axis == 1}
        scores = _scores(replace(group, gone=gone), score)
        chosen.append(None if scores is None else scores.sort(stable=True).indices[:count].tolist())
        cuts = merged([cuts, group.cuts(chosen[-1] or ())])
    return chosen


def _lowest_of_all(
    groups: list[FilterGroup], concerned: list[int], total: int, score: Score, widths: Widths
) -> list[list[int] | None]:
    """The lowest of all filters; the filter with the highest score of every group stays."""
    scores = {index: _scores(groups[index], score) for index in concerned}
    scored = {index: some for index, some in scores.items() if some is not None}
    units, least = dict.fromkeys(scored, widths.round_to), {index: widths.least[index] for index in scored}
    gone = {index: some.tolist() for index, some in lowest_overall(scored, total, units, least).items()}
    return [None if scores.get(index, True) is None else gone.get(index, []) for index in range(len(groups))]


def _scores(group: FilterGroup, score: Score) -> Tensor | None:
    scores = score(group)
    return None if scores is None else checked_scores(scores, listed(list(group.convolutions)), (group.channels,))


def refuse_fixed(name: str, by_name: Mapping[str, FilterGroup], left_dense: Mapping[str, str]) -> None:
    if name not in by_name:
        raise BenchError(f"'{name}' cannot lose filters: {left_dense.get(name, 'no such convolution')}")
