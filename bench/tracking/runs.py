"""The content of runs in MLflow: tags, parameters and metrics of a record, and of a setting as parent of its seeds."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.leaderboard.grouping import DENSE, LINE
from bench.leaderboard.markdown import escaped
from bench.leaderboard.summary import METRICS
from bench.records.record import Record
from bench.tracking.text import LONGEST_NAME, fitting

if TYPE_CHECKING:
    from mlflow.entities import Run
    from pandas import Series

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
KIND = "kind"
"""The tag with the kind of a run: `seed`, `setting` or `board`."""

LISTED = 25
"""Seeds in a description, whose length MLflow limits."""
PARAMETERS = (*LINE, "device", "seed")
TAGS = ("fingerprint", "status", *PARAMETERS, "started_at")

Line = tuple[str, ...]


def line_of(fields: Any) -> Line:
    """The line of the board that a record, a run's tags or a row of the summary belongs to."""
    return tuple(fitting(str(fields.get(name))) for name in LINE)


def kind(run: Run) -> str:
    """`seed`, `setting`, `board`, or another text for a run that is not ours.

    Early versions did not set this tag on the runs of seeds.
    """
    return str(run.data.tags.get(KIND, "seed" if "fingerprint" in run.data.tags else ""))


def status(ok: bool) -> str:
    return "FINISHED" if ok else "FAILED"


def label(setting: str) -> str:
    """The name of a setting's run."""
    return fitting("dense" if setting == DENSE else setting, LONGEST_NAME)


def name(record: Record) -> str:
    """The name of a record's run."""
    seed = f" seed {record.seed}"
    return fitting(label(record.setting), LONGEST_NAME - len(seed)) + seed


def milliseconds(record: Record) -> tuple[int, int]:
    """Start and end, in milliseconds since 1970."""
    start = datetime.fromisoformat(record.started_at).timestamp()
    return int(1000 * start), int(1000 * (start + (record.duration_seconds or 0)))


def tags(record: Record) -> dict[str, str]:
    chosen = {name: str(getattr(record, name)) for name in TAGS}
    if record.error:
        chosen["error"] = record.error
    if "cnn-compression-bench" in record.versions:
        chosen["bench_version"] = record.versions["cnn-compression-bench"]
    return _fitting(chosen | {KIND: "seed", "mlflow.source.name": "bench", NOTE: _note(record)})


def _fitting(values: Mapping[str, str]) -> dict[str, str]:
    return {fitting(name, LONGEST_NAME): fitting(value) for name, value in values.items()}


def _note(record: Record) -> str:
    """The description at the top of a run's page, in Markdown."""
    where = escaped(f"{record.model}, {record.dataset}, seed {record.seed}")
    lines = [f"**{escaped(label(record.setting))}** on {where}."]
    if record.error:
        lines.append(f"Failed: {escaped(record.error)}")
    if record.top1 is not None and record.compression_ratio is not None:
        lines.append(f"top-1 {100 * record.top1:.2f}%, {record.compression_ratio:.2f}× smaller.")
    return "\n\n".join([*lines, *(f"- {escaped(note)}" for note in record.notes)])


def metrics(record: Record) -> dict[str, float]:
    measured = {name: getattr(record, name) for name in METRICS if getattr(record, name) is not None}
    return {name: _short(value) for name, value in measured.items()}


def _short(value: float) -> float:
    """Six digits, which fit a column of the runs table, or a whole number; `record.json` has all digits."""
    return float(f"{value:.6g}") if isinstance(value, float) and not value.is_integer() else value


def parameters(record: Record) -> dict[str, str]:
    """The options and conditions of a trial as text; nested options have dotted names."""
    config = {name: value for name, value in record.config.items() if name != "stages"}
    options = _options(record.config.get("stages", []))
    chosen = {name: str(getattr(record, name)) for name in PARAMETERS}
    nested = {re.sub(r"[^\w.\-/ ]", "_", name): value for name, value in _flatten(config | options)}
    return _fitting(nested | chosen)


def _options(stages: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options by method, as in `tic.k`; a repeated method has its place in the pipeline, as in `2.l1.rate`."""
    methods = [stage["method"] for stage in stages]
    return {
        f"{place}.{method}" if methods.count(method) > 1 else method: {k: v for k, v in stage.items() if k != "method"}
        for place, (method, stage) in enumerate(zip(methods, stages, strict=True), start=1)
    }


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flatten(item, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value)


def address(experiment: str, run: str, artifact: str = "") -> str:
    """The page of a run in MLflow's UI, relative to the server's address and a slash."""
    path = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment}/runs/{run}{path}?workflowType=machine_learning"


def identity(row: Series[Any]) -> dict[str, str]:
    """The tags that a setting's run is created with."""
    return _fitting({name: str(row[name]) for name in LINE} | {KIND: "setting", "mlflow.source.name": "bench"})


def setting_tags(row: Series[Any], seeds: list[tuple[Run, Record]]) -> dict[str, str]:
    state = {
        "status": "ok" if row["seeds"] else "failed",
        "pareto": "yes" if row["pareto"] else "no",
        "error": textwrap.shorten(row["error"], 1000) if row["failed"] else "",
    }
    return identity(row) | _fitting(state | {NOTE: _setting_note(row, seeds)})


def _setting_note(row: Series[Any], seeds: list[tuple[Run, Record]]) -> str:
    """The description of a setting's run: a table of its seeds, with links to their runs."""
    where = escaped(f"{row['model']}, {row['dataset']}")
    lines = [f"**{escaped(label(row['setting']))}** on {where}: the mean over its seeds."]
    lines += ["", "| seed | top-1 % | size | |", "| ---: | ---: | ---: | --- |"]
    ordered = sorted(seeds, key=lambda seed: (seed[1].seed, seed[1].started_at))
    return "\n".join([*lines, *(_seed_row(*seed) for seed in ordered[:LISTED])])


def _seed_row(run: Run, record: Record) -> str:
    top1 = "–" if record.top1 is None else f"{100 * record.top1:.2f}"
    size = "–" if record.compression_ratio is None else f"{record.compression_ratio:.2f}×"
    link = f"[its run]({address(run.info.experiment_id, run.info.run_id)})"
    reason = escaped(textwrap.shorten(record.error or "", 100))
    return f"| {record.seed} | {top1} | {size} | {link} {reason} |"


def setting_metrics(row: Series[Any]) -> dict[str, float]:
    """Means over the seeds under the names of a record, their intervals, and the numbers of seeds."""
    intervals = ["top1_ci95", "latency_speedup_ci95", "throughput_speedup_ci95"]
    figures = {name: float(row[name]) for name in [*METRICS, *intervals, "seeds", "failed"]}
    return {name: _short(value) for name, value in figures.items() if not math.isnan(value)}


def setting_parameters(seed: Run) -> dict[str, str]:
    """The parameters that all seeds of a setting share: LINE and the options of its methods."""
    methods = "|".join(map(re.escape, seed.data.params["method"].split("+")))
    option = re.compile(rf"(\d+\.)?({methods})\..+")
    return {name: value for name, value in seed.data.params.items() if name in LINE or option.fullmatch(name)}
