"""How honest timings are on this machine: the dense network against itself, and against a copy of itself.

    python tests/benchmarks/timing_coverage.py --trials 100

At least 95 of 100 intervals of the dense network against itself should hold 1; start the same command twice at once to
see it on a shared machine. The copy stands for a compressed network that saves nothing. Its 95% interval should hold 1
about as often as that, and does not if a network is faster because it ran just before.
"""

# ruff: noqa: I001 - bench comes before torch, so that idle threads sleep
from __future__ import annotations

import argparse
import copy
import time

import bench  # noqa: F401
import numpy as np
import torch

from bench.measuring.exclusive import alone
from bench.measuring.latency import Timing, time_beside
from bench.networks import zoo
from bench.networks.layers import fold, on_device
from bench.system.environment import describe_device, select_device
from bench.system.threads import waiting


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a network against itself, many times.")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = select_device(options.device)
    dense = on_device(fold(zoo.create_model(options.model, 10, 3).eval()), device).eval()
    images = torch.rand(options.batch, 3, options.image_size, options.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    print(f"{options.model}, batch {options.batch}, {describe_device(device)}, idle threads: {waiting()}")
    timings, seconds = [], []
    for number in range(1, options.trials + 1):
        with alone() as disturbed:
            began = time.monotonic()
            timings.append(time_beside(copy.deepcopy(dense), dense, images, disturbed))
            seconds.append(time.monotonic() - began)
        print(number, *timings[-1].noise or ["quiet"], sep="  ", flush=True)
        time.sleep(1)  # another process that waits for the lock gets its turn
    report(timings, seconds)


def report(timings: list[Timing], seconds: list[float]) -> None:
    count = len(timings)
    print(f"dense against itself: {sum(each.self_speedup.holds_one for each in timings)} of {count} intervals hold 1")
    print(f"dense against a copy: {sum(each.speedup.holds_one for each in timings)} of {count} intervals hold 1")
    print(f"the copy's speedup: median {np.median([each.speedup.value for each in timings]):.4f}")
    print(f"noisy: {sum(bool(each.noise) for each in timings)} of {count}")
    print(f"rounds: median {np.median([len(each.times) for each in timings]):g}; {np.mean(seconds):.2f} s a timing")


if __name__ == "__main__":
    main()
