"""Whether a setting meets a goal, from its trials on test images: it does, it does not, or that cannot be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.comparing.answers import Answers, pair_up
from bench.comparing.outcomes import read_outcomes
from bench.comparing.paired import differences
from bench.leaderboard.summary import frame_of, summarise
from bench.records.record import Record
from bench.records.store import Store, StoreError
from bench.search.goal import Bound, Figure, Goal

Verdict = Literal["met", "not met", "cannot be told"]
WORST_FIRST: tuple[Verdict, ...] = ("not met", "cannot be told", "met")


@dataclass(frozen=True)
class Interval:
    """A figure in the unit that people write, and its 95% interval."""

    value: float
    low: float
    high: float
    noisy: bool = False

    def keeps(self, bound: Bound) -> Verdict:
        """`met` if every value of the interval keeps the bound, `not met` if none does."""
        broken = [bound.violation(end) > 0 for end in (self.low, self.high)]
        if self.noisy or math.isnan(self.value) or any(broken) != all(broken):
            return "cannot be told"
        return "not met" if broken[0] else "met"


@dataclass(frozen=True)
class Answer:
    """A setting with the figures that the goal names, over the seeds of `records`."""

    setting: str
    records: tuple[Record, ...]
    gain: Interval
    bounds: tuple[tuple[Bound, Interval], ...]

    @property
    def verdict(self) -> Verdict:
        found = {interval.keeps(bound) for bound, interval in self.bounds}
        return next(verdict for verdict in WORST_FIRST if verdict in found or verdict == "met")


def answer(records: Sequence[Record], goal: Goal, store: Store) -> Answer:
    """What the trials of one setting, one for each seed, say about a goal."""
    figures = {figure: _interval(figure, records, store) for figure in {goal.gain, *(b.figure for b in goal.bounds)}}
    bounds = tuple((bound, figures[bound.figure]) for bound in goal.bounds)
    return Answer(records[0].setting, tuple(records), figures[goal.gain], bounds)


def best(answers: Sequence[Answer], goal: Goal) -> Answer:
    """Of those with the best verdict, the one with the largest gain."""
    return max(answers, key=lambda each: (WORST_FIRST.index(each.verdict), each.gain.value))


def lost(records: Sequence[Record], store: Store) -> Interval:
    """Points of top-1 lost, paired by image with the dense network."""
    ours, dense, _ = _answers(records, store)
    return _paired(dense, ours)


def _answers(records: Sequence[Record], store: Store) -> tuple[Answers, Answers, Answers]:
    """By seed: the answers of a setting, those of the dense network, and those of a network that is never right."""
    ours, dense, never = Answers(), Answers(), Answers()
    for record in records:
        folder = store.folder(record.fingerprint)
        outcomes = read_outcomes(folder, record.top1)
        if outcomes is None or record.top1 is None or record.top1_dense is None:
            raise StoreError(f"{folder}: its predictions are missing; delete the folder, and the trial is run again")
        for answers, top1, right in (
            (ours, record.top1, outcomes.right),
            (dense, record.top1_dense, outcomes.dense_right),
            (never, 0.0, np.zeros_like(outcomes.right)),
        ):
            answers.top1[record.seed], answers.right[record.seed] = top1, right
    return ours, dense, never


def _paired(one: Answers, other: Answers) -> Interval:
    """The difference of top-1 in points; its interval covers images and seeds (see `bench.comparing.paired`)."""
    found = differences(pair_up([one, other], [(0, 1)]))
    value, low, high = (100 * float(each[0]) for each in (found.estimate, found.low, found.high))
    return Interval(value, low, high)


def _interval(figure: Figure, records: Sequence[Record], store: Store) -> Interval:
    if figure.is_accuracy:
        ours, dense, never = _answers(records, store)
        return _paired(dense, ours) if figure.field == "top1_drop" else _paired(ours, never)
    values = [figure.value(record) for record in records]
    if not figure.is_timed:
        return Interval(sum(values) / len(values), min(values), max(values))
    row = summarise(frame_of(records), store.root).iloc[0]
    value = float(row[figure.field])
    half = row.get(f"{figure.field}_ci95", math.nan)
    noisy = bool(row["latency_noisy" if figure.field.startswith("latency") else "throughput_noisy"])
    low, high = (min(values), max(values)) if math.isnan(half) else (value - half, value + half)
    return Interval(value, low, high, noisy)
