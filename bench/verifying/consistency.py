"""Whether a record contradicts itself, or the tables beside it: checks that need no network and no images."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.deploying.runtimes import DEFAULT
from bench.measuring.latency import Speed, Timing, judged
from bench.plugins.registry import methods
from bench.plugins.setting import Pipeline, parse
from bench.records.identity import OPTIONAL, PARTS, fingerprint_of, identity_in
from bench.records.record import ON, Record
from bench.records.store import read_text, reason
from bench.system.errors import BenchError
from bench.system.text import listed, one_line
from bench.trials.results import of_speed
from bench.trials.sources import source_digest
from bench.trials.tables import TIMINGS
from bench.trials.trial import PROTOCOL
from bench.verifying.findings import Finding, Verdict, about, together, written
from bench.verifying.submitted import Submitted

WRITTEN = 2e-5
"""Relative error of figures that are computed from `timings.csv`, which has six digits."""
LARGEST_TABLE = 50_000_000
MOST_ROUNDS = 1000
"""Rounds of a timing that are read, at most: the interval takes memory quadratic in their number."""
REPEATED = {
    "model": "model",
    "dataset": "dataset",
    "seed": "seed",
    "budget_epochs": "epochs",
    "recalibrate": "recalibrate",
    "device": "device",
}
"""Fields that a record's configuration repeats, and their names there."""
LARGEST_TIME = 1e9
COLUMNS = 6
"""Of `timings.csv`."""
NOT_TIMES = ("other_load", "peak_memory_mb")
"""Figures of the speed that the samples do not show."""
INTERVALS = ("latency_speedup", "throughput_speedup")


def check_record(record: Record) -> list[Finding]:
    """Compare the parts of a record with each other."""
    return [
        *_fingerprint(record),
        *_identity(record),
        *_setting(record),
        *_sources(record),
        *together("ratios and differences", _derived(record), Verdict.CONSISTENT),
        *_intervals(record),
    ]


def _fingerprint(record: Record) -> list[Finding]:
    """A record that lacks part of its identity, or is of another protocol, cannot stand beside those of today."""
    identity = identity_in(record.config)
    if missing := [name for name in PARTS if name not in identity and name not in OPTIONAL]:
        note = f"the configuration lacks {listed(missing, 5)}"
        return [Finding("fingerprint", Verdict.DIFFERS, record.fingerprint, note=note)]
    protocol = together("protocol", [("protocol", identity["protocol"], PROTOCOL)], Verdict.CONSISTENT)
    return [
        about("fingerprint", record.fingerprint, fingerprint_of(identity), note="from the configuration"),
        *protocol,
    ]


def _identity(record: Record) -> list[Finding]:
    """The fields that the configuration repeats."""
    config = record.config
    pairs = [(name, getattr(record, name), config[other]) for name, other in REPEATED.items() if other in config]
    runtime = ("runtime", record.runtime or DEFAULT, config.get("runtime", DEFAULT))
    return together("model, dataset, seed, budget", [*pairs, runtime], Verdict.CONSISTENT)


def _setting(record: Record) -> list[Finding]:
    """The name of the setting beside the options in the configuration."""
    stages = record.config.get("stages")
    if stages is None:
        return [Finding("setting", Verdict.UNVERIFIED, record.setting, note="the configuration does not list options")]
    if unknown := [stage["method"] for stage in stages if stage["method"] not in methods()]:
        note = f"the method '{one_line(str(unknown[0]))}' is not installed here"
        return [Finding("setting", Verdict.UNVERIFIED, record.setting, note=note)]
    pipeline = _parsed(record)
    if pipeline is None:
        return [Finding("setting", Verdict.DIFFERS, record.setting, note="not one setting of an installed method")]
    named = f"{pipeline}{ON}{record.runtime}" if record.runtime not in (None, DEFAULT) else str(pipeline)
    options = json.loads(json.dumps(pipeline.options, default=str))
    if options != stages:
        wrong = [f"{name}={value}" for name, value in _flat(stages) if (name, value) not in _flat(options)]
        note = f"the configuration says {one_line(listed(wrong)) or 'otherwise'}"
        return [Finding("setting", Verdict.DIFFERS, record.setting, note=note)]
    pairs = [("setting", record.setting, named), ("method", record.method, pipeline.name)]
    return together("setting", pairs, Verdict.CONSISTENT)


