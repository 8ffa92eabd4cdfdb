"""From records to a ranked board: one row per setting and budget, as a mean over its seeds. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.leaderboard.grouping import (
    DENSE,
    LINE,
    TASK,
    TIMED,
    TORCH,
    families,
    in_torch,
    last_measured,
    main_devices,
    one_per_trial,
    protocols,
)
from bench.leaderboard.ranks import rank_intervals
from bench.leaderboard.timing import as_defined, half_widths, proven, spreads, without_noise
from bench.records.index import records_below
from bench.records.record import FIGURES, LARGEST_RECORD, NUMBERS, RULES, Record
from bench.records.store import RECORD, read_record, read_text, reason
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

METRICS = list(FIGURES)
ELSEWHERE = "latency_speedup on "
"""The beginning of a column's name that holds the speed-up on a device other than its task's main one."""
LARGEST_LIST = 50 * LARGEST_RECORD
DIGITS = 9
"""Digits of the figures that are compared, so that the mean of equal figures is equal to them."""
FRONTS = {"compression_ratio": "pareto", "macs_ratio": "pareto_macs", "latency_speedup": "pareto_latency"}
"""The gains, each with the column that says whether a setting is on the Pareto front of top-1 and this gain."""


def load_records(*paths: Path | str) -> DataFrame:
    """One row per record, columns as in `Record`; of records with the same fingerprint, the last measured.

    A path is a store, a folder of records, or a file: JSON (one record or a list) or JSONL. BenchError if there is
    nothing to read, or at the first file that is not a record: a board without it would be wrong without saying so.
    The message names the file.
    """
    latest: dict[str, Record] = {}
    for path in paths:
        for record in _read(Path(path)):
            known = latest.setdefault(record.fingerprint, record)
            if record.started_at > known.started_at:
                latest[record.fingerprint] = record
    return frame_of(latest.values())


def frame_of(records: Iterable[Record]) -> DataFrame:
    """One row per record, columns as in `Record`."""
    import pandas

    frame = pandas.DataFrame([vars(record) for record in records], columns=list(RULES))
    # pandas would give an empty column no number type, and a column of integers with gaps a float type.
    return frame.astype({name: "Int64" if kind is int else "float64" for name, kind in NUMBERS.items()})


def records_folder(path: Path) -> Path:
    """The folder that holds the records' folders: in a store, or the path itself."""
    return path / "records" if (path / "records").is_dir() else path


def _read(path: Path) -> Iterator[Record]:
    if path.is_dir():
        folder = records_folder(path)
        yield from records_below(folder)
        for file in sorted(folder.glob("*.json")) + sorted(folder.glob("*.jsonl")):
            yield from _read_file(file)
    elif path.is_file():
        yield from _read_file(path)
    else:
        raise BenchError(f"{path}: no such store or file of records; `bench run` makes one")


def _read_file(path: Path) -> Iterator[Record]:
    if path.name == RECORD:
        yield read_record(path)
        return
    try:
        text = read_text(path, LARGEST_LIST)
        yield from _lines(text) if path.suffix == ".jsonl" else _list(text)
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(
            f"{path}: not records ({reason(error)}); expected a store, or what `bench run` wrote, as JSON or JSON lines"
        ) from error


def _list(text: str) -> Iterator[Record]:
    content = json.loads(text)
    for item in content if isinstance(content, list) else [content]:
        yield Record.from_content(item)


