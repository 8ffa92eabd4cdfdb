"""Rounds of timing: everything that is compared is timed once in each, in an order drawn at random."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.measuring.interval import Times

ROUNDS = 600
"""At most so many rounds."""
LEAST_ROUNDS = 10
"""At least so many, however long they take."""
FIRST_LOOK = 30
"""Rounds after which the first look tells whether the figures are good enough."""
GROWTH = 1.5
"""Each later look waits until there are so many times as many rounds. Few looks keep the intervals honest."""
WARM_UP_ROUNDS = 8
WARM_UP_SHARE = 0.25
"""Of the seconds at most, for the rounds that do not count."""

Pass = Callable[[], float]
"""Runs a network once and returns how many milliseconds it took."""


def take_rounds(
    passes: Sequence[Pass],
    enough: Callable[[Times], bool],
    seconds: float,
    seed: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Times:
    """Run `passes` in rounds until `enough` says so; their milliseconds, [rounds, passes].

    The order within a round is drawn anew each time, independently and evenly, so no pass has a better place. Without
    a `seed` the orders differ from call to call: one fixed order would favour the same network in every trial during
    which the machine slows down.

    `enough` is asked at a few looks and gets the rounds so far. After `seconds`, or `ROUNDS` rounds, the rounds end in
    any case, but never before `LEAST_ROUNDS`.
    """
    generator, started = np.random.default_rng(seed), clock()
    for _ in range(WARM_UP_ROUNDS):
        for run in passes:
            run()
        if clock() - started > WARM_UP_SHARE * seconds:
            break
    rows: list[list[float]] = []
    look = FIRST_LOOK
    while len(rows) < max(ROUNDS, LEAST_ROUNDS):
        row = [0.0] * len(passes)
        for index in generator.permutation(len(passes)):
            row[index] = passes[index]()
        rows.append(row)
        if len(rows) < LEAST_ROUNDS:
            continue
        if clock() - started > seconds or (len(rows) >= look and enough(np.array(rows))):
            break
        if len(rows) >= look:
            look = int(np.ceil(GROWTH * len(rows)))
    return np.array(rows)
