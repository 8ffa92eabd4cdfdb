"""`bench submit`: packs the trials of a store that answer a question into one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.leaderboard.answer import answer
from bench.leaderboard.grouping import LINE, last_measured, without_searches
from bench.leaderboard.question import Question
from bench.leaderboard.summary import load_records, records_folder, summarise
from bench.records.store import regular_files
from bench.system.errors import BenchError
from bench.verifying.archive import LARGEST, NEEDED, write_archive

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Packed:
    """How many trials were packed, and how many were left out because a file is missing."""

    trials: int
    incomplete: int
    bytes: int


def submit(store: Path, out: Path, question: Question) -> Packed:
    """Pack the trials behind the rows of the board that answer `question`; all but those of searches, if it asks for
    nothing.

    Packs the record, the artifact, the predictions and the tables. BenchError if no trial has all three.
    """
    if not store.is_dir():
        raise BenchError(f"{store}: there is no such store")
    records = without_searches(load_records(store), question.dataset)
    files, trials, incomplete = dict[str, Path](), 0, 0
    for fingerprint in _chosen(records, store, question):
        there = {file.name: file for file in regular_files(records_folder(store) / fingerprint)}
        if all(name in there for name in NEEDED):
            files |= {f"records/{fingerprint}/{name}": there[name] for name in LARGEST if name in there}
            trials += 1
        else:
            incomplete += 1
    if not trials:
        raise BenchError(f"store {store}: none of {incomplete} trials has its artifact and predictions")
    write_archive(files, out)
    return Packed(trials, incomplete, out.stat().st_size)


def _chosen(records: DataFrame, store: Path, question: Question) -> list[str]:
    """Fingerprints of the measured trials behind the rows that were asked for."""
    rows = answer(summarise(records, store), question).rows
    lines = set(rows[LINE].itertuples(index=False, name=None))
    trials = last_measured(records)
    trials = trials[trials["status"] == "ok"]
    chosen = [line in lines for line in trials[LINE].itertuples(index=False, name=None)]
    return [str(fingerprint) for fingerprint in trials[chosen]["fingerprint"]]
