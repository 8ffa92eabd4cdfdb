"""Ranks of settings by top-1, as intervals: settings that cannot be told apart share ranks. Needs no torch."""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.comparing.answers import Answers, tell_apart
from bench.comparing.outcomes import Marked, read_marked
from bench.leaderboard.grouping import DENSE, LINE, TASK, in_torch, task_title

if TYPE_CHECKING:
    from pandas import DataFrame

Line = tuple[Any, ...]
MOST_COMPARED = 4_000
"""Settings of a task whose pairs are all compared; the time grows with the square of their number."""
RANK = ["rank_low", "rank_high"]


def rank_intervals(trials: DataFrame, folders: Path | None) -> DataFrame:
    """`rank_low` and `rank_high` by row of the board, for rows whose predictions are kept.

    `trials` holds one record per trial, in the order they were measured; `folders` has the records' folders, which are
    named by fingerprint. StoreError for predictions that are damaged.
    """
    import pandas

    measured = in_torch(trials[trials["status"] == "ok"])
    rows = [
        (*line, *interval)
        for _, task in measured.groupby(TASK, sort=False)
        if folders is not None
        for line, interval in _of_task(task, folders).items()
    ]
    return pandas.DataFrame(rows, columns=[*LINE, *RANK]).set_index(LINE).astype("float64")


def _of_task(task: DataFrame, folders: Path) -> dict[Line, tuple[int, int]]:
    """The rank of each setting, from 1 + the number of better settings to all settings - the number of worse ones."""
    if len(task[LINE].drop_duplicates()) > MOST_COMPARED:
        name = task_title(task[TASK].iloc[0])
        warnings.warn(
            f"{name}: no ranks, since there are more than {MOST_COMPARED:,} settings to compare", stacklevel=2
        )
        return {}
    answers = {line: given for line, given in answers_of(task, folders).items() if given.right}
    better = tell_apart(for_all_seeds(answers))
    return {
        line: (1 + int(better[:, place].sum()), len(answers) - int(better[place].sum()))
        for place, line in enumerate(answers)
    }


def answers_of(task: DataFrame, folders: Path) -> dict[Line, Answers]:
    """The answers of one task's trials, by row of the board. Trials that kept no predictions, or have other test images
    than the last trial, have only their top-1."""
    answers: dict[Line, Answers] = defaultdict(Answers)
    reference: Marked | None = None
    for record in reversed(task[[*LINE, "seed", "fingerprint", "top1"]].to_dict("records")):
        marked = read_marked(folders / record["fingerprint"], record["top1"])
        reference = reference or marked
        given = answers[tuple(record[name] for name in LINE)]
        given.top1[record["seed"]] = record["top1"]
        if marked and reference and reference.images == marked.images:
            given.right[record["seed"]] = marked.right
    return answers


def for_all_seeds(answers: dict[Line, Answers]) -> list[Answers]:
    """The answers; those of a dense network that was measured once are repeated for every seed of the others."""
    seeds = {seed for given in answers.values() for seed in given.top1}
    is_dense = [line[LINE.index("setting")] == DENSE and len(given.top1) == 1 for line, given in answers.items()]
    return [given.at_every(seeds) if once else given for once, given in zip(is_dense, answers.values(), strict=True)]
