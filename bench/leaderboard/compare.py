"""Two settings of a store compared on the same test images: whether one is better, and by how much."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from bench.comparing.answers import Answers, pair_up, shared_seeds
from bench.comparing.outcomes import Outcomes, read_outcomes
from bench.comparing.paired import ALPHA, differences
from bench.leaderboard.columns import Row, rows_of
from bench.leaderboard.finding import Found, find
from bench.leaderboard.grouping import DENSE, TASK
from bench.leaderboard.summary import records_folder
from bench.records.store import CLASSES, PREDICTIONS
from bench.system.errors import BenchError


@dataclass(frozen=True)
class Side:
    """One of the two settings: means over the seeds that were compared. The worst class is found from the mean over the
    seeds whose predictions are kept; `worst_class_drop` is a fraction of its `worst_class_images`."""

    name: str
    top1: float
    compression_ratio: float | None
    macs_ratio: float | None
    worst_class: str
    worst_class_drop: float
    worst_class_images: int


@dataclass(frozen=True)
class Comparison:
    """The first setting's top-1 minus the second's, paired by test image over the seeds of both.

    `difference`, its 95% interval from `low` to `high`, and `by_seed` are fractions. `p` is the p-value of the exact
    test on images (see `bench.comparing.paired`). `only_first` and `only_second` count the images that only this one
    classified correctly, as a mean over the seeds whose predictions are kept (`seeds_kept`).
    """

    task: tuple[str, ...]
    budget_epochs: float
    first: Side
    second: Side
    images: int
    seeds: tuple[int, ...]
    seeds_kept: tuple[int, ...]
    by_seed: tuple[float, ...]
    only_first: float
    only_second: float
    difference: float
    low: float
    high: float
    p: float
    both_protocols: bool = False
    """Whether the store also has these settings without re-estimated batch-norm statistics."""

    @property
    def differs(self) -> bool:
        """Whether the test and the interval agree that there is a difference."""
        return self.p <= ALPHA and not self.low <= 0 <= self.high

    @property
    def verdict(self) -> str:
        """The result in one sentence; points are percent of the test images."""
        first, second = self.first.name, self.second.name
        if not self.differs:
            better, worse = (100 * max(0.0, bound) for bound in (self.high, -self.low))
            still = f"{first} could still be up to {better:.2f} points better or {worse:.2f} points worse"
            return f"{first} and {second} cannot be told apart: {still}"
        sign, word = (1, "better") if self.difference > 0 else (-1, "worse")
        low, high = sorted((100 * sign * self.low, 100 * sign * self.high))
        points = f"{100 * abs(self.difference):.2f} points [{low:.2f}, {high:.2f}]"
        return f"{first} is {word} than {second} by {points}"


def compare(
    first: str,
    second: str,
    store: Path | str,
    *,
    model: str | None = None,
    dataset: str | None = None,
    weights: str | None = None,
    epochs: float | None = None,
    recalibrate: bool | None = None,
) -> Comparison:
    """Compare two settings of a store over all seeds that both have, or two records named by their fingerprints.

    The other arguments choose among several tasks or budgets. `recalibrate` chooses settings with re-estimated
    batch-norm statistics or without; by default those with, if there are both. Two records are compared even if their
    seeds differ. Raises BenchError if the texts do not name exactly one comparison, or if the images are not the same.
    """
    chosen = {"model": model, "dataset": dataset, "weights": weights, "budget_epochs": epochs}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    sides, both = find((first, second), Path(store), chosen, recalibrate)
    one, other = _matched([_read(side, records_folder(Path(store))) for side in sides])
    return _compared(one, other, both)


def _compared(one: _Measured, other: _Measured, both_protocols: bool) -> Comparison:
    kept = _check_seeds(one, other)
    _check_images(one, other, kept)
    pair = pair_up([one.answers, other.answers], [(0, 1)])
    differs = differences(pair)
    gained = [[int((a & ~b).sum()) for a, b in zip(*rights, strict=True)] for rights in _both_ways(one, other, kept)]
    seeds = (*kept, *shared_seeds(one.answers, other.answers)[1])
    record = next(iter(one.records.values()))
    return Comparison(
        task=tuple(record[name] for name in TASK),
        budget_epochs=float(record["budget_epochs"]),
        first=_described(one, seeds, kept),
        second=_described(other, seeds, kept),
        images=pair.images,
        seeds=seeds,
        seeds_kept=tuple(kept),
        by_seed=tuple((pair.by_seed[0] / pair.images).tolist()),
        only_first=fmean(gained[0]),
        only_second=fmean(gained[1]),
        difference=float(differs.estimate[0]),
        low=float(differs.low[0]),
        high=float(differs.high[0]),
        p=float(differs.p[0]),
        both_protocols=both_protocols,
    )


@dataclass(frozen=True)
class _Measured:
    """One side of a comparison by seed: its records and the outcomes that are kept; and the folder of the records."""

    found: Found
    records: dict[int, Row]
    outcomes: dict[int, Outcomes]
    folder: Path

    @cached_property
    def answers(self) -> Answers:
        top1 = {seed: float(record["top1"]) for seed, record in self.records.items()}
        return Answers(top1, {seed: outcomes.right for seed, outcomes in self.outcomes.items()})

    def at(self, seeds: Iterable[int]) -> _Measured:
        """This side's only trial, as if it had been run at each of these seeds."""
        (seed,) = self.records
        records = dict.fromkeys(seeds, self.records[seed])
        return replace(self, records=records, outcomes=dict.fromkeys(records, self.outcomes[seed]))


