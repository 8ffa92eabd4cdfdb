"""What a search tries, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.plugins.setting import Pipeline
from bench.records.record import Record
from bench.search.space import Family


@dataclass(frozen=True)
class Candidate:
    """A point of a family's space."""

    family: Family
    point: Mapping[str, Any]

    @property
    def setting(self) -> Pipeline:
        return self.family.at(self.point)

    @property
    def places(self) -> list[float]:
        """Its strengths, from 0 (weakest) to 1."""
        return self.family.snapped([float(self.point[name]) for name in self.family.strengths])

    @property
    def words(self) -> dict[str, Any]:
        """What is chosen beside the strengths."""
        return {name: value for name, value in self.point.items() if name not in self.family.strengths}

    def moved(self, places: Sequence[float]) -> Candidate:
        """With other strengths."""
        return Candidate(self.family, {**self.point, **dict(zip(self.family.strengths, places, strict=True))})


@dataclass(frozen=True)
class Tried:
    """A candidate and its record, from images held out of the training images."""

    candidate: Candidate
    record: Record


Measure = Callable[[Sequence[Pipeline], float], Mapping[str, Record]]
"""Runs settings with a budget in epochs, and returns the records of those that did not fail, by setting."""
