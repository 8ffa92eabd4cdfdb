"""The predictions of settings at each seed, and which pairs of settings share seeds. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.comparing.paired import ALPHA, Integers, Pairs, corrected_by_holm, count_pairs, differences

PAIRS_AT_ONCE = 1 << 20
"""Pairs whose counts are in memory at a time."""


@dataclass(frozen=True)
class Answers:
    """One setting's answers by seed: `top1`, and which test images it got `right`, bool [N], if that is kept."""

    top1: dict[int, float] = field(default_factory=dict)
    right: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    def at_every(self, seeds: Iterable[int]) -> Answers:
        """The answers of a network that was measured once, repeated for each of these seeds."""
        seeds = list(seeds)
        top1 = {seed: value for value in self.top1.values() for seed in seeds}
        return Answers(top1, {seed: value for value in self.right.values() for seed in seeds})


def shared_seeds(one: Answers, other: Answers) -> tuple[list[int], list[int]]:
    """The seeds that both have: first those at which the answers of both are kept, then the others."""
    shared = sorted(one.top1.keys() & other.top1.keys())
    kept = [seed for seed in shared if seed in one.right and seed in other.right]
    return kept, [seed for seed in shared if seed not in kept]


def pair_up(settings: Sequence[Answers], members: Sequence[tuple[int, int]] | Integers) -> Pairs:
    """Count pairs of settings, given by index, that all have the same `shared_seeds`, with answers at one or more."""
    members = np.asarray(members)
    kept, others = shared_seeds(*(settings[place] for place in members[0]))
    places = np.unique(members)
    right = np.stack([[settings[place].right[seed] for seed in kept] for place in places])
    top1 = np.array([[settings[place].top1[seed] for seed in others] for place in places])
    first, second = np.searchsorted(places, members).T
    return count_pairs(right, top1.reshape(len(places), len(others)), first, second)


def tell_apart(settings: Sequence[Answers], pairs: Iterable[tuple[int, int]] | None = None) -> NDArray[np.bool_]:
    """Whether setting i is better than setting j, [settings, settings]; only for `pairs` (i, j), or for all.

    A pair is compared on the seeds that both have (see `bench.comparing.paired`). Its interval must exclude 0, and the
    p-values are corrected for their number by Holm's method: if all networks are equally good, the probability that any
    two are told apart is at most `ALPHA`. The variation between seeds is covered pair by pair; a few seeds cannot rule
    it out for all pairs together. Settings without a common seed whose answers are kept are not compared.
    """
    better = np.zeros((len(settings), len(settings)), dtype=bool)
    every = np.column_stack(np.triu_indices(len(settings), 1)) if pairs is None else list(pairs)
    groups = _comparable(settings, np.array(every, dtype=np.int64).reshape(-1, 2))
    if not groups:
        return better
    members, comparisons = np.concatenate(groups), sum(map(len, groups))
    compared = [differences(pair_up(settings, part), comparisons) for group in groups for part in _in_parts(group)]
    estimates = np.concatenate([each.estimate * each.beyond_zero for each in compared])
    p = corrected_by_holm(np.concatenate([each.p for each in compared]))
    apart = (p <= ALPHA) & (estimates != 0)
    ahead = np.where((estimates > 0)[:, None], members, members[:, ::-1])[apart]
    better[ahead[:, 0], ahead[:, 1]] = True
    return better


def _comparable(settings: Sequence[Answers], pairs: Integers) -> list[Integers]:
    """The pairs that share seeds at which the answers of both are kept, grouped by these and by the other seeds."""
    numbers: dict[tuple[frozenset[int], frozenset[int]], int] = {}
    kinds = [numbers.setdefault((frozenset(one.top1), frozenset(one.right)), len(numbers)) for one in settings]
    codes = np.array(kinds, dtype=np.int64)[pairs] @ np.array([len(numbers), 1])
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Integers]] = defaultdict(list)
    for code in np.unique(codes):
        alike = pairs[codes == code]
        kept, others = shared_seeds(*(settings[place] for place in alike[0]))
        if kept:
            groups[tuple(kept), tuple(others)].append(alike)
    return [np.concatenate(group) for group in groups.values()]


def _in_parts(pairs: Integers) -> Iterator[Integers]:
    """Pairs in parts that need little memory."""
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        yield pairs[start : start + PAIRS_AT_ONCE]