def _read(side: Found, folder: Path) -> _Measured:
    records = {record["seed"]: record for record in rows_of(side.records)}
    outcomes = {seed: read_outcomes(folder / row["fingerprint"], row["top1"]) for seed, row in records.items()}
    return _Measured(side, records, {seed: known for seed, known in outcomes.items() if known}, folder)


def _matched(sides: list[_Measured]) -> list[_Measured]:
    """Both sides with comparable seeds: two records get one seed, and a dense network that was measured once counts at
    every seed of the other side."""
    if all(side.found.single and side.outcomes for side in sides):
        return [side.at([0]) for side in sides]
    return [
        side.at(other.records)
        if len(side.records) == len(side.outcomes) == 1 and side.found.records["setting"].iloc[0] == DENSE
        else side
        for side, other in zip(sides, reversed(sides), strict=True)
    ]


def _check_seeds(one: _Measured, other: _Measured) -> list[int]:
    """The shared seeds whose predictions are kept; BenchError if there are none."""
    kept, others = shared_seeds(one.answers, other.answers)
    if not kept and not others:
        seeds = (f"{side.found.name}: {', '.join(map(str, sorted(side.records)))}" for side in (one, other))
        raise BenchError(f"no seed in common ({'; '.join(seeds)}); name two records by their fingerprints instead")
    if not kept:
        side = next(side for side in (one, other) if others[0] not in side.outcomes)
        place = side.folder / side.records[others[0]]["fingerprint"] / PREDICTIONS
        raise BenchError(f"{side.found.name}: {place} is missing; run the trial again, which writes it")
    return kept


def _check_images(one: _Measured, other: _Measured, kept: list[int]) -> None:
    reference = one.outcomes[kept[0]]
    for side in (one, other):
        for seed in kept:
            if not reference.same_images(side.outcomes[seed]):
                names = f"{one.found.name} and {side.found.name}, seed {seed}"
                raise BenchError(f"{names}: not measured on the same test images in the same order; run both again")


def _both_ways(one: _Measured, other: _Measured, kept: list[int]) -> Iterator[list[list[NDArray[np.bool_]]]]:
    for pair in ((one, other), (other, one)):
        yield [[side.outcomes[seed].right for seed in kept] for side in pair]


def _described(side: _Measured, seeds: Iterable[int], kept: list[int]) -> Side:
    records = [side.records[seed] for seed in seeds]
    means = {
        name: fmean(values) if (values := [r[name] for r in records if not math.isnan(r[name])]) else None
        for name in ("compression_ratio", "macs_ratio")
    }
    labels = side.outcomes[kept[0]].labels
    classes, places, images = np.unique(labels, return_inverse=True, return_counts=True)
    lost = sum(side.outcomes[seed].dense_right.astype(int) - side.outcomes[seed].right for seed in kept)
    drops = np.bincount(places, lost) / images / len(kept)
    worst = int(drops.argmax())
    return Side(
        name=side.found.name,
        top1=fmean(record["top1"] for record in records),
        **means,
        worst_class=_class_name(side, worst, int(classes[worst])),
        worst_class_drop=float(drops[worst]),
        worst_class_images=int(images[worst]),
    )


def _class_name(side: _Measured, place: int, number: int) -> str:
    """From the table of classes beside a record; records of earlier versions have none."""
    for record in side.records.values():
        path = side.folder / record["fingerprint"] / CLASSES
        if path.is_file():
            rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
            if len(rows) > place + 1 and rows[place + 1]:
                return rows[place + 1][0]
    return f"class {number}"