def _parsed(record: Record) -> Pipeline | None:
    try:
        (pipeline,) = parse(record.setting.split(ON)[0], "setting")
    except (BenchError, ValueError):
        return None
    return pipeline


def _flat(stages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [item for stage in stages for item in stage.items()]


def _sources(record: Record) -> list[Finding]:
    pipeline, claimed = _parsed(record), record.config.get("sources")
    if pipeline is None or claimed is None:
        return []
    known = [source_digest(type(stage)) for stage in pipeline.nested]
    note = "" if claimed == known else "the method's code differs from the one installed here"
    verdict = Verdict.UNVERIFIED if note else Verdict.CONSISTENT
    return [Finding("method's code", verdict, " ".join(claimed), " ".join(known), note)]


def _derived(record: Record) -> Iterator[tuple[str, Any, Any]]:
    """Figures that follow from two others of the record."""
    for name, dense, ours in (
        ("compression_ratio", "dense_bytes", "artifact_bytes"),
        ("compressed_ratio", "dense_bytes", "artifact_compressed_bytes"),
        ("macs_ratio", "macs_dense", "macs"),
        ("macs_full_ratio", "macs_dense", "macs_full"),
    ):
        above, below = getattr(record, dense), getattr(record, ours)
        if above is not None and below is not None:
            yield name, getattr(record, name), above / below if below else None
    if record.top1 is not None and record.top1_dense is not None:
        yield "top1_drop", record.top1_drop, record.top1_dense - record.top1


def _intervals(record: Record) -> list[Finding]:
    outside = []
    for name in INTERVALS:
        value, low, high = (getattr(record, f"{name}{end}") for end in ("", "_low", "_high"))
        if None not in (value, low, high) and not low <= value <= high:
            note = "the value lies outside its interval"
            outside.append(Finding(name, Verdict.DIFFERS, written(value), f"{low:.6g} to {high:.6g}", note))
    return outside or [Finding("intervals", Verdict.CONSISTENT, note="each contains its value")]


def check_timings(trial: Submitted, is_dense: bool) -> list[Finding]:
    """Compare the latencies with the raw samples beside the record, which are the submitter's own."""
    path = trial.path(TIMINGS)
    if path is None:
        return []
    try:
        speed = Speed(*_timings(read_text(path, LARGEST_TABLE)), None)
    except (OSError, ValueError, csv.Error) as error:
        return [Finding(TIMINGS, Verdict.DIFFERS, note=f"not the samples of two batch sizes ({reason(error)})")]
    figures = of_speed(speed.as_dense() if is_dense else speed)
    pairs = [
        (name, claimed, claimed if _follows(name, claimed, value) else value)
        for name, value in figures.items()
        if name not in NOT_TIMES and (claimed := getattr(trial.record, name)) is not None
    ]
    return together("latency and throughput", pairs, Verdict.CONSISTENT, note=f"from {TIMINGS}")


def _timings(text: str) -> tuple[Timing, Timing]:
    """The timing of one image, and of a batch. A new batch begins where the number of the round is 1."""
    rows = [[float(cell) for cell in row] for row in list(csv.reader(io.StringIO(text)))[1:]]
    if any(len(row) != COLUMNS or not all(0 < value < LARGEST_TIME for value in row) for row in rows):
        raise ValueError(f"a line that is not {COLUMNS} numbers above 0")
    starts = [index for index, row in enumerate(rows) if row[1] == 1]
    if len(starts) != 2 or starts[0] != 0 or len(rows) > 2 * MOST_ROUNDS:
        raise ValueError(f"{len(starts)} batch sizes in {len(rows)} lines")
    one, many = (judged(int(part[0][0]), np.array(part)[:, 2:], 0.0) for part in (rows[: starts[1]], rows[starts[1] :]))
    return one, many


def _follows(name: str, claimed: Any, value: Any) -> bool:
    """Whether a claimed figure is that of the samples. Noise may also have a cause that these do not show."""
    if name.endswith("_noisy"):
        return bool(claimed or not value)
    if isinstance(claimed, float):
        return math.isclose(claimed, value, rel_tol=WRITTEN)
    return bool(claimed == value)
