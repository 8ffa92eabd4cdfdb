"""Rounds of timing: a network and the dense one take turns, each twice a round."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bench.measuring.interval import Times

ROUNDS = 500
"""Rounds, at most."""
LEAST_ROUNDS = 8
"""Rounds, at least, however long they take; fewer give no interval of 99%."""
FIRST_LOOK = 20
"""Rounds after which it is first checked whether the figures are good enough."""
GROWTH = 1.5
"""Factor by which the rounds must grow before the next check. Few checks keep the intervals honest."""
WARM_UP_ROUNDS = 8
WARM_UP_SHARE = 0.25
"""Share of the seconds, at most, for warm-up rounds, which do not count."""

Pass = Callable[[], float]
"""Runs a network once and returns how many milliseconds it took."""


def take_rounds(
    ours: Pass,
    dense: Pass,
    enough: Callable[[Times], bool],
    seconds: float,
    seed: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Times:
    """Milliseconds of each round, [rounds, 4]: our network, our network again, the dense one, the dense one again.

    The two networks alternate, so that each always runs after the other: a network that runs after itself may find its
    weights in the caches. Which of the two begins a round, and which of its two times counts as the second, is random
    in every round, so that neither has a better place. Without a `seed` the order differs from call to call: a fixed
    order would favour the same network in every trial during which the machine slows down.

    `enough` is called at a few checks with the rounds so far. The rounds end after `seconds` or `ROUNDS` rounds in any
    case, but never before `LEAST_ROUNDS`.
    """
    generator, started = np.random.default_rng(seed), clock()
    for _ in range(WARM_UP_ROUNDS):
        ours(), dense()
        if clock() - started > WARM_UP_SHARE * seconds:
            break
    rows: list[list[float]] = []
    look, last = FIRST_LOOK, 1
    while len(rows) < max(ROUNDS, LEAST_ROUNDS):
        first, swapped = generator.integers(2, size=2)
        if first == last:
            (dense, ours)[first]()  # not counted; keeps the two alternating
        rows.append(_round((ours, dense), first, swapped))
        last = 1 - first
        if len(rows) < LEAST_ROUNDS:
            continue
        if clock() - started > seconds or (len(rows) >= look and enough(np.array(rows))):
            break
        if len(rows) >= look:
            look = int(np.ceil(GROWTH * len(rows)))
    return np.array(rows)


def _round(passes: tuple[Pass, Pass], first: int, swapped: int) -> list[float]:
    """The four times of a round that begins with `first`. `swapped`: the earlier of two times is written second."""
    row = [0.0] * 4
    for turn in range(4):
        which = (first + turn) % 2
        row[2 * which + (turn // 2 + swapped) % 2] = passes[which]()
    return row
