"""Published results beside the records of a store, and what differs between the two."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from bench.leaderboard.grouping import HELD_OUT
from bench.records.record import Record
from bench.reproducing.published import PERCENT, Results, Row


@dataclass(frozen=True)
class Beside:
    """A published figure and its mean over the records of one task with the same setting.

    Accuracies are percent. `differs` says in what the two were not measured alike.
    """

    row: str
    setting: str
    figure: str
    published: str
    ours: float
    seeds: int
    differs: tuple[str, ...]

    @property
    def difference(self) -> float:
        return self.ours - float(self.published)


def compare(results: Results, records: Iterable[Record]) -> Iterator[Beside]:
    """Every published figure that records of the same setting have, on any network; like networks first."""
    known = [each for each in records if each.status == "ok" and not each.dataset.startswith(HELD_OUT)]
    for row in results.complete:
        setting = str(row.pipeline)
        alike = [record for record in known if record.setting == setting and not row.at]
        for task in sorted({_task(record) for record in alike}, key=lambda task: (task[0] != row.model, task)):
            ours = [record for record in alike if _task(record) == task]
            yield from _figures(row, results, ours)


def missing(results: Results, found: Iterable[Beside]) -> list[Row]:
    """The rows without a record of their own network and dataset."""
    there = {each.row for each in found if not {"network", "dataset"} & {text.split()[0] for text in each.differs}}
    return [row for row in results.complete if row.row not in there]


def _task(record: Record) -> tuple[str, str, str, float]:
    return record.model, record.dataset, record.weights, record.budget_epochs


def _figures(row: Row, results: Results, records: list[Record]) -> Iterator[Beside]:
    differs = tuple(_differences(row, results, records[0]))
    for name, published in row.published.items():
        values = [float(value) for record in records if (value := getattr(record, name, None)) is not None]
        if values:
            ours = fmean(values) * (100 if name in PERCENT else 1)
            yield Beside(row.row, row.setting, name, published, ours, len(values), differs)


def _differences(row: Row, results: Results, ours: Record) -> Iterator[str]:
    if ours.model != row.model:
        yield f"network {ours.model}, theirs {row.model}"
    if ours.dataset != row.dataset:
        yield f"dataset {ours.dataset}, theirs {row.dataset}"
    if row.weights or ours.weights:
        yield f"weights {ours.weights}, theirs {row.weights or 'their own baseline'}"
    if row.epochs != ours.budget_epochs:
        yield f"budget {ours.budget_epochs:g} epochs, theirs {'not known' if row.epochs is None else f'{row.epochs:g}'}"
    if results.metric:
        yield f"metric: theirs {results.metric}"
    if bool(ours.recalibrate) != results.recalibrate:
        yield "statistics " + ("re-estimated, theirs not" if ours.recalibrate else "not re-estimated")
