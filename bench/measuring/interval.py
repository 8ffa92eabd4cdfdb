"""Ratios of paired times, with intervals that hold for any noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """How much larger the upper bound is than the lower one, as a fraction: 0.04 is about ±2%."""
        return self.high / self.low - 1

    @property
    def holds_one(self) -> bool:
        return self.low <= 1 <= self.high


def ratio(numerator: Times, denominator: Times, confidence: float) -> Ratio:
    """The typical ratio of two series of times, both [rounds] and in milliseconds, that were measured in pairs.

    The estimate is the Hodges-Lehmann estimator of the paired logarithms: the median of their pairwise means. The
    interval is the one that belongs to it, from Wilcoxon's signed-rank test (Hollander, Wolfe and Chicken:
    Nonparametric Statistical Methods, 2014, section 3.3).

    The test only requires that a difference is as likely as its negative. For two equal networks, the order of timing
    ensures this, because it is random in every round. So the interval contains 1 as often as its confidence states,
    however the noise drifts or clusters over time.

    ValueError for too few rounds: 95% needs 6, 99% needs 8.
    """
    logs = np.log(numerator) - np.log(denominator)
    first = signed_rank_quantile(len(logs), (1 - confidence) / 2)
    if not first:
        raise ValueError(f"{len(logs)} rounds are too few for an interval of {confidence:.0%}")
    pairs = np.triu_indices(len(logs))
    means = np.sort((logs[pairs[0]] + logs[pairs[1]]) / 2)
    middle, low, high = np.exp([np.median(means), means[first - 1], means[-first]])
    return Ratio(float(middle), float(low), float(high))


@cache
def signed_rank_quantile(rounds: int, share: float) -> int:
    """How many of the smallest pairwise means lie below an interval that leaves `share` on each side; 0: too few.

    It is the largest k with P(W < k) <= share, where W is Wilcoxon's signed-rank statistic under its null hypothesis,
    the sum of those numbers from 1 to `rounds` that a fair coin chooses.
    """
    chance = np.zeros(rounds * (rounds + 1) // 2 + 1)
    chance[0] = 1
    for rank in range(1, rounds + 1):
        moved = np.zeros_like(chance)
        moved[rank:] = chance[:-rank]
        chance = (chance + moved) / 2
    return int(np.searchsorted(np.cumsum(chance), share, side="right"))
