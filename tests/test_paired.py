"""Paired comparisons against scipy, statsmodels' formulas by hand, brute force, and simulations of the null."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from bench.comparing import answers
from bench.comparing.answers import Answers, tell_apart
from bench.comparing.paired import ALPHA, Differences, Pairs, count_pairs, decided, differences, holm, sign_flip_p

FIRST, SECOND = np.array([0]), np.array([1])


def pair(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Pairs:
    """Of two settings, [seeds, images] each."""
    return count_pairs(np.stack([one, other]), np.zeros((2, 0)), FIRST, SECOND)


def difference(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Differences:
    return differences(pair(one, other))


def table(both: int, first: int, second: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """One seed, from the four counts of a paired table."""
    counts = (both, first, second, neither)
    return tuple(np.repeat(np.array([row], dtype=bool), counts, axis=1) for row in ([1, 1, 0, 0], [1, 0, 1, 0]))


def test_counts_by_hand() -> None:
    one = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=bool)
    other = np.array([[1, 0, 1, 0], [0, 0, 1, 0]], dtype=bool)
    counted = pair(one, other)  # sums over seeds: 1, 2, -1, 0
    assert counted.counts.tolist() == [[0, 1, 1, 1, 1]]
    assert counted.by_seed.tolist() == [[0, 2]] and counted.discordant.tolist() == [4]


def test_counts_against_a_loop() -> None:
    draw = np.random.default_rng(0)
    right = draw.random((4, 3, 50)) < draw.random(50)
    first, second = np.array([0, 0, 2, 3]), np.array([1, 3, 1, 0])
    counted = count_pairs(right, np.array([[0.5], [0.24], [1.0], [0.0]]), first, second)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        d = right[a].astype(int) - right[b]
        assert counted.counts[row].tolist() == [int((d.sum(0) == value).sum()) for value in range(-3, 4)]
        others = 50 * np.array([0.5, 0.24, 1.0, 0.0])
        assert counted.by_seed[row].tolist() == [*d.sum(1), others[a] - others[b]]
        assert counted.discordant[row] == np.count_nonzero(d)


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (5, 0), (6, 0), (8, 1), (30, 50), (157, 135), (4000, 4300)]
)
def test_one_seed_is_mcnemars_exact_test(better: int, worse: int) -> None:
    expected = scipy.stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert sign_flip_p([worse, 100, better]) == pytest.approx(expected, rel=1e-9)
    found = difference(*table(20, better, worse, 3))
    assert found.p[0] == pytest.approx(expected, rel=1e-9)
    assert found.estimate[0] == pytest.approx((better - worse) / (23 + better + worse))


@pytest.mark.parametrize(
    "counts", [(1, 0, 3, 9, 2, 1, 2), (0, 3, 0, 0, 1, 0, 4), (2, 2, 2, 0, 2, 2, 2), (0, 0, 5, 4, 0)]
)
def test_several_seeds_against_every_flip_of_signs(counts: tuple[int, ...]) -> None:
    most = len(counts) // 2
    sums = [value for value, count in zip(range(-most, most + 1), counts, strict=True) for _ in range(count) if value]
    observed = abs(sum(sums))
    reached = sum(
        abs(sum(sign * value for sign, value in zip(signs, sums, strict=True))) >= observed
        for signs in product((1, -1), repeat=len(sums))
    )
    assert sign_flip_p(counts) == pytest.approx(float(Fraction(reached, 2 ** len(sums))), rel=1e-12)


def test_many_images_against_scipys_permutation_test() -> None:
    draw = np.random.default_rng(1)
    d = draw.choice([-2, -1, 0, 1, 2], 300, p=[0.1, 0.15, 0.4, 0.2, 0.15])
    counts = [int((d == value).sum()) for value in range(-2, 3)]
    sampled = scipy.stats.permutation_test(
        (d,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=20_000, rng=draw, vectorized=True
    )
    assert sign_flip_p(counts) == pytest.approx(sampled.pvalue, abs=4 * math.sqrt(0.25 / 20_000))


def test_the_interval_of_one_seed_is_bonett_and_prices() -> None:
    both, first, second, neither = 850, 60, 30, 60
    found = difference(*table(both, first, second, neither))
    images = both + first + second + neither
    p12, p21 = (first + 1) / (images + 2), (second + 1) / (images + 2)
    half = scipy.stats.t.ppf(0.975, images + 1) * math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (images + 1))
    assert (found.low[0], found.high[0]) == pytest.approx((p12 - p21 - half, p12 - p21 + half), rel=1e-9)


@pytest.mark.parametrize("unlucky", [0, 30])
def test_the_interval_of_seeds_is_that_of_a_two_way_analysis_of_variance(unlucky: int) -> None:
    draw = np.random.default_rng(2)
    one, other = (draw.random((4, 200)) < draw.random(200) * 0.2 + level for level in (0.75, 0.7))
    one[2, :unlucky] = False
    found = difference(one, other)
    d = np.hstack([one.astype(float) - other, np.repeat([[1.0, -1.0]], 4, axis=0)]).T
    images, seeds = d.shape
    rows, columns = d.mean(1), d.mean(0)
    residual = ((d - rows[:, None] - columns + d.mean()) ** 2).sum() / (images - 1) / (seeds - 1)
    of_images = max(0, rows.var(ddof=1) - residual / seeds) / images
    z, t = (scipy.stats.t.ppf(0.975, freedom) for freedom in (images - 1, seeds - 1))
    floor = z**2 * residual / d.size
    half = math.sqrt(z**2 * of_images + max(floor, t**2 * columns.var(ddof=1) / seeds))
    assert (found.low[0], found.high[0]) == pytest.approx((d.mean() - half, d.mean() + half), rel=1e-9)


def test_a_difference_excludes_zero() -> None:
    """Of every paired table of few images, the verdict of the test and the interval never contradict each other."""
    for first, second in product(range(40), repeat=2):
        found = difference(*table(5, first, second, 5))
        if found.p[0] <= ALPHA:
            assert found.low[0] > 0 or found.high[0] < 0, (first, second)


def test_no_image_that_differs_leaves_an_interval() -> None:
    found = difference(*table(990, 0, 0, 10))
    assert found.p[0] == 1 and found.estimate[0] == 0
    assert found.high[0] == -found.low[0] == pytest.approx(2.77 / 1002, rel=0.01)


def test_seeds_without_predictions_count_in_the_mean_and_the_seeds_spread() -> None:
    draw = np.random.default_rng(3)
    right = draw.random((2, 1, 400)) < np.array([0.9, 0.8])[:, None, None]
    means = right.mean(2)[:, 0]
    same = np.array([[m, m] for m in means])
    steady, alone = (differences(count_pairs(right, top1, FIRST, SECOND)) for top1 in (same, np.zeros((2, 0))))
    assert steady.estimate[0] == pytest.approx(alone.estimate[0])
    assert (steady.low[0], steady.high[0]) == pytest.approx((alone.low[0], alone.high[0]), rel=1e-9)
    wild = differences(count_pairs(right, same + np.array([[0.1, -0.1], [-0.1, 0.1]]), FIRST, SECOND))
    assert wild.estimate[0] == pytest.approx(alone.estimate[0]) and wild.p[0] == alone.p[0] < ALPHA
    assert wild.high[0] - wild.low[0] > 3 * (alone.high[0] - alone.low[0])
    assert alone.beyond_zero[0] and not wild.beyond_zero[0]
    opposite = differences(count_pairs(right, means[::-1, None] * np.ones((1, 4)), FIRST, SECOND))
    assert opposite.estimate[0] < 0 and opposite.p[0] == 1


def test_holm_against_its_definition() -> None:
    draw = np.random.default_rng(4)
    for size in (1, 5, 30):
        p_values = (draw.random(size) ** 3).tolist()
        rejected = [p <= ALPHA for p in holm(p_values) if p is not None]
        expected = dict.fromkeys(range(size), False)
        for step, index in enumerate(np.argsort(p_values).tolist()):
            if p_values[index] > ALPHA / (size - step):
                break
            expected[index] = True
        assert rejected == list(expected.values())


@pytest.mark.parametrize("seeds", [1, 3])
def test_of_boards_without_a_difference_at_most_five_percent_show_one(seeds: int) -> None:
    """1,000 boards of 8 settings that are all alike; the bound leaves room for the simulation's own error (99.9%)."""
    draw, shown = np.random.default_rng(seeds), 0
    for _ in range(1000):
        right = draw.random((8, seeds, 300)) < draw.beta(4, 1, 300)
        settings = [Answers(dict(enumerate(own.mean(1))), dict(enumerate(own))) for own in right]
        shown += bool(tell_apart(settings).any())
    assert shown <= scipy.stats.binom.ppf(0.999, 1000, ALPHA)


