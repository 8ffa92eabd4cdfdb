"""The runs that are made of other runs: one a setting above its seeds, and one that holds the whole board.

They say nothing of their own. Each is a function of the seeds' runs that MLflow holds, whoever delivered these, and is
written again where it says something else: so it does not matter which process writes it, or where one was killed.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.leaderboard.board import to_markdown
from bench.leaderboard.page import to_page
from bench.leaderboard.summary import summarise, told_apart
from bench.tracking import runs as content
from bench.tracking.experiment import Experiment
from bench.tracking.view import OPENING, PAGE, experiment_tags

if TYPE_CHECKING:
    from mlflow.entities import Run
    from pandas import DataFrame, Series

ATTEMPTS = 5
"""How often all is looked at again, while other machines deliver too."""


def settle(experiment: Experiment) -> None:
    """Make the runs of settings, and of the board, say what the runs of seeds say."""
    for _ in range(ATTEMPTS):
        if not _settle_once(experiment):
            return


def _settle_once(experiment: Experiment) -> bool:
    """Whether anything had to be written."""
    kinds = defaultdict(list)
    for run in experiment.search():
        kinds[content.kind(run)].append(run)
    doubles, frame, seeds = _seeds(kinds["seed"])
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
    return _settle_board(experiment, summary, kinds["board"]) or changed


def _seeds(runs: Iterable[Run]) -> tuple[list[Run], DataFrame, dict[content.Line, list[Run]]]:
    """Runs that are there twice, the records of the others, and these by their line.

    What another process is writing just now is neither.
    """
    import pandas

    same = defaultdict(list)
    for run in filter(content.is_whole, runs):
        same[run.data.tags["fingerprint"]].append(run)
    doubles: list[Run] = []
    kept: list[Run] = []
    for group in same.values():
        *older, last = sorted(group, key=content.age)
        doubles += older
        kept.append(last)
    frame = pandas.DataFrame([asdict(content.read(run)) for run in kept])
    frame = frame if frame.empty else told_apart(frame)
    lines = defaultdict(list)
    for run, record in zip(kept, frame.to_dict("records"), strict=True):
        lines[content.line_of(record)].append(run)
    return doubles, frame, lines


def _settle_setting(experiment: Experiment, row: Series[Any], seeds: list[Run], found: list[Run]) -> bool:
    """`found`: the runs of this setting, which should be one."""
    # A metric cannot be taken back: a run that has one too many is replaced.
    metrics = content.setting_metrics(row)
    usable = [run for run in found if run.data.metrics.keys() <= metrics.keys()]
    kept = min(usable, key=_age, default=None)
    unwanted = [run for run in found if run is not kept]
    experiment.delete(unwanted)
    if kept is None:
        start = min(run.info.start_time for run in seeds)
        kept = experiment.create(content.label(row["setting"]), content.identity(row), start)
    written = _write_setting(experiment, kept, row, seeds)
    return _adopt(experiment, kept.info.run_id, seeds) or written or bool(unwanted)


def _write_setting(experiment: Experiment, run: Run, row: Series[Any], seeds: list[Run]) -> bool:
    run_id, said = run.info.run_id, run.data
    metrics = content.setting_metrics(row)
    metrics = metrics if metrics != said.metrics else {}
    tags = _unsaid(content.setting_tags(row, seeds), said.tags)
    # A parameter is said once: MLflow refuses another value.
    parameters = {name: v for name, v in content.setting_parameters(seeds[0]).items() if name not in said.params}
    # Of a metric the latest counts, and the clock of another machine may be ahead of ours.
    now = max(int(1000 * time.time()), experiment.last_logged(run_id, "seeds") + 1) if metrics else 0
    experiment.log(run_id, now, metrics, parameters, tags)
    end = max(run.info.end_time for run in seeds)
    status = content.status(row["seeds"] > 0)
    if finished := (run.info.status, run.info.end_time) != (status, end):
        experiment.finish(run_id, status, end)
    return bool(metrics or parameters or tags or finished)


def _adopt(experiment: Experiment, parent: str, seeds: list[Run]) -> bool:
    strays = [run for run in seeds if run.data.tags.get(content.PARENT) != parent]
    for run in strays:
        experiment.log(run.info.run_id, tags={content.PARENT: parent, content.KIND: "seed"})
    return bool(strays)


def _settle_board(experiment: Experiment, summary: DataFrame, found: list[Run]) -> bool:
    if summary.empty:
        return False
    kept = min(found, key=_age, default=None)
    unwanted = [run for run in found if run is not kept]
    experiment.delete(unwanted)
    html = to_page(summary)
    digest = hashlib.sha256(html.encode()).hexdigest()[:16]
    changed = kept is None or kept.data.tags.get("board_digest") != digest
    now = int(1000 * time.time())
    kept = kept or experiment.create("leaderboard", {content.KIND: "board", "mlflow.source.name": "bench"}, now)
    if changed:
        experiment.log_text(kept.info.run_id, html, PAGE)
        experiment.finish(kept.info.run_id, content.status(ok=True), now)
        # Last, so that a board with this digest is a whole one.
        experiment.log(kept.info.run_id, tags={"board_digest": digest, content.NOTE: _note(kept, summary)})
    return _arrange(experiment, kept.info.run_id, summary) or changed or bool(unwanted)


def _note(board: Run, summary: DataFrame) -> str:
    link = f"[As a page]({content.address(board.info.experiment_id, board.info.run_id, PAGE)})\n\n"
    table = to_markdown(summary)
    return link + (table if len(table) < content.LONGEST else f"{len(summary)} settings.")


def _arrange(experiment: Experiment, board: str, summary: DataFrame) -> bool:
    """The saved views, and the description where no user wrote another."""
    said = experiment.tags()
    wanted = experiment_tags(experiment.id, board, summary)
    if content.NOTE in said and not said[content.NOTE].startswith(OPENING[:-1]):
        del wanted[content.NOTE]
    changed = _unsaid(wanted, said)
    experiment.set_tags(changed)
    return bool(changed)


def _unsaid(wanted: dict[str, str], said: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if said.get(name) != value}


def _age(run: Run) -> tuple[int, str]:
    return run.info.start_time, run.info.run_id
