"""Whether two settings differ in top-1, and by how much: paired by test image, over the seeds that both have.

Shapes in brackets use P pairs of settings, N images, S seeds whose predictions are kept, and T other seeds.

For image i and seed s, d[i, s] is 1 if only the first setting is right, -1 if only the second is, and 0 otherwise. The
difference is the mean of d. Two settings are told apart if both of these hold:

- Their trained networks differ. Under the null hypothesis the two are exchangeable on every image, so the sign of
  sum_s d[i, s] is a fair coin. The randomisation test of the total is computed exactly: the p-value. An image counts
  once however many seeds there are, because errors on one image are not independent. With one seed this is McNemar's
  exact test (Psychometrika 1947).
- The 95% interval of the difference excludes 0. It covers the variation of images and of seeds, as crossed random
  effects. The variance of the mean is the variance of the images' effects, over N, plus that of the mean over seeds,
  which is known with only S - 1 degrees of freedom and is at least the residual. Each is multiplied by the square of
  its own t quantile (Howe, Approximate Confidence Limits on the Mean of X + Y, Journal of the American Statistical
  Association 1974).

With one seed, the variation between seeds is unknown and missing from the interval. With two seeds, the interval is
very wide.

Two images are added, one for each setting at every seed (Bonett and Price, Journal of Educational and Behavioral
Statistics 2012), so that the interval has a width even if no image differs. With one seed it then excludes 0 whenever
the p-value is at most 0.05.

For a seed whose predictions are not kept, the difference of top-1 is still known. It counts in the mean and in the
variance over seeds. The p-value and the variance of images are computed from the seeds with predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Probability that a comparison finds a difference where there is none; for a board, that any of its pairs does."""
DEVIATIONS = 12
"""Half the width of a binomial distribution that is computed; what lies outside has a probability below 1e-30."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """The counts from which a comparison is computed.

    `counts` [P, 2 S + 1]: number of images by sum_s d[i, s], from -S to S. `by_seed` [P, S + T]: the sum of d over the
    images, for the seeds with predictions first. `discordant` [P]: how many d of the seeds with predictions are not 0.
    """

    counts: Integers
    by_seed: Integers
    discordant: Integers

    @property
    def images(self) -> int:
        return int(self.counts.sum(1)[0])

    @property
    def kept(self) -> int:
        """Seeds with predictions."""
        return int(self.counts.shape[1]) // 2


@dataclass(frozen=True)
class Differences:
    """The difference of top-1 (a fraction), its 95% interval and the exact p-value for P pairs; arrays [P]."""

    estimate: Floats
    low: Floats
    high: Floats
    p: Floats

    @property
    def beyond_zero(self) -> NDArray[np.bool_]:
        """Whether the interval excludes 0."""
        return (self.low > 0) | (self.high < 0)


def count_pairs(right: NDArray[np.bool_], top1: Floats, first: Integers, second: Integers) -> Pairs:
    """Count for pairs of settings, given by index, from `right` [settings, S, N] and `top1` [settings, T].

    Counting uses matrix products over the images, so that all pairs of a board take only a moment.
    """
    seeds, images = right.shape[1:]
    totals = right.sum(1)
    levels = [(totals == level).astype(np.float32) for level in range(seeds + 1)]
    counts = np.zeros((len(first), 2 * seeds + 1))
    for high, one in enumerate(levels):
        for low, other in enumerate(levels):
            counts[:, seeds + high - low] += (one @ other.T)[first, second]
    sums = right.sum(2)
    both = sum((by_seed @ by_seed.T)[first, second] for by_seed in right.transpose(1, 0, 2).astype(np.float32))
    discordant = sums[first].sum(1) + sums[second].sum(1) - 2 * both
    sums = np.hstack([sums, np.rint(top1 * images)])
    return Pairs(*(array.astype(np.int64) for array in (counts, sums[first] - sums[second], discordant)))


def differences(pairs: Pairs, comparisons: int | None = None) -> Differences:
    """Estimate, interval and p-value of every pair.

    With `comparisons`, the number that the p-values will be corrected for, those that need no computation to be decided
    are 0 or 1 (see `decided`).
    """
    total = pairs.by_seed.sum(1)
    estimate = total / (pairs.images * pairs.by_seed.shape[1])
    mean, half = _interval(pairs)
    p = (
        np.array([sign_flip_p(counts) for counts in pairs.counts])
        if comparisons is None
        else decided(pairs, comparisons)
    )
    p[total * pairs.by_seed[:, : pairs.kept].sum(1) < 0] = 1  # the seeds with predictions say the opposite
    return Differences(estimate, mean - half, mean + half, p)


def _interval(pairs: Pairs) -> tuple[Floats, Floats]:
    """Middle and half width of the 95% interval; both count the two added images.

    Sums of squares are those of a two-way analysis of variance of d, images by seeds.
    """
    from scipy.special import stdtrit  # Student's t quantile; quicker to import than scipy.stats

    kept, seeds, images = pairs.kept, pairs.by_seed.shape[1], pairs.images + 2
    counts = pairs.counts.astype(float)
    counts[:, [0, -1]] += 1
    mean = pairs.by_seed.sum(1) / (images * seeds)
    of_mean = pairs.by_seed[:, :kept].sum(1) ** 2 / (images * kept)
    of_images = counts @ np.arange(-kept, kept + 1) ** 2 / kept - of_mean
    image_part = of_images / (images - 1) / (images * kept)
    of_one_image = stdtrit(images - 1, 1 - ALPHA / 2) ** 2
    if seeds == 1:
        return mean, np.sqrt(of_one_image * image_part)
    residual = np.zeros(len(mean))
    if kept > 1:
        of_seeds = (pairs.by_seed[:, :kept] ** 2).sum(1) / images - of_mean
        of_rest = pairs.discordant + 2 * kept - of_mean - of_images - of_seeds
        residual = of_rest / ((images - 1) * (kept - 1)) / images
    seed_part = (pairs.by_seed / images).var(1, ddof=1) / seeds
    of_one_seed = stdtrit(seeds - 1, 1 - ALPHA / 2) ** 2
    squared = of_one_image * np.maximum(0, image_part - residual / kept)
    squared += np.maximum(of_one_seed * seed_part, of_one_image * residual / seeds)
    return mean, np.sqrt(squared)


def sign_flip_p(counts: Sequence[int] | NDArray[Any]) -> float:
    """Two-sided exact p-value of the randomisation test that flips each image's sign.

    `counts` [2 S + 1]: images by sum over seeds, from -S to S. The total is the sum over k of k (2 B_k - n_k), where
    B_k is binomial with n_k images of absolute sum k and probability 1/2.
    """
    most = len(counts) // 2
    better, worse = np.asarray(counts)[most + 1 :], np.asarray(counts)[:most][::-1]
    steps = np.arange(1, most + 1)
    observed = abs(int(steps @ (better - worse)))
    chances, least = np.ones(1), 0
    for step, images in zip(steps.tolist(), (better + worse).tolist(), strict=True):
        start, spread = _binomial(images)
        strided = np.zeros((len(spread) - 1) * step + 1)
        strided[::step] = spread
        chances, least = np.convolve(chances, strided), least + step * start
    total = int(steps @ (better + worse))
    reached = 2 * (least + np.arange(len(chances))) - total
    return min(1.0, float(chances[np.abs(reached) >= observed].sum()))


def decided(pairs: Pairs, comparisons: int) -> Floats:
    """p-values of the pairs, as exact as a decision at `ALPHA` needs that is corrected for this number of comparisons.

    With V the variance of the total, a total of at most sqrt(V) has a p-value of 7/32 or more (Hollom and Portier,
    https://arxiv.org/abs/2306.07811) and is never significant: 1. A p-value is at most 2 exp(-total^2 / 2V) (Hoeffding,
    Journal of the American Statistical Association 1963); where this is significant even if it is multiplied by the
    number of comparisons, it is always significant: 0. The others are computed.
    """
    steps = np.arange(-pairs.kept, pairs.kept + 1)
    squared, variance = (pairs.counts @ steps) ** 2, pairs.counts @ steps**2
    certain = 2 * np.exp(-squared / (2 * np.maximum(variance, 1))) * comparisons <= ALPHA / 2
    p = np.where(certain, 0.0, 1.0)
    open_ = np.flatnonzero(~certain & (squared > variance))
    if len(open_):
        distinct, places = np.unique(pairs.counts[open_], axis=0, return_inverse=True)
        p[open_] = np.array([sign_flip_p(counts) for counts in distinct])[places.reshape(-1)]
    return p


@lru_cache(maxsize=1 << 14)
def _binomial(trials: int) -> tuple[int, Floats]:
    """The first number of successes, and the probabilities from it on, in fair trials."""
    from scipy.special import gammaln

    width = DEVIATIONS * trials**0.5 / 2
    start, stop = max(0, int(trials / 2 - width)), min(trials, int(trials / 2 + width) + 1)
    successes = np.arange(start, stop + 1)
    ways = gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)
    return start, np.exp(ways - trials * np.log(2))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm, Scandinavian Journal of Statistics 1979); None stays None.

    With probability at least 1 - alpha, no true null hypothesis has a corrected p-value of alpha or less.
    """
    corrected = iter(corrected_by_holm(np.array([p for p in p_values if p is not None], dtype=float)).tolist())
    return [None if p is None else next(corrected) for p in p_values]


def corrected_by_holm(p_values: Floats) -> Floats:
    """`holm` for an array."""
    order = np.argsort(p_values, kind="stable")
    multiplied = np.minimum(1.0, np.arange(len(order), 0, -1) * p_values[order])
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(multiplied)
    return corrected
