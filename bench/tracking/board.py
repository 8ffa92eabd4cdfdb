"""The runs that are computed from other runs: one parent run for the seeds of each setting, and one for the board.

Each is a function of the seeds' runs in MLflow, including those from other machines, and is written again when it is
out of date. So any process can write it, and the next one completes what a killed process began.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.leaderboard.board import to_markdown
from bench.leaderboard.grouping import told_apart
from bench.leaderboard.page import to_page
from bench.leaderboard.summary import summarise
from bench.records.record import Record
from bench.tracking import runs as content
from bench.tracking.experiment import Experiment
from bench.tracking.reading import Reader, age
from bench.tracking.text import LONGEST
from bench.tracking.view import OPENING, PAGE, experiment_tags

if TYPE_CHECKING:
    from mlflow.entities import Run
    from pandas import DataFrame, Series

    Seed = tuple[Run, Record]

ATTEMPTS = 5
"""How often all runs are read again at most, while other machines deliver too."""


def settle(experiment: Experiment, reader: Reader) -> None:
    """Update the runs of settings and of the board from the runs of seeds.

    A seed's run that holds no record is not changed, and a warning names it.
    """
    for _ in range(ATTEMPTS):
        if not _settle_once(experiment, reader):
            break
    reader.warn()


def _settle_once(experiment: Experiment, reader: Reader) -> bool:
    """Update once; whether anything had to be written."""
    kinds = defaultdict(list)
    for run in experiment.search():
        kinds[content.kind(run)].append(run)
    doubles, frame, seeds = _seeds(reader.readable(kinds["seed"]))
    settings = defaultdict(list)
    for run in kinds["setting"]:
        settings[content.line_of(run.data.tags)].append(run)
    experiment.delete(doubles)
    changed = bool(doubles)
    summary = frame if frame.empty else summarise(frame)
    for _, row in summary.iterrows():
        line = content.line_of(row)
        changed |= _settle_setting(experiment, row, seeds[line], settings.pop(line, []))
    experiment.delete(run for line in settings.values() for run in line)
    return _settle_board(experiment, frame, summary, kinds["board"]) or changed


def _seeds(seeds: Iterable[Seed]) -> tuple[list[Run], DataFrame, dict[content.Line, list[Seed]]]:
    """Duplicate runs, the records of the remaining runs, and the remaining runs by their line of the board."""
    import pandas

    same = defaultdict(list)
    for run, record in seeds:
        same[record.fingerprint].append((run, record))
    doubles: list[Run] = []
    kept: list[Seed] = []
    for group in same.values():
        *older, last = sorted(group, key=lambda seed: age(seed[0]))
        doubles += [run for run, _ in older]
        kept.append(last)
    frame = pandas.DataFrame([asdict(record) for _, record in kept])
    frame = frame if frame.empty else told_apart(frame)
    lines = defaultdict(list)
    for seed, row in zip(kept, frame.to_dict("records"), strict=True):
        lines[content.line_of(row)].append(seed)
    return doubles, frame, lines


def _settle_setting(experiment: Experiment, row: Series[Any], seeds: list[Seed], existing: list[Run]) -> bool:
    """Keep or create one run for a setting, and update it; whether anything had to be written."""
    # MLflow cannot delete a metric, so a run that has one too many is replaced.
    metrics = content.setting_metrics(row)
    usable = [run for run in existing if run.data.metrics.keys() <= metrics.keys()]
    kept = min(usable, key=_age, default=None)
    unwanted = [run for run in existing if run is not kept]
    experiment.delete(unwanted)
    if kept is None:
        start = min(run.info.start_time for run, _ in seeds)
        kept = experiment.create(content.label(row["setting"]), content.identity(row), start)
    written = _write_setting(experiment, kept, row, seeds)
    return _adopt(experiment, kept.info.run_id, seeds) or written or bool(unwanted)


def _write_setting(experiment: Experiment, run: Run, row: Series[Any], seeds: list[Seed]) -> bool:
    run_id, current = run.info.run_id, run.data
    metrics = content.setting_metrics(row)
    metrics = metrics if metrics != current.metrics else {}
    tags = _changed(content.setting_tags(row, seeds), current.tags)
    # MLflow refuses to change a parameter.
    wanted = content.setting_parameters(seeds[0][0])
    parameters = {name: value for name, value in wanted.items() if name not in current.params}
    # The latest value of a metric counts, and the clock of another machine may be ahead of ours.
    now = max(int(1000 * time.time()), experiment.last_logged(run_id, "seeds") + 1) if metrics else 0
    experiment.log(run_id, now, metrics, parameters, tags)
    end = max(seed.info.end_time for seed, _ in seeds)
    status = content.status(row["seeds"] > 0)
    if finished := (run.info.status, run.info.end_time) != (status, end):
        experiment.finish(run_id, status, end)
    return bool(metrics or parameters or tags or finished)


def _adopt(experiment: Experiment, parent: str, seeds: list[Seed]) -> bool:
    """Make the run `parent` the parent of all seeds."""
    strays = [run for run, _ in seeds if run.data.tags.get(content.PARENT) != parent]
    for run in strays:
        experiment.log(run.info.run_id, tags={content.PARENT: parent, content.KIND: "seed"})
    return bool(strays)


def _settle_board(experiment: Experiment, frame: DataFrame, summary: DataFrame, existing: list[Run]) -> bool:
    if summary.empty:
        return False
    kept = min(existing, key=_age, default=None)
    unwanted = [run for run in existing if run is not kept]
    experiment.delete(unwanted)
    html = to_page(summary, frame)
    digest = hashlib.sha256(html.encode()).hexdigest()[:16]
    changed = kept is None or kept.data.tags.get("board_digest") != digest
    now = int(1000 * time.time())
    kept = kept or experiment.create("leaderboard", {content.KIND: "board", "mlflow.source.name": "bench"}, now)
    if changed:
        experiment.log_text(kept.info.run_id, html, PAGE)
        experiment.finish(kept.info.run_id, content.status(ok=True), now)
        # Last, so that a board with this digest is complete.
        experiment.log(kept.info.run_id, tags={"board_digest": digest, content.NOTE: _note(kept, summary)})
    return _arrange(experiment, kept.info.run_id, summary) or changed or bool(unwanted)


def _note(board: Run, summary: DataFrame) -> str:
    link = f"[As a page]({content.address(board.info.experiment_id, board.info.run_id, PAGE)})\n\n"
    table = to_markdown(summary)
    return link + (table if len(link + table) < LONGEST else f"{len(summary)} settings.")


def _arrange(experiment: Experiment, board: str, summary: DataFrame) -> bool:
    """Write the saved views, and the description unless a user has changed it; whether anything had to be written."""
    current = experiment.tags()
    wanted = experiment_tags(experiment.id, board, summary)
    if content.NOTE in current and not current[content.NOTE].startswith(OPENING[:-1]):
        del wanted[content.NOTE]
    changed = _changed(wanted, current)
    experiment.set_tags(changed)
    return bool(changed)


def _changed(wanted: dict[str, str], current: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if current.get(name) != value}


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time or 0, run.info.run_id
