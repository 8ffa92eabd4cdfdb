"""Reads records back from MLflow's runs, which users of the server may have edited."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.leaderboard.summary import METRICS
from bench.records.record import Record
from bench.system.progress import say
from bench.system.text import one_line
from bench.tracking.runs import PARAMETERS
from bench.tracking.text import fitting

if TYPE_CHECKING:
    from mlflow.entities import Run

DIGESTS = ("dataset_digest", "weights_digest")
VERSIONS = ("protocol", "sources")
"""Parameters in JSON that, with the digests, distinguish figures of the same setting."""
NAMED = 3
"""Runs that a warning names; the rest are counted."""
LARGEST = 2**63
"""Numbers must be below this, because the board's columns cannot hold larger ones."""


def started(run: Run) -> str:
    return str(run.data.tags.get("started_at", ""))


def is_whole(run: Run) -> bool:
    """Whether the run was delivered completely."""
    return run.info.status in ("FINISHED", "FAILED")


def age(run: Run) -> tuple[str, str]:
    """The sort key of several runs of one record; the last run is kept."""
    return started(run), run.info.run_id


def read(run: Run) -> Record:
    """The record of a seed's run with the fields that the board needs; metrics have six digits.

    A ValueError names the first entry of the run that cannot come from a record.
    """
    parameters, tags = run.data.params, run.data.tags
    for name in PARAMETERS:
        if name not in parameters:
            raise ValueError(f"it has no parameter {name}")
    for name in ("fingerprint", "started_at"):
        if name not in tags:
            raise ValueError(f"it has no tag {name}")
    if run.info.start_time is None or run.info.end_time is None:
        raise ValueError("it has no start or no end")
    content: dict[str, Any] = {name: parameters[name] for name in PARAMETERS}
    content |= {name: _number(name, parameters[name]) for name in ("seed", "budget_epochs")}
    content |= {name: _number(name, run.data.metrics[name]) for name in METRICS if name in run.data.metrics}
    content |= {"fingerprint": _folder_name(tags["fingerprint"]), "started_at": started(run)}
    content |= {"status": "ok" if run.info.status == "FINISHED" else "failed", "error": tags.get("error")}
    content["config"] = {name: parameters[name] for name in DIGESTS if name in parameters}
    if "recalibrate" in parameters:
        content["recalibrate"] = json.loads(parameters["recalibrate"])
    content["config"] |= {name: json.loads(parameters[name]) for name in VERSIONS if name in parameters}
    return Record.from_json(json.dumps(content))


def _number(name: str, value: str | float) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{name}: {value!r:.40}, expected a number") from None
    if not abs(number) < LARGEST:
        raise ValueError(f"{name}: {number:g}, expected a number below 2^63")
    return int(number) if number.is_integer() else number


def _folder_name(fingerprint: str) -> str:
    if fingerprint in ("", ".", "..") or set(fingerprint) & set("/\\") or fitting(fingerprint) != fingerprint:
        raise ValueError(f"its fingerprint is {fingerprint!r:.40}")
    return fingerprint


class Reader:
    """Reads the runs of one experiment, and warns once of each run that holds no record."""

    def __init__(self) -> None:
        self._unreadable: dict[str, str] = {}
        self._told: set[str] = set()

    def readable(self, runs: Iterable[Run]) -> list[tuple[Run, Record]]:
        """The complete runs that hold a record, each with its record."""
        readable = []
        for run in filter(is_whole, runs):
            try:
                readable.append((run, read(run)))
            except (ValueError, RecursionError) as error:  # json raises the latter for deep nesting
                self._unreadable[run.info.run_id] = str(error)
        return readable

    def warn(self) -> None:
        """Warn in one line of the runs without a record that were not named before."""
        fresh = [
            f"{run} ({textwrap.shorten(reason, 150)})"
            for run, reason in self._unreadable.items()
            if run not in self._told
        ]
        if fresh:
            self._told |= self._unreadable.keys()
            more = f"; and {len(fresh) - NAMED} more" if len(fresh) > NAMED else ""
            named = one_line("; ".join(fresh[:NAMED]))
            say(f"warning: MLflow has runs that hold no record; they are ignored: {named}{more}")
