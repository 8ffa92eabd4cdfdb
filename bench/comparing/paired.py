"""Whether two settings differ in top-1, and by how much: paired by test image, over the seeds that both have.

Arrays in brackets: P pairs of settings, N images, S seeds whose predictions are kept, T other seeds.

Of image i and seed s, d[i, s] is 1 where only the first setting is right, -1 where only the second is, and 0 otherwise.
The difference is the mean of d. Two questions are asked of it:

- Are the trained networks different? Under the null hypothesis the two settings are exchangeable on every image, so
  the sign of sum_s d[i, s] is a fair coin. The randomisation test of the total is computed exactly. An image counts
  once however many seeds there are, because errors on one image are not independent. With one seed this is McNemar's
  exact test (McNemar, Psychometrika 1947).
- Would other seeds show it too? Images and seeds are crossed random effects. The variance of the mean is the image
  component plus the seed component as far as it exceeds the residual, with Satterthwaite's degrees of freedom
  (Biometrics Bulletin 1946). With one seed the seed component cannot be estimated and is missing.

The p-value is the larger of the two, so a difference must hold for images and for seeds. The interval is from the same
variance. It counts two images more, one for each setting at every seed (Bonett and Price, Journal of Educational and
Behavioral Statistics 2012), so that it has a width where no image differs; this also makes it exclude 0 wherever the
p-value is at most 0.05.

Of a seed whose predictions are not kept the difference of top-1 is still known. It counts in the mean and in the seed
component; the image component is then that of the seeds with predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Chance that a comparison without any true difference finds one; of a board, that any of its pairs does."""
DEVIATIONS = 12
"""Half the width of a binomial distribution that is computed; what lies outside has a probability below 1e-30."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """What decides a comparison.

    `counts`: [P, 2 S + 1], images by sum_s d[i, s], from -S to S. `by_seed`: [P, S + T], the sum over images of d,
    first for the seeds with predictions. `discordant`: [P], how many d of these are not 0.
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
    """Of P pairs the difference of top-1 as a fraction, its 95% interval and the p-value; arrays [P]."""

    estimate: Floats
    low: Floats
    high: Floats
    p: Floats


def count_pairs(right: NDArray[np.bool_], top1: Floats, first: Integers, second: Integers) -> Pairs:
    """Count for pairs of settings, given by index, from `right` [settings, S, N] and `top1` [settings, T].

    Counting is matrix products over the images, so that all pairs of a board take a moment.
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


def differences(pairs: Pairs) -> Differences:
    """Estimate, interval and p-value of every pair."""
    from scipy.special import stdtr, stdtrit  # Student's t; quicker to import than scipy.stats

    seeds = pairs.by_seed.shape[1]
    estimate = pairs.by_seed.sum(1) / (pairs.images * seeds)
    mean, variance, freedom = _mean_and_variance(pairs)
    error = np.sqrt(variance)
    half = stdtrit(freedom, 1 - ALPHA / 2) * error
    p = np.array([sign_flip_p(counts) for counts in pairs.counts])
    if seeds > 1:
        p = np.maximum(p, 2 * stdtr(freedom, -np.abs(mean) / error))
    p[mean * pairs.by_seed[:, : pairs.kept].sum(1) < 0] = 1  # the seeds with predictions say the opposite
    return Differences(estimate, mean - half, mean + half, p)


def _mean_and_variance(pairs: Pairs) -> tuple[Floats, Floats, Floats]:
    """The mean of d with the two further images, the variance of that mean, and its degrees of freedom."""
    kept, seeds, images = pairs.kept, pairs.by_seed.shape[1], pairs.images + 2
    counts = pairs.counts.astype(float)
    counts[:, [0, -1]] += 1
    mean = pairs.by_seed.sum(1) / (images * seeds)
    of_mean = pairs.by_seed[:, :kept].sum(1) ** 2 / (images * kept)
    of_images = counts @ np.arange(-kept, kept + 1) ** 2 / kept - of_mean
    image_part = of_images / (images - 1) / (images * kept)
    if seeds == 1:
        return mean, image_part, np.full(len(mean), images - 1.0)
    of_seeds = (pairs.by_seed[:, :kept] ** 2).sum(1) / images - of_mean
    of_rest = pairs.discordant + 2 * kept - of_mean - of_images - of_seeds
    residual = of_rest / ((images - 1) * max(1, kept - 1))  # one seed leaves none
    seed_part = np.maximum(0, (pairs.by_seed / images).var(1, ddof=1) - residual / images) / seeds
    variance = image_part + seed_part
    freedom = variance**2 / (image_part**2 / (images - 1) + seed_part**2 / (seeds - 1))
    return mean, variance, freedom


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


def _binomial(trials: int) -> tuple[int, Floats]:
    """Probabilities of successes in fair trials, from the first number that is returned on."""
    from scipy.special import gammaln

    width = DEVIATIONS * trials**0.5 / 2
    start, stop = max(0, int(trials / 2 - width)), min(trials, int(trials / 2 + width) + 1)
    successes = np.arange(start, stop + 1)
    ways = gammaln(trials + 1) - gammaln(successes + 1) - gammaln(trials - successes + 1)
    return start, np.exp(ways - trials * np.log(2))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm, Scandinavian Journal of Statistics 1979); None stays None.

    With a chance of at least 1 - alpha, no true null hypothesis is among those with a corrected p-value up to alpha.
    """
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected
