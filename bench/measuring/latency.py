"""How long a network takes, beside the dense network in the same rounds, and whether that figure can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.measuring.interval import Ratio, Times, ratio
from bench.measuring.load import Usage
from bench.measuring.rounds import take_rounds
from bench.system.progress import paused

SECONDS_AT_MOST = 8.0
"""Seconds for the rounds of one batch size, at most, except that the least number of rounds is always taken."""
CONFIDENCE = 0.95
SELF_CONFIDENCE = 0.99
"""Confidence of the interval of the dense network against itself. It must contain 1 in at least 95 of 100 trials; by
chance alone, 95% intervals would fail this in 4 of 10 such hundreds."""
TARGET = 0.04
"""Rounds end when both intervals are this narrow: about 2% to either side."""
WIDEST = 0.1
"""A timing with a wider interval is noisy: about 5% to either side."""
OTHER_LOAD = 0.1
"""A timing during which others had a larger share of the processor is noisy."""
GAIN = 1.1
LARGEST_BATCH = 4096
REPEATS = 5
"""Forward passes for each batch size in the search for the one that saturates the device; the fastest counts."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of forward passes at a batch size: `times` [rounds, 4], the network twice and the dense one twice.

    `speedup` is the dense network's time over the network's, with its 95% interval; `self_speedup` is the dense
    network's time over its own, with its 99% interval. `other_load` is the share of the processor that other processes
    used. `disturbed` says why another process of this program may have been timing at the same time; "" if none was.
    """

    batch: int
    times: Times
    speedup: Ratio
    self_speedup: Ratio
    other_load: float
    disturbed: str = ""

    @property
    def p50(self) -> float:
        return float(np.median(self.times[:, :2]))

    @property
    def p90(self) -> float:
        return float(np.percentile(self.times[:, :2], 90))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.times[:, :2], 99))

    @property
    def dense_p50(self) -> float:
        return float(np.median(self.times[:, 2:]))

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch / self.p50

    @property
    def dense_images_per_second(self) -> float:
        return 1000 * self.batch / self.dense_p50

    @property
    def noise(self) -> list[str]:
        """Why the figures cannot be trusted; empty where they can."""
        own = self.self_speedup
        reasons = [self.disturbed] if self.disturbed else []
        if self.other_load > OTHER_LOAD:
            reasons.append(f"other processes had {self.other_load:.0%} of the processor")
        if not own.holds_one:
            reasons.append(f"the dense network timed against itself is {_written(own)}")
        if max(own.width, self.speedup.width) > WIDEST:
            widest = max(own, self.speedup, key=lambda interval: interval.width)
            reasons.append(f"after {len(self.times)} rounds the interval is still {_written(widest)}")
        return reasons


@dataclass(frozen=True)
class Speed:
    """Timings of one image and of a saturating batch; `peak_memory_mb` of the batch, None if it cannot be measured."""

    one: Timing
    many: Timing
    peak_memory_mb: float | None

    @property
    def other_load(self) -> float:
        return max(self.one.other_load, self.many.other_load)

    def as_dense(self) -> Speed:
        """The same timings with speed-ups of exactly 1, because the network is the dense one."""
        one, many = (replace(timing, speedup=Ratio(1, 1, 1)) for timing in (self.one, self.many))
        return replace(self, one=one, many=many)

    @property
    def notes(self) -> list[str]:
        """A sentence for each timing that is noisy."""
        named = (("latency", self.one), ("throughput", self.many))
        return [f"{name} is noisy: {'; '.join(timing.noise)}" for name, timing in named if timing.noise]


Network = Callable[[Tensor], Any]
"""A network, or a runtime that executes it."""


def time_beside(model: Network, dense: Network, images: Tensor, disturbed: str = "") -> Timing:
    """Time both networks on `images` [B, C, H, W], each twice a round, after a warm-up.

    Uses device events on CUDA and the monotonic clock on a CPU. Both networks should be folded, in evaluation mode and
    on the device. Call it within `bench.measuring.exclusive.alone`; `disturbed` is what that yields.
    """
    ours, theirs = (partial(time_once, network, images) for network in (model, dense))
    with paused(), torch.inference_mode():
        before = Usage.now()
        times = take_rounds(ours, theirs, _narrow, SECONDS_AT_MOST)
        load = Usage.now().others_since(before)
    return judged(len(images), times, load, disturbed)


def judged(batch: int, times: Times, other_load: float, disturbed: str = "") -> Timing:
    """A timing from its raw samples [rounds, 4], as in `Timing`."""
    return Timing(batch, times, *_ratios(times), other_load, disturbed)


def _ratios(times: Times) -> tuple[Ratio, Ratio]:
    """The ratios of the dense network's time to ours and to its own. A round's two times count by geometric mean."""
    ours, ours_again, dense, dense_again = times.T
    speedup = ratio(np.sqrt(dense * dense_again), np.sqrt(ours * ours_again), CONFIDENCE)
    return speedup, ratio(dense, dense_again, SELF_CONFIDENCE)


def _narrow(times: Times) -> bool:
    return all(interval.width <= TARGET for interval in _ratios(times))


def _written(interval: Ratio) -> str:
    return f"{interval.value:.2f}× [{interval.low:.2f}, {interval.high:.2f}]"


def time_once(network: Network, images: Tensor) -> float:
    if images.is_cuda:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        network(images)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))
    began = time.perf_counter_ns()
    network(images)
    return (time.perf_counter_ns() - began) / 1e6


@torch.inference_mode()
def saturating_batch(dense: nn.Module, image: Tensor) -> int:
    """The smallest power of two from which doubling the batch, once or twice, adds less than a tenth of throughput.

    Two doublings are tried because the first may fall into a busy moment. `image` is [1, C, H, W]. The search ends when
    a CUDA device runs out of memory.
    """
    best, saturating, batch = 0.0, 1, 1
    while batch <= min(LARGEST_BATCH, 4 * saturating):
        try:
            images = image.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
            rate = batch / min(time_once(dense, images) for _ in range(REPEATS))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if rate >= GAIN * best:
            best, saturating = rate, batch
        batch *= 2
    return saturating
