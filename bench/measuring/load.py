"""How busy other processes keep the processor while this process measures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil

IDLE = ("idle", "iowait", "guest", "guest_nice")
"""Kinds of processor time that are not work, or that the system already counts as user time."""


@dataclass(frozen=True)
class Usage:
    """Seconds of processor time until now: of everything on our cores, and of this process with all its threads."""

    at: float
    everything: float
    ours: float
    cores: int

    @classmethod
    def now(cls) -> Usage:
        times = [_busy(core) for core in _our_cores()]
        return cls(time.monotonic(), sum(times), time.process_time(), len(times))

    def others_since(self, before: Usage) -> float:
        """Share of our cores that others used since `before`, from 0 to 1.

        Others are all other processes, the kernel, and other virtual machines on the same hardware (steal). The system
        counts in hundredths of a second, so the period should be longer than a tenth of a second.
        """
        available = (self.at - before.at) * self.cores
        taken = (self.everything - before.everything) - (self.ours - before.ours)
        return min(1.0, max(0.0, taken / available)) if available > 0 else 0.0


def _our_cores() -> list[Any]:
    """Times of the cores that this process may run on; of all cores if the system cannot tell."""
    times = psutil.cpu_times(percpu=True)
    process: Any = psutil.Process()
    allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []
    return [times[core] for core in allowed if core < len(times)] or list(times)


def _busy(core: Any) -> float:
    return float(sum(seconds for name, seconds in core._asdict().items() if name not in IDLE))
