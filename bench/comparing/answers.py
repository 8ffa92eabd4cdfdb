"""The predictions of settings at each seed, and which pairs of settings share seeds. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.comparing.paired import ALPHA, Pairs, count_pairs, differences, holm


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


def pair_up(settings: Sequence[Answers], members: Sequence[tuple[int, int]]) -> Pairs:
    """Count pairs of settings, given by index, that all have the same `shared_seeds`, with answers at one or more."""
    kept, others = shared_seeds(*(settings[place] for place in members[0]))
    places = sorted({place for pair in members for place in pair})
    right = np.stack([[settings[place].right[seed] for seed in kept] for place in places])
    top1 = np.array([[settings[place].top1[seed] for seed in others] for place in places])
    first, second = (np.searchsorted(places, side) for side in zip(*members, strict=True))
    return count_pairs(right, top1.reshape(len(places), len(others)), first, second)


def tell_apart(settings: Sequence[Answers], pairs: Iterable[tuple[int, int]] | None = None) -> NDArray[np.bool_]:
    """Whether setting i is better than setting j, [settings, settings]; only for `pairs` (i, j), or for all.

    A pair is compared on the seeds that both have (see `bench.comparing.paired`). Its interval must exclude 0, and the
    p-values are corrected for their number by Holm's method: if all networks are equally good, the probability that any
    two are told apart is at most `ALPHA`. The variation between seeds is covered pair by pair; a few seeds cannot rule
    it out for all pairs together. Settings without a common seed whose answers are kept are not compared.
    """
    groups: dict[tuple[tuple[int, ...], ...], list[tuple[int, int]]] = defaultdict(list)
    for one, other in combinations(range(len(settings)), 2) if pairs is None else pairs:
        kept, others = shared_seeds(settings[one], settings[other])
        if kept:
            groups[tuple(kept), tuple(others)].append((one, other))
    members = [pair for group in groups.values() for pair in group]
    compared = [differences(pair_up(settings, group)) for group in groups.values()]
    estimates = [float(estimate) for each in compared for estimate in each.estimate * each.beyond_zero]
    corrected = holm([float(p) for each in compared for p in each.p])
    better = np.zeros((len(settings), len(settings)), dtype=bool)
    for (one, other), estimate, p in zip(members, estimates, corrected, strict=True):
        if p is not None and p <= ALPHA and estimate:
            better[(one, other) if estimate > 0 else (other, one)] = True
    return better
