"""Intervals of paired times: against brute force and scipy, and how often they hold the truth under noise of all kinds.

The machine is simulated: a clock of its own, and passes that take as long as the noise says.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bench.measuring import latency
from bench.measuring.interval import Ratio, ratio, signed_rank_quantile
from bench.measuring.latency import Timing, judged
from bench.measuring.rounds import LEAST_ROUNDS, take_rounds


@pytest.mark.parametrize("rounds", [3, 6, 8, 10, 12])
@pytest.mark.parametrize("share", [0.005, 0.025, 0.2])
def test_the_quantile_against_every_choice_of_signs(rounds: int, share: float) -> None:
    sums = [
        sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in itertools.product([0, 1], repeat=rounds)
    ]
    within = [k for k in range(1, len(sums) + 1) if sum(total < k for total in sums) / len(sums) <= share]
    assert signed_rank_quantile(rounds, share) == max(within, default=0)


@given(st.lists(st.floats(0.1, 10), min_size=8, max_size=40, unique=True), st.integers(0, 99))
def test_the_interval_holds_one_where_wilcoxons_test_does_not_reject(times: list[float], seed: int) -> None:
    ours = np.array(times)
    dense = ours * np.random.default_rng(seed).lognormal(0.1, 0.3, len(ours))
    p = scipy.stats.wilcoxon(np.log(dense) - np.log(ours), method="exact").pvalue
    found = ratio(dense, ours, 0.95)
    assert found.holds_one == (p > 0.05) or math.isclose(p, 0.05, rel_tol=1e-9)
    assert found.low <= found.value <= found.high


def test_equal_times_and_too_few() -> None:
    assert ratio(np.full(9, 3.0), np.full(9, 2.0), 0.95) == Ratio(*[pytest.approx(1.5)] * 3)
    with pytest.raises(ValueError, match="5 rounds are too few for an interval of 95%"):
        ratio(np.ones(5), np.ones(5), 0.95)


@dataclass
class Machine:
    """Runs passes of `ms` milliseconds on a clock of its own; `noise` slows them down."""

    noise: str
    seed: int
    ms: float = 3.0
    now: float = 0.0
    slowness: float = 0.0
    busy: bool = False
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng([1, self.seed])

    def run(self, share: float = 1.0) -> float:
        factor = self.random.lognormal(0, 0.03)
        if self.noise == "autocorrelated":
            self.slowness = 0.95 * self.slowness + 0.05 * self.random.standard_normal()
            factor *= math.exp(self.slowness)
        if self.noise == "ramp":  # three times as slow after eight seconds
            factor *= 1 + self.now / 4
        if self.noise == "bursts":
            self.busy ^= self.random.random() < 0.02
            factor *= self.random.lognormal(1, 0.5) if self.busy else 1
        if self.noise == "spikes" and self.random.random() < 0.05:
            factor *= self.random.lognormal(1.5, 1)
        elapsed = self.ms * share * factor
        self.now += elapsed / 1000
        return elapsed

    def time(self, speedup: float = 1.0, load: float = 0.0) -> Timing:
        times = take_rounds(
            lambda: self.run(1 / speedup),
            self.run,
            latency._narrow,
            latency.SECONDS_AT_MOST,
            seed=self.seed,
            clock=lambda: self.now,
        )
        return judged(1, times, load)


@pytest.mark.parametrize("noise", ["none", "autocorrelated", "ramp", "bursts", "spikes"])
@pytest.mark.parametrize("ms", [3.0, 100.0])
def test_dense_against_dense_holds_one_in_95_of_100_trials(noise: str, ms: float) -> None:
    timings = [Machine(noise, seed, ms).time(1.5) for seed in range(100)]
    assert sum(timing.self_speedup.holds_one for timing in timings) >= 95
    # 95% of intervals hold the true ratio; fewer than 88 of 100 would have a chance of 1 in 500.
    assert sum(timing.speedup.low <= 1.5 <= timing.speedup.high for timing in timings) >= 88


def test_quick_passes_are_timed_until_the_interval_is_narrow_and_slow_ones_until_time_is_up() -> None:
    quick, slow = Machine("none", 0, 3).time(), Machine("bursts", 0, 2000).time()
    assert quick.speedup.width < latency.TARGET and len(quick.times) < 200 and not quick.noise
    assert len(slow.times) == LEAST_ROUNDS and slow.noise


@pytest.mark.parametrize("noise", ["bursts", "spikes"])
def test_an_interval_that_stays_wide_is_noisy(noise: str) -> None:
    timing = Machine(noise, 3, 400).time()
    assert max(timing.speedup.width, timing.self_speedup.width) > latency.WIDEST
    assert timing.noise[-1].startswith(f"after {len(timing.times)} rounds the interval is still ")


def test_the_networks_alternate_and_neither_has_a_better_place() -> None:
    order: list[str] = []
    counter = itertools.count()

    def passed(which: str) -> float:
        order.append(which)
        return float(next(counter))

    times = take_rounds(lambda: passed("ours"), lambda: passed("dense"), lambda times: len(times) > 400, 1e9, seed=0)
    assert all(one != other for one, other in itertools.pairwise(order))
    assert all(
        order[int(time)] == ("ours" if column < 2 else "dense") for row in times for column, time in enumerate(row)
    )
    for place in times.argsort(axis=1).T:  # which column came first, second, third and fourth
        assert scipy.stats.chisquare(np.bincount(place, minlength=4)).pvalue > 0.01
    last = np.sort(times, axis=1)
    assert (last[:, -1] - last[:, 0] == 3).all()


def test_a_dishonest_position_shows_in_the_interval_of_dense_against_itself() -> None:
    """If dense always came before dense again while the machine slows down, the two would differ."""
    drift = np.linspace(1, 2, 60)
    times = np.column_stack([drift, drift, drift * 1.001, drift * 1.02])
    assert judged(1, times, 0.0).noise == ["the dense network timed against itself is 0.98× [0.98, 0.98]"]
    swapped = np.where(np.arange(60)[:, None] % 2, times, times[:, [0, 1, 3, 2]])
    assert judged(1, swapped, 0.0).noise == []


def test_load_and_a_missing_lock_are_noise() -> None:
    timing = Machine("none", 0).time(load=0.25)
    assert timing.noise == ["other processes had 25% of the processor"]
    assert judged(1, timing.times, 0.0, "no lock").noise == ["no lock"]
    assert judged(1, timing.times, 0.0).noise == []
