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

CONFIDENCE = 0.95
LOOKS = (6, 12, 24, 48)
"""Rounds after which a decision is attempted. An interval of 95% needs 6."""
WARM_UP_ROUNDS = 2


@dataclass(frozen=True)
class Demand:
    """What a form needs to be chosen: at least this `speedup` over the dense form, by the lower bound of its interval.

    If the interval is still too wide after `seconds` and the first look, `in_doubt` says whether the estimate decides.
    """

    speedup: float
    seconds: float
    in_doubt: bool


OF_A_LAYER = Demand(1.05, seconds=1.5, in_doubt=False)
"""For a layer. A smaller gain may be noise, or may be lost inside the network, where caches are colder."""
OF_A_NETWORK = Demand(1.0, seconds=4.0, in_doubt=True)
"""For a whole network, each of whose layers was already clearly faster."""


@dataclass(frozen=True)
class Choice:
    """The index of a form (None: the dense one), and its speed-up over the dense one (1 for the dense one itself)."""

    number: int | None
    speedup: float = 1.0


Judge = Callable[[nn.Module, Sequence[nn.Module], Sequence[Tensor], Demand], Choice]
"""Chooses between a module and other forms of it, given the inputs of its runs."""


@torch.inference_mode()
def fastest(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], demand: Demand) -> Choice:
    """The fastest form, measured in rounds in which all forms run in random order. The dense one, unless another meets
    the demand with 95% confidence."""
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
            if gains[best].low >= demand.speedup:
                return Choice(best, gains[best].value)
            if all(gain.high < demand.speedup for gain in gains):
                return Choice(None)
            if times.sum() > 1000 * demand.seconds:
                break
    enough = demand.in_doubt and gains[best].value > demand.speedup
    return Choice(best, gains[best].value) if enough else Choice(None)


def smallest(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], demand: Demand) -> Choice:
    """The first form, without measuring: the one that saves most by count."""
    return Choice(0)


def _milliseconds(network: nn.Module, inputs: Sequence[Tensor]) -> float:
    return sum(time_once(network, each) for each in inputs)