@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.0), (3, 0.03), (3, 0.1), (5, 0.03)])
def test_intervals_hold_the_truth_whatever_the_luck_of_seeds(seeds: int, luck: float) -> None:
    """Of 1,000 comparisons with a true difference of 5 points at least 95%, less the simulation's own error."""
    draw, held = np.random.default_rng(5), 0
    for _ in range(1000):
        chances = draw.uniform(0.2, 0.8, 400) + draw.normal(0, luck, (2, seeds, 1))
        found = difference(*(draw.random((2, seeds, 400)) < chances + np.array([0.05, 0])[:, None, None]))
        held += bool(found.low[0] <= 0.05 <= found.high[0])
    assert held >= scipy.stats.binom.ppf(0.001, 1000, 0.95)


def test_luck_of_seeds_is_no_difference_of_a_pair() -> None:
    """Of 1,000 pairs that are alike but for luck, the exact test alone finds hundreds, and the whole at most 5%."""
    draw, by_images, found = np.random.default_rng(7), 0, 0
    for _ in range(1000):
        right = draw.random((2, 3, 400)) < draw.uniform(0.2, 0.8, 400) + draw.normal(0, 0.05, (2, 3, 1))
        by_images += bool(difference(*right).p[0] <= ALPHA)
        settings = [Answers(dict(enumerate(own.mean(1))), dict(enumerate(own))) for own in right]
        found += bool(tell_apart(settings).any())
    assert found <= scipy.stats.binom.ppf(0.999, 1000, ALPHA) < 300 < by_images


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("spread", [0.01, 0.1, 0.4])
def test_decisions_without_computing_every_p_value_are_the_same(
    seeds: int, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 settings, so 1,770 pairs; some settings lack the last seed, and some the predictions of it."""
    draw = np.random.default_rng(seeds)
    right = draw.random((60, seeds, 400)) < draw.beta(4, 1, 400) - draw.uniform(0, spread, 60)[:, None, None]
    settings = [Answers(dict(enumerate(own.mean(1))), dict(enumerate(own))) for own in right]
    for number, setting in enumerate(settings if seeds > 1 else []):
        if number % 5 < 2:
            del setting.right[seeds - 1]
        if number % 5 == 0:
            del setting.top1[seeds - 1]
    quick = tell_apart(settings)
    monkeypatch.setattr(answers, "differences", lambda pairs, comparisons: differences(pairs))
    assert np.array_equal(quick, tell_apart(settings)) and (spread < 0.1 or quick.any())


def test_p_values_that_are_not_computed_are_on_the_right_side() -> None:
    draw = np.random.default_rng(1)
    for kept in (1, 2, 4):
        counts = draw.integers(0, 40, (300, 2 * kept + 1))
        pairs = Pairs(counts, np.zeros((300, kept), dtype=np.int64), counts.sum(1))
        for quick, exact in zip(decided(pairs, 1_000), differences(pairs).p, strict=True):
            assert quick == exact or (quick == 0 and exact <= ALPHA / 1_000) or (quick == 1 and exact >= 7 / 32)


def test_true_differences_are_found() -> None:
    draw = np.random.default_rng(6)
    easy = draw.beta(4, 1, 3000)
    settings = [
        Answers({s: 0.5 for s in range(3)}, {s: draw.random(3000) < easy - lost for s in range(3)})
        for lost in (0.0, 0.0, 0.1, 0.3)
    ]
    better = tell_apart(settings)
    assert better[:2, 2].all() and better[:3, 3].all() and better.sum() == 5
