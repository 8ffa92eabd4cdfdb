"""The records of a store that a setting or a fingerprint names. Needs torch only for a setting in a new spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.leaderboard.grouping import DENSE, PAPERS, TASK, last_measured, one_per_trial, told_apart, without_searches
from bench.leaderboard.summary import load_records
from bench.system.errors import BadArgument, BenchError
from bench.system.text import one_line, shortened

if TYPE_CHECKING:
    from pandas import DataFrame

NEAR = 3
"""Settings that a message suggests, at most."""
LISTED = 6
"""Tasks that a message names, at most."""


@dataclass(frozen=True)
class Found:
    """The records of one side of a comparison; `single` if a fingerprint named it."""

    name: str
    records: DataFrame
    single: bool = False

    def values(self, keys: list[str]) -> list[tuple[Any, ...]]:
        return list(dict.fromkeys(self.records[keys].itertuples(index=False, name=None)))

    def having(self, keys: list[str], values: tuple[Any, ...]) -> Found:
        return replace(self, records=self.records[(self.records[keys] == list(values)).all(axis=1)])

    def without(self, keys: list[str], dropped: set[tuple[Any, ...]]) -> Found:
        kept = [values not in dropped for values in self.records[keys].itertuples(index=False, name=None)]
        return replace(self, records=self.records[kept])


def find(
    texts: Iterable[str], store: Path, chosen: Mapping[str, object], recalibrate: bool | None = None
) -> tuple[list[Found], bool]:
    """The records that each text names, all measured on one task and, unless all are single records, at one budget.

    `chosen` has values of `TASK` or `budget_epochs` that the records must have. `recalibrate` chooses settings whose
    batch-norm statistics were re-estimated, or were not; None takes re-estimated ones if the store has both, and then
    the second value is True. Raises BenchError if a text names nothing in the store, and if the records share no task
    or budget, or more than one.
    """
    texts, records = list(texts), load_records(store)
    if not set(texts) <= set(records["fingerprint"]):  # a fingerprint may name any record
        records = without_searches(records, [str(chosen.get("dataset", ""))])
    trials = _chosen(one_per_trial(last_measured(records)), chosen, store)
    trials = _measured_so(trials, recalibrate, store)
    named = records if set(texts) <= set(records["fingerprint"]) else told_apart(records)
    sides = [_find(text, named, trials, store) for text in texts]
    sides, left_out = _recalibrated_first(sides)
    sides = _at_one(sides, TASK, "task", "model, dataset or weights")
    both = sides[0].values(TASK)[0] in left_out
    if all(side.single for side in sides):
        return sides, both
    return _at_one(sides, ["budget_epochs"], "budget", "epochs"), both


def _chosen(trials: DataFrame, chosen: Mapping[str, object], store: Path) -> DataFrame:
    for name, value in chosen.items():
        known = list(dict.fromkeys(trials[name]))
        matching = trials[trials[name].isin([value, f"{value}{PAPERS}"] if name == "weights" else [value])]
        if matching.empty:
            argument = "epochs" if name == "budget_epochs" else name
            raise BadArgument(argument, value, f"no such record in {store}; expected {' or '.join(map(str, known))}")
        trials = matching
    return trials


def _measured_so(trials: DataFrame, recalibrate: bool | None, store: Path) -> DataFrame:
    if recalibrate is None:
        return trials
    matching = trials[trials["recalibrate"].ne(False) == recalibrate]
    if matching.empty:
        option, others = ("--recalibrate", "without") if recalibrate else ("--no-recalibrate", "with")
        raise BenchError(f"{option}: every such record in {store} was measured {others} re-estimated statistics")
    return matching


def _recalibrated_first(sides: list[Found]) -> tuple[list[Found], set[tuple[Any, ...]]]:
    """The tasks on which all sides were measured both with and without re-estimated statistics, as the second value.

    The first value is the sides without the records that were not re-estimated on these tasks.
    """
    shared = set.intersection(*(set(side.values(TASK)) for side in sides))
    in_both = {task for task in shared if (*task[:-1], f"{task[-1]}{PAPERS}") in shared}
    dropped = {(*task[:-1], f"{task[-1]}{PAPERS}") for task in in_both}
    return [side.without(TASK, dropped) for side in sides], in_both


def _find(text: str, records: DataFrame, trials: DataFrame, store: Path) -> Found:
    single = records[records["fingerprint"] == text]
    if len(single):
        return _measured(Found(f"{_label(single['setting'].iloc[0])} {text[:6]}", single, single=True), store)
    setting = DENSE if text == "dense" else text
    matching = trials[trials["setting"] == setting]
    if matching.empty:
        matching = trials[_is_same(setting, trials)]
    if matching.empty:
        near = difflib.get_close_matches(setting[:200], sorted(set(trials["setting"])), n=NEAR, cutoff=0)
        there = f"; nearest: {', '.join(map(one_line, near))}" if near else ""
        raise BenchError(f"{one_line(shortened(text))}: no such setting in {store}{there}")
    return _measured(Found(_label(matching["setting"].iloc[-1]), matching), store)


def _label(setting: str) -> str:
    return one_line("dense" if setting == DENSE else setting)


def _measured(found: Found, store: Path) -> Found:
    measured = found.records[found.records["status"] == "ok"]
    if measured.empty:
        reason = one_line(found.records["error"].iloc[-1] or "no reason given")
        raise BenchError(f"{found.name}: every trial in {store} failed: {reason}")
    return replace(found, records=measured)


def _is_same(text: str, trials: DataFrame) -> list[bool]:
    """Which trials have this setting in another spelling: when parsed, it has the same name or the same options."""
    from bench.plugins.setting import parse  # imports every method, and with them torch

    settings = parse(text, "setting")
    if len(settings) > 1:
        raise BenchError(f"{one_line(shortened(text))}: {len(settings)} settings, expected one")
    name, options = str(settings[0]), settings[0].options
    return [
        setting == name or (config.get("stages") == options and config.get("runtime") is None)
        for setting, config in zip(trials["setting"], trials["config"], strict=True)
    ]


def _at_one(sides: list[Found], keys: list[str], what: str, arguments: str) -> list[Found]:
    """The sides at the one task or budget that all of them have."""
    first, *others = [side.values(keys) for side in sides]
    shared = [values for values in first if all(values in other for other in others)]
    if not shared:
        there = "; ".join(f"{side.name}: {_listed(side.values(keys))}" for side in sides)
        raise BenchError(f"not measured on the same {what}: {there}")
    if len(shared) > 1:
        raise BenchError(f"{len(shared)} {what}s match: {_listed(shared)}; choose one by its {arguments}")
    return [side.having(keys, shared[0]) for side in sides]


def _listed(values: list[tuple[Any, ...]]) -> str:
    more = f" and {len(values) - LISTED} more" if len(values) > LISTED else ""
    return ", ".join(one_line(" ".join(map(str, value))) for value in values[:LISTED]) + more
