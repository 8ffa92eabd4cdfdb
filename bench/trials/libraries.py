"""Libraries that trials need and plans do not: a run of what is recorded does without importing them."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from bench.networks.zoo import load_timm

LATE = ("scipy.cluster.hierarchy", "scipy.spatial.distance", "scipy.stats", "ptflops")
"""Modules that are imported where they are used. Importing them all takes seconds."""


@cache
def load() -> None:
    """Import them. Called before each trial, so that no trial is blamed for what an import changes."""
    load_timm()
    for name in LATE:
        import_module(name)