def _lines(text: str) -> Iterator[Record]:
    """Only a newline ends a line: JSON may hold the other characters that `splitlines` cuts at."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield Record.from_json(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def summarise(records: DataFrame, store: Path | str | None = None) -> DataFrame:
    """One row per task, setting and budget: means over the seeds that succeeded. Dense first, then by top-1.

    Accuracy, size and MACs do not depend on the machine. The figures in `TIMED` are from `device`, the device with most
    of the task's records; `latency_speedup on DEVICE` has the speed-up on each other device.

    `top1_ci95` is the half width of the 95% confidence interval of the mean over seeds (Student's t), null for a single
    seed. `latency_speedup_ci95` and `throughput_speedup_ci95` also count the noise within trials: see `spreads`. Noisy
    timings count only if a setting has no others; `latency_noisy` then says so.

    `pareto`: no other setting of the task is at least as good in both top-1 and compression ratio, and better in one.
    `pareto_macs` and `pareto_latency` are the same for MACs and latency (see `certain`). `front`: on one of the three.
    `rank_low` and `rank_high` bound the rank by top-1 within the task: settings that cannot be told apart on the same
    test images share ranks. They are null if `store`, from which the records came, keeps no predictions.
    `family` is the setting without the option that sets its strength. A setting that was timed in several `runtime`s
    has a row for each; rows of runtimes other than torch are on no front and have no rank.
    `failed` counts the seeds without figures, and `error` gives the reasons. `protocol` and `recalibrate` say how the
    setting was measured; a task has one value of each.
    """
    records = last_measured(records)
    main = main_devices(records)
    trials = one_per_trial(records)
    summary = _lines_of_board(trials, main)
    summary = summary.join(rank_intervals(trials, None if store is None else records_folder(Path(store))))
    summary = summary.join(_figures(trials)).join(_timings(records[records["device"] == main]))
    summary = summary[[name for name in summary if name not in METRICS] + METRICS]
    summary = summary.join(_latencies_elsewhere(records[records["device"] != main]))
    summary["error"] = trials[trials["status"] != "ok"].groupby(LINE)["error"].agg(_join_reasons)
    summary["worst_class"] = summary["worst_class"].astype("object").where(summary["worst_class"].notna(), None)
    summary = as_defined(summary.reset_index(), DENSE)
    for _, task in in_torch(summary).groupby(TASK):
        for gain, front in FRONTS.items():
            figures = task["top1"].round(DIGITS), certain(task, gain).round(DIGITS)
            summary.loc[task.index, front] = pareto_front(*figures)
    summary["front"] = summary[list(FRONTS.values())].any(axis=1)
    return _ranked(summary)


def _lines_of_board(trials: DataFrame, main: Series[str]) -> DataFrame:
    """One row per setting and budget: its device, how it was measured, its family, and its numbers of seeds."""
    trials = trials.assign(
        device=main,
        protocol=protocols(trials),
        recalibrate=trials["recalibrate"].eq(True),
        family=families(trials),
        runtime=trials["runtime"].astype("object").fillna(TORCH).astype("str"),
    )
    is_ok = trials["status"] == "ok"
    lines = trials.groupby(LINE)[["device", "protocol", "recalibrate", "family", "runtime"]].last()
    for name, counted in (("seeds", is_ok), ("failed", ~is_ok)):
        lines[name] = trials[counted].groupby(LINE).size()
    lines = lines.fillna({"seeds": 0, "failed": 0}).astype({"seeds": "int64", "failed": "int64"})
    lines[[*FRONTS.values(), "front"]] = False
    return lines


def _figures(trials: DataFrame) -> DataFrame:
    """Means of the figures that do not depend on the device, by row of the board."""
    untimed = [name for name in METRICS if name not in TIMED]
    measured = _measured(trials, untimed).groupby(LINE)
    figures = measured[untimed].mean()
    figures["top1_ci95"] = half_widths(measured["top1"].count(), measured["top1"].sem())
    figures["worst_class"] = _most_frequent(trials[trials["status"] == "ok"], "worst_class")
    return figures


def _timings(records: DataFrame) -> DataFrame:
    """Means of the figures in `TIMED`, with their intervals, by row of the board. A task has one device here."""
    timed = without_noise(_measured(records, TIMED), LINE)
    return spreads(timed, LINE).join(timed.groupby(LINE)[TIMED].mean())


def _measured(records: DataFrame, names: list[str]) -> DataFrame:
    """The records that succeeded, with the named figures as floats."""
    return records[records["status"] == "ok"].astype(dict.fromkeys(names, "float64"))


def _latencies_elsewhere(records: DataFrame) -> DataFrame:
    """The latencies on devices other than a task's main one: a column per device, by row of the board."""
    figures = records[records["status"] == "ok"].astype({"latency_speedup": "float64"})
    return figures.groupby([*LINE, "device"])["latency_speedup"].mean().unstack("device").add_prefix(ELSEWHERE)


def certain(rows: DataFrame, gain: str) -> Series[float]:
    """The gain that counts for a front or a rank; for latency without noise (see `proven`)."""
    return proven(rows) if gain == "latency_speedup" else rows[gain]


def _most_frequent(records: DataFrame, name: str) -> Series[str]:
    """The most frequent value of a column, of equal ones the first, by row of the board; absent where there is none."""
    counts = records.dropna(subset=name).groupby([*LINE, name], sort=False).size()
    frequent = counts.sort_values(ascending=False, kind="stable").reset_index(name="count")
    return frequent.drop_duplicates(LINE).set_index(LINE)[name]


def _join_reasons(errors: Series[str]) -> str:
    return "; ".join(dict.fromkeys(" ".join(error.split()) for error in errors.dropna()))


def _ranked(summary: DataFrame) -> DataFrame:
    order = summary.assign(_compressed=summary["method"] != DENSE)
    keys = [*TASK, "_compressed", "top1", "compression_ratio", "setting", "budget_epochs"]
    ascending = [True] * (len(TASK) + 1) + [False, False, True, True]
    return order.sort_values(keys, ascending=ascending, ignore_index=True).drop(columns="_compressed")


def pareto_front(accuracy: Series[float], ratio: Series[float]) -> Series[bool]:
    """Whether no other row is at least as good in both figures (higher is better) and better in one.

    A row that lacks a figure is not on the front.
    """
    best = ratio.groupby(accuracy).max().dropna().sort_index(ascending=False)
    front = best[best > best.cummax().shift(fill_value=-math.inf)]
    return accuracy.map(front) == ratio
