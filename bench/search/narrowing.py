"""The next place to try in a family, once some of its settings were measured with the whole budget.

Each strength makes accuracy worse and the gain larger. So whatever is at least as strong as a setting that broke the
bounds breaks them, too, and whatever is at most as strong as one that kept them keeps them. Between lie the places that
are still open. The next one halves the gain that they promise: bisection, for any number of strengths.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = {1: 65, 2: 25}
"""Places along each strength, by the number of strengths."""
FEW_STEPS = 7
BAND = 8
"""One of so many open places is near the middle of the gains they promise; the most central is tried."""
USUAL_SLOPE, WEIGHT = 4.0, 0.01
"""What a gain grows by over the range of a strength, in its own unit, as long as little is known; and how much this
counts beside what was measured."""


def grid_of(strengths: int) -> Floats:
    """Places [M, D] all over the range of D strengths."""
    axes = [np.linspace(0, 1, STEPS.get(strengths, FEW_STEPS))] * strengths
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, strengths)


def next_place(places: Floats, kept: Floats, broken: Floats, worth: Floats, best: float) -> Floats | None:
    """Where to look next, one of `places` [M, D], or None if nothing open promises more than `best`.

    `kept` [K, D] and `broken` [B, D] are the places of what was tried, and `worth` [K + B] their gains, in this order.
    A place has a number from 0 (easy to keep) to 1 for each strength.
    """
    is_open = ~_covers(places, kept).any(1) & ~_covers(broken, places).any(0)
    promised = _predicted(np.vstack([kept, broken]), worth, places)
    places, promised = places[is_open & (promised > best)], promised[is_open & (promised > best)]
    if not len(places):
        return None
    alike = places[np.argsort(np.abs(promised - np.median(promised)), kind="stable")][: max(1, len(places) // BAND)]
    chosen: Floats = alike[np.abs(alike[:, None] - alike[None]).max(-1).max(1).argmin()]
    return chosen


def _covers(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Whether each of `second` [M, D] is in every strength at least as strong as each of `first` [N, D]; [N, M]."""
    covered: NDArray[np.bool_] = np.all(second[None] >= first[:, None], axis=-1)
    return covered


def _predicted(tried: Floats, worth: Floats, places: Floats) -> Floats:
    """Gains at `places`: a plane through what was measured, of usual slope where that does not tell."""
    strengths = tried.shape[1]
    prior = np.sqrt(WEIGHT) * np.eye(strengths)
    known = np.vstack([np.hstack([np.ones((len(tried), 1)), tried]), np.hstack([np.zeros((strengths, 1)), prior])])
    plane, *_ = np.linalg.lstsq(known, np.concatenate([worth, np.full(strengths, USUAL_SLOPE) @ prior]), rcond=None)
    predicted: Floats = plane[0] + places @ plane[1:]
    return predicted


def as_places(points: Sequence[Sequence[float]], strengths: int) -> Floats:
    """Points as an array [N, D], also if there are none."""
    return np.array(points, dtype=float).reshape(-1, strengths)
