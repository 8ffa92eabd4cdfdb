"""What is written into MLflow's runs: of a record, of a setting above its seeds; and how a record is read back."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.leaderboard.summary import DENSE, METRICS, TASK
from bench.records.record import Record

if TYPE_CHECKING:
    from mlflow.entities import Run
    from pandas import Series

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
KIND = "kind"
"""The tag that tells a run of a `setting` from one of a `seed` and from the `board`."""

LINE = [*TASK, "method", "setting"]
"""What the seeds of a setting share: a line of the board, and a run above theirs."""
LONGEST = 5000
"""Characters that every MLflow keeps of a tag."""
LISTED = 25
"""Seeds in a description, whose length MLflow limits."""
PARAMETERS = (*LINE, "seed")
SOURCES = ("dataset_digest", "weights_digest", "sources")
"""Of a record's configuration, what tells apart figures that go by the same names."""
TAGS = ("fingerprint", "status", *PARAMETERS, "started_at")


Line = tuple[str, ...]


def line_of(fields: Any) -> Line:
    """Of a record, of a run's tags or of a row of the summary, by what its line is known."""
    return tuple(str(fields.get(name)) for name in LINE)


def kind(run: Run) -> str:
    """Runs of seeds had no such tag at first."""
    return str(run.data.tags.get(KIND, "seed" if "fingerprint" in run.data.tags else ""))


def status(ok: bool) -> str:
    return "FINISHED" if ok else "FAILED"


def label(setting: str) -> str:
    return "dense" if setting == DENSE else setting


def name(record: Record) -> str:
    return f"{label(record.setting)} seed {record.seed}"


def milliseconds(record: Record) -> tuple[int, int]:
    """Start and end, since 1970."""
    start = datetime.fromisoformat(record.started_at).timestamp()
    return int(1000 * start), int(1000 * (start + (record.duration_seconds or 0)))


def tags(record: Record) -> dict[str, str]:
    chosen = {name: str(getattr(record, name)) for name in TAGS}
    if record.error:
        chosen["error"] = record.error
    if "cnn-compression-bench" in record.versions:
        chosen["bench_version"] = record.versions["cnn-compression-bench"]
    return chosen | {KIND: "seed", "mlflow.source.name": "bench", NOTE: _note(record)}


def _note(record: Record) -> str:
    """What a reader of the run's page sees first."""
    lines = [f"**{label(record.setting)}** on {record.model}, {record.dataset}, seed {record.seed}."]
    if record.error:
        lines.append(f"Failed: {record.error}")
    if record.top1 is not None and record.compression_ratio is not None:
        lines.append(f"top-1 {100 * record.top1:.2f}%, {record.compression_ratio:.2f}× smaller.")
    return "\n\n".join([*lines, *record.notes])


def metrics(record: Record) -> dict[str, float]:
    measured = {name: getattr(record, name) for name in METRICS if getattr(record, name) is not None}
    return {name: _short(value) for name, value in measured.items()}


def _short(value: float) -> float:
    """Six digits, which fit a column of the runs table, and all of a whole number; `record.json` has the others."""
    return float(f"{value:.6g}") if isinstance(value, float) and not value.is_integer() else value


def parameters(record: Record) -> dict[str, str]:
    """What was chosen, not measured; nested options by dotted names."""
    config = {name: value for name, value in record.config.items() if name != "stages"}
    options = _options(record.config.get("stages", []))
    chosen = {name: str(getattr(record, name)) for name in PARAMETERS}
    return {re.sub(r"[^\w.\-/ ]", "_", name): value for name, value in _flatten(config | options)} | chosen


def _options(stages: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A column each, as `tic.k`, whatever place in a pipeline the method has; `2.l1.rate` where it has several."""
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
    """Where MLflow's UI shows a run, to follow the server's address and a slash."""
    path = f"/artifacts/{artifact}" if artifact else ""
    return f"#/experiments/{experiment}/runs/{run}{path}?workflowType=machine_learning"


def started(run: Run) -> str:
    return str(run.data.tags.get("started_at", ""))


def is_whole(run: Run) -> bool:
    """Whether its delivery came to its end."""
    return run.info.status in ("FINISHED", "FAILED")


def age(run: Run) -> tuple[str, str]:
    """Of several runs of one record, the last by this is kept."""
    return started(run), run.info.run_id


def read(run: Run) -> Record:
    """The record of a seed's run, as far as the board needs it: the metrics have six digits."""
    chosen: dict[str, Any] = {name: run.data.params[name] for name in PARAMETERS}
    chosen |= {"seed": int(chosen["seed"]), "budget_epochs": float(chosen["budget_epochs"])}
    figures: dict[str, Any] = {name: run.data.metrics.get(name) for name in METRICS}
    known = {name: run.data.params[name] for name in SOURCES if name in run.data.params}
    return Record(
        fingerprint=run.data.tags["fingerprint"],
        status="ok" if run.info.status == "FINISHED" else "failed",
        error=run.data.tags.get("error"),
        started_at=started(run),
        config=known,
        **chosen,
        **figures,
    )


def identity(row: Series[Any]) -> dict[str, str]:
    """The tags that a setting's run has from the beginning."""
    return {name: str(row[name]) for name in LINE} | {KIND: "setting", "mlflow.source.name": "bench"}


def setting_tags(row: Series[Any], seeds: list[Run]) -> dict[str, str]:
    state = {
        "status": "ok" if row["seeds"] else "failed",
        "pareto": "yes" if row["pareto"] else "no",
        "error": textwrap.shorten(row["error"], 1000) if row["failed"] else "",
    }
    return identity(row) | state | {NOTE: _setting_note(row, seeds)}


def _setting_note(row: Series[Any], seeds: list[Run]) -> str:
    """The seeds as a table, each a link to its run."""
    lines = [f"**{label(row['setting'])}** on {row['model']}, {row['dataset']}: the mean over its seeds."]
    lines += ["", "| seed | top-1 % | size | |", "| ---: | ---: | ---: | --- |"]
    ordered = sorted(seeds, key=lambda run: (int(run.data.params["seed"]), started(run)))
    return "\n".join([*lines, *map(_seed_row, ordered[:LISTED])])


def _seed_row(run: Run) -> str:
    record = read(run)
    top1 = "–" if record.top1 is None else f"{100 * record.top1:.2f}"
    size = "–" if record.compression_ratio is None else f"{record.compression_ratio:.2f}×"
    link = f"[its run]({address(run.info.experiment_id, run.info.run_id)})"
    reason = textwrap.shorten(record.error or "", 100).replace("|", "\\|")
    return f"| {record.seed} | {top1} | {size} | {link} {reason} |"


def setting_metrics(row: Series[Any]) -> dict[str, float]:
    """Means over the seeds under the names of a record, intervals of two, and how many seeds there are."""
    figures = {name: float(row[name]) for name in [*METRICS, "top1_ci95", "latency_speedup_ci95", "seeds", "failed"]}
    return {name: _short(value) for name, value in figures.items() if not math.isnan(value)}


def setting_parameters(seed: Run) -> dict[str, str]:
    """What all seeds of a setting share: what it is, and the options of its methods."""
    methods = "|".join(map(re.escape, seed.data.params["method"].split("+")))
    option = re.compile(rf"(\d+\.)?({methods})\..+")
    return {name: value for name, value in seed.data.params.items() if name in LINE or option.fullmatch(name)}
