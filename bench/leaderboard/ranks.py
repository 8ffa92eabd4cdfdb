"""Ranks of settings by top-1, as intervals: settings that cannot be told apart share ranks. Needs no torch."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.comparing.outcomes import Outcomes, read_outcomes
from bench.comparing.paired import ALPHA, count_pairs, differences, holm
from bench.leaderboard.grouping import DENSE, LINE, TASK

if TYPE_CHECKING:
    from pandas import DataFrame

Line = tuple[Any, ...]
Right = dict[int, NDArray[np.bool_]]
"""By seed, whether each test image was classified rightly, [images]."""
RANK = ["rank_low", "rank_high"]


def rank_intervals(trials: DataFrame, folders: Path | None) -> DataFrame:
    """`rank_low` and `rank_high` by row of the board, for rows whose predictions lie in `folders`, by fingerprint.

    `trials` holds one record a trial, in the order they were measured. StoreError for predictions that are damaged.
    """
    import pandas

    measured = trials[trials["status"] == "ok"] if folders is not None else trials[:0]
    found = [
        (line, *interval)
        for _, task in measured.groupby(TASK, sort=False)
        for line, interval in _of_task(_right_answers(task, folders)).items()
    ]
    rows = [(*line, *interval) for line, *interval in found]
    return pandas.DataFrame(rows, columns=[*LINE, *RANK]).set_index(LINE).astype("float64")


def _right_answers(task: DataFrame, folders: Path | None) -> dict[Line, Right]:
    """The answers for the test images of the task's last record; those for other images are left out."""
    answers: dict[Line, Right] = defaultdict(dict)
    reference: Outcomes | None = None
    for record in reversed(task[[*LINE, "seed", "fingerprint", "top1"]].to_dict("records")):
        outcomes = read_outcomes(folders / record["fingerprint"], record["top1"])
        reference = reference or outcomes
        if outcomes and reference and reference.same_images(outcomes):
            answers[tuple(record[name] for name in LINE)][record["seed"]] = outcomes.right
    return answers


def _of_task(answers: dict[Line, Right]) -> dict[Line, tuple[int, int]]:
    """From 1 + the number of settings that are better, to their number - the number that are worse."""
    lines = list(answers)
    better = tell_apart(for_all_seeds(answers))
    return {
        line: (1 + int(better[:, place].sum()), len(lines) - int(better[place].sum()))
        for place, line in enumerate(lines)
    }


def for_all_seeds(answers: dict[Line, Right]) -> list[Right]:
    """The answers, with those of a dense network that was measured once repeated for every seed of the others."""
    seeds = {seed for right in answers.values() for seed in right}
    return [
        dict.fromkeys(seeds, next(iter(right.values()))) if line[LINE.index("setting")] == DENSE and len(right) == 1
        else right
        for line, right in answers.items()
    ]  # fmt: skip


def tell_apart(settings: list[Right]) -> NDArray[np.bool_]:
    """Whether setting i is better than setting j, [settings, settings], at a familywise error rate of `ALPHA`.

    Every pair is compared on the seeds that both have (see `bench.comparing.paired`). The p-values are corrected by
    Holm's method for their number. Settings without a common seed are not compared.
    """
    groups: dict[frozenset[int], list[tuple[int, int]]] = defaultdict(list)
    for one, other in combinations(range(len(settings)), 2):
        groups[frozenset(settings[one].keys() & settings[other].keys())].append((one, other))
    pairs: list[tuple[int, int, float, float]] = []
    for seeds, members in groups.items():
        if seeds:
            places = sorted({place for pair in members for place in pair})
            right = np.stack([[settings[place][seed] for seed in sorted(seeds)] for place in places])
            first, second = (np.searchsorted(places, side) for side in zip(*members, strict=True))
            found = differences(count_pairs(right, first, second))
            pairs += [(*pair, e, p) for pair, e, p in zip(members, found.estimate, found.p, strict=True)]
    better = np.zeros((len(settings), len(settings)), dtype=bool)
    for (one, other, estimate, _), p in zip(pairs, holm([p for *_, p in pairs]), strict=True):
        if p is not None and p <= ALPHA:
            better[(one, other) if estimate > 0 else (other, one)] = True
    return better
