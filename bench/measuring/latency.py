"""How long a network takes, always beside the dense one, in turns within the same minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.system.progress import paused

ROUNDS = 60
WARM_UP_ROUNDS = 8
SECONDS_AT_MOST = 8.0
GAIN = 1.1
LARGEST_BATCH = 4096
RESAMPLES = 1000
REPEATS = 5
"""Forward passes a batch size gets in the search for the one that saturates; the fastest counts."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one forward pass at a batch size: percentiles of the network, and of the dense one beside it.

    `speedup_interval` is the 95% interval of `speedup` over the rounds of this measurement.
    """

    batch: int
    p50: float
    p90: float
    p99: float
    dense_p50: float
    speedup_interval: tuple[float, float]

    @property
    def speedup(self) -> float:
        return self.dense_p50 / self.p50

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch / self.p50

    @property
    def dense_images_per_second(self) -> float:
        return 1000 * self.batch / self.dense_p50


@dataclass(frozen=True)
class Speed:
    """Timings of one image and of a saturating batch; `peak_memory_mb` of the batch, None on a CPU."""

    one: Timing
    many: Timing
    peak_memory_mb: float | None


@torch.inference_mode()
def time_beside(model: nn.Module, dense: nn.Module, images: Tensor) -> Timing:
    """Time both networks on `images` [B, C, H, W], turn and turn about, after a warm-up.

    Device events on CUDA, the monotonic clock on a CPU. Both should be folded, in evaluation mode and on the device.
    """
    runs: tuple[list[float], list[float]] = ([], [])
    started = time.monotonic()
    with paused():
        for round_number in range(ROUNDS + WARM_UP_ROUNDS):
            for network, times in zip((model, dense), runs, strict=True):
                elapsed = _time_once(network, images)
                if round_number >= WARM_UP_ROUNDS:
                    times.append(elapsed)
            if time.monotonic() - started > SECONDS_AT_MOST and len(runs[0]) >= 5:
                break
    p50, p90, p99 = np.percentile(runs[0], [50, 90, 99])
    interval = speedup_interval(np.array(runs[0]), np.array(runs[1]))
    return Timing(len(images), float(p50), float(p90), float(p99), float(np.median(runs[1])), interval)


def speedup_interval(times: NDArray[np.float64], dense: NDArray[np.float64]) -> tuple[float, float]:
    """95% interval of median(dense) / median(times), each [rounds], by a seeded percentile bootstrap.

    Rounds are drawn whole, a network's time with the dense one's beside it: what slowed the machine down for a moment
    slowed both.
    """
    rounds = np.random.default_rng(0).integers(len(times), size=(RESAMPLES, len(times)))
    ratios = np.median(dense[rounds], axis=1) / np.median(times[rounds], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def _time_once(network: nn.Module, images: Tensor) -> float:
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

    Twice, as one doubling may fall into a busy moment. `image` is [1, C, H, W]. A CUDA device that runs out of memory
    ends the search.
    """
    best, saturating, batch = 0.0, 1, 1
    while batch <= min(LARGEST_BATCH, 4 * saturating):
        try:
            images = image.expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
            rate = batch / min(_time_once(dense, images) for _ in range(REPEATS))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if rate >= GAIN * best:
            best, saturating = rate, batch
        batch *= 2
    return saturating


@torch.inference_mode()
def peak_memory_mb(model: nn.Module, images: Tensor) -> float | None:
    """Most CUDA memory (MB = 10^6 bytes) a forward pass needs, the network's own weights included; None on a CPU."""
    if not images.is_cuda:
        return None
    tensors = [*model.parameters(), *model.buffers()]
    before = torch.cuda.memory_allocated(images.device)
    torch.cuda.reset_peak_memory_stats(images.device)
    model(images)
    activations = torch.cuda.max_memory_allocated(images.device) - before
    return (activations + sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e6
