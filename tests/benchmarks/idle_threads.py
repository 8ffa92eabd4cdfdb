"""What idle OpenMP threads cost that spin: a training step, k-means distances and one image, alone and beside others.

    python tests/benchmarks/idle_threads.py

Each figure is a median in milliseconds, from processes that take turns. `busy` has as many busy processes beside it as
`--busy` says. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import median

SETTINGS: dict[str, dict[str, str]] = {
    "spin": {},  # as GNU OpenMP does by itself: the measured process imports torch before bench
    "sleep": {"OMP_WAIT_POLICY": "passive"},
}
MEASURE = """
import time, torch
from bench.networks import zoo

def milliseconds(run, seconds=2):
    run()
    times, ended = [], time.monotonic() + seconds
    while time.monotonic() < ended:
        began = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times)[len(times) // 2]

torch.manual_seed(0)
model = zoo.create_model("resnet20", 10, 3)
optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
points, centroids = torch.randn(20_000, 9), torch.randn(64, 9)

def step():
    loss = torch.nn.functional.cross_entropy(model.train()(images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

def one():
    with torch.inference_mode():
        model.eval()(images[:1])

print(milliseconds(step), milliseconds(lambda: torch.cdist(points, centroids).argmin(1)), milliseconds(one))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare idle threads that spin with ones that sleep.")
    parser.add_argument("--busy", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':14} {'training step':>14} {'distances':>14} {'one image':>14}")
    for load in ("alone", "busy"):
        found: dict[str, list[list[float]]] = {name: [] for name in SETTINGS}
        others = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range(options.busy if load == "busy" else 0)
        ]
        try:
            for _ in range(options.repeats):
                for name, setting in SETTINGS.items():
                    found[name].append(measured(setting))
        finally:
            for other in others:
                other.kill()
                other.wait()
        for name, rows in found.items():
            print(f"{load + ', ' + name:14}", *(f"{median(column):11.2f} ms" for column in zip(*rows, strict=True)))


def measured(setting: dict[str, str]) -> list[float]:
    ended = subprocess.run(
        [sys.executable, "-c", MEASURE], env=os.environ | setting, check=True, capture_output=True, text=True
    )
    return [float(word) for word in ended.stdout.split()]


if __name__ == "__main__":
    main()
