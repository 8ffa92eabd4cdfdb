"""How the threads of OpenMP wait for work.

torch's wheels contain GNU OpenMP, whose idle threads spin for milliseconds before they sleep. If another process is
busy, they take the cores that it needs. Measured on two cores with a load of 7 to 10: a training step of ResNet-20
(batch 64, two threads) took 4.5 to 16 s with spinning threads, 1.0 to 2.4 s with a spin count of 10,000, and 0.4 to
1.0 s with threads that sleep at once; the distances of a k-means step took 75 to 450, 23 to 62, and 6 to 12 ms.
"""

from __future__ import annotations

import os
import sys

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables with which a user may choose otherwise. OpenMP reads them once, when torch loads it."""


def sleep_when_idle() -> None:
    """Let idle threads sleep at once, unless the user chose otherwise or torch is already loaded."""
    if "torch" not in sys.modules and not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def waiting() -> str:
    """The variables that are set, for records: `OMP_WAIT_POLICY=passive`; `default` if there are none."""
    return ", ".join(f"{name}={os.environ[name]}" for name in WAITING if name in os.environ) or "default"
