"""Which of several forms of a layer or network is fastest here, decided by measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.measuring.interval import ratio
from bench.measuring.latency import time_once
from bench.system.progress import paused

MARGIN = 1.05
"""A form has to be this much faster, at the lower bound of its interval: a smaller gain may be noise, or be lost to
caches that are warmer here than in the network."""
CONFIDENCE = 0.95
LOOKS = (6, 12, 24, 48)
"""Rounds after which a decision is tried; after the last, the dense form stays. 95% needs 6."""
SECONDS_AT_MOST = 2.0
"""Of timing, but never before the first look."""
WARM_UP_ROUNDS = 2


@dataclass(frozen=True)
class Choice:
    """The number of a form, None for the dense one, and how many times as fast it was; 1 for the dense one."""

    number: int | None
    speedup: float = 1.0


Judge = Callable[[nn.Module, Sequence[nn.Module], Sequence[Tensor], float], Choice]
"""Chooses between a module and other forms of it, on inputs that are passed one after the other. The last argument says
how many times as fast as the dense one a form has to be."""


@torch.inference_mode()
def fastest(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], margin: float) -> Choice:
    """The form that is fastest in rounds in which all take turns, in an order drawn by lot.

    It has to beat the dense one by `margin` with 95% confidence.
    """
    networks, generator = [dense, *forms], np.random.default_rng()
    rows: list[list[float]] = []
    with paused():
        for network in networks * WARM_UP_ROUNDS:
            _milliseconds(network, inputs)
        for look in LOOKS:
            while len(rows) < look:
                row = [0.0] * len(networks)
                for number in generator.permutation(len(networks)):
                    row[number] = _milliseconds(networks[number], inputs)
                rows.append(row)
            times = np.array(rows).T
            gains = [ratio(times[0], other, CONFIDENCE) for other in times[1:]]
            best = max(range(len(gains)), key=lambda number: gains[number].value)
            if gains[best].low >= margin:
                return Choice(best, gains[best].value)
            if all(gain.high < margin for gain in gains) or times.sum() > 1000 * SECONDS_AT_MOST:
                break
    return Choice(None)


def smallest(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], margin: float) -> Choice:
    """The first form, without any measurement: the one that saves most by count."""
    return Choice(0)


def _milliseconds(network: nn.Module, inputs: Sequence[Tensor]) -> float:
    return sum(time_once(network, each) for each in inputs)
