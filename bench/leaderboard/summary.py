"""From records to a ranked board: one row a setting, averaged over its seeds. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench.leaderboard.timing import as_defined, half_widths, proven, spreads, without_noise
from bench.records.record import FIGURES, LARGEST_RECORD, NUMBERS, RULES, Record
from bench.records.store import RECORD, read_record, read_text, reason
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

TASK = ["model", "dataset", "weights", "device", "budget_epochs"]
"""What two settings must share to be ranked together."""

ATTACK = ["attack_images", "attack_distance"]
ROBUSTNESS = [*ATTACK, "clean_top1", "robust_top1", "attack_success_rate", "prediction_change_rate"]

METRICS = list(FIGURES)
LARGEST_LIST = 50 * LARGEST_RECORD
DENSE = "none"
"""The setting that leaves the network as it is."""
DIGITS = 9
"""Of figures that are compared: a mean of equal ones is equal to them."""
FRONTS = {"compression_ratio": "pareto", "macs_ratio": "pareto_macs", "latency_speedup": "pareto_latency"}
"""What is gained for top-1, and the column that says whether a setting is on the front of the two."""


def load_records(*paths: Path | str) -> DataFrame:
    """One row a record, columns as in `Record`; of records with the same fingerprint, the last measured.

    A path is a store, a folder of records, or a file: JSON (one record or a list) or JSONL. BenchError where there is
    nothing to read, or at the first file that is not a record: a board that left it out would be wrong without saying
    so. The message names the file.
    """
    import pandas

    latest: dict[str, Record] = {}
    for path in paths:
        for record in _read(Path(path)):
            known = latest.setdefault(record.fingerprint, record)
            if record.started_at > known.started_at:
                latest[record.fingerprint] = record
    frame = pandas.DataFrame([vars(record) for record in latest.values()], columns=list(RULES))
    # pandas would give a column of nothing but gaps no number type, and a column of integers with gaps a float type.
    return frame.astype({name: "Int64" if kind is int else "float64" for name, kind in NUMBERS.items()})


def records_folder(path: Path) -> Path:
    """Where the folders of records lie in a store, or in a bare folder of them."""
    return path / "records" if (path / "records").is_dir() else path


def _read(path: Path) -> Iterator[Record]:
    if path.is_dir():
        folder = records_folder(path)
        files = sorted(folder.glob(f"*/{RECORD}")) + sorted(folder.glob("*.json")) + sorted(folder.glob("*.jsonl"))
        for file in files:
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


def told_apart(records: DataFrame) -> DataFrame:
    """With part of a digest in the name of a dataset, or of weights, where one name stands for several.

    As where a baseline was trained anew under the same name: figures from the two do not rank together.
    """
    records = records.copy()
    for name, within in (("dataset", []), ("weights", ["model", "dataset"])):
        digests = records["config"].map(lambda config, of=f"{name}_digest": config.get(of)).astype("object")
        kinds = digests.groupby([records[key] for key in (*within, name)]).transform("nunique")
        several = (kinds > 1) & digests.notna()
        records.loc[several, name] += " (" + digests[several].str[:6] + ")"
    return records


def last_measured(records: DataFrame) -> DataFrame:
    """Of a trial that was measured again in another way (its method was edited, say) only the last record.

    Seeds of a setting that an earlier version of its method gave, or another protocol, are left out too, so that a mean
    is of one method.
    Its figures of robustness are those of the last record that was attacked as the task's last attack was, so that a
    run without an attack hides none, and attacks of another kind are not mixed.
    """
    keys = [*TASK, "method", "setting", "seed"]
    ordered = told_apart(records).sort_values("started_at")
    last = ordered.drop_duplicates(keys, keep="last").copy()
    sources = last["config"].map(lambda config: f"{config.get('protocol')} {config.get('sources')}")
    last = last[sources == sources.groupby([last[key] for key in keys[:-1]]).transform("last")].copy()
    attacked = ordered[ordered["attack_images"].notna()]
    kinds = attacked.drop_duplicates(TASK, keep="last")[[*TASK, *ATTACK]]
    alike = attacked.merge(kinds, on=[*TASK, *ATTACK]).drop_duplicates(keys, keep="last")
    found = last[keys].merge(alike[[*keys, *ROBUSTNESS]], on=keys, how="left").set_index(last.index)
    last[ROBUSTNESS] = found[ROBUSTNESS]
    return last


def summarise(records: DataFrame) -> DataFrame:
    """One row a task and setting: the mean of every metric over the seeds that succeeded, dense first, best top-1 next.

    `top1_ci95` is the half width of the 95% confidence interval of the mean over seeds (Student's t), null where there
    is one seed. `latency_speedup_ci95` and `throughput_speedup_ci95` count the noise within trials too: see `spreads`.
    Noisy timings count only where a setting has no others, and then `latency_noisy` says so.

    `pareto`: no other setting of the task is at least as good in both top-1 and compression ratio, and better in one;
    `pareto_macs` and `pareto_latency` likewise (see `certain`). `failed` counts the seeds without figures, and `error`
    tells their reasons.
    """
    keys = [*TASK, "method", "setting"]
    records = last_measured(records)
    is_ok = records["status"] == "ok"
    succeeded = without_noise(records[is_ok].astype(dict.fromkeys(METRICS, "float64")), keys)
    measured = succeeded.groupby(keys)
    failed = records[~is_ok].groupby(keys)
    summary = records.groupby(keys)[[]].sum()
    summary["seeds"] = measured.size()
    summary["failed"] = failed.size()
    summary = summary.fillna(0).astype("int64")
    summary[list(FRONTS.values())] = False
    summary["top1_ci95"] = half_widths(measured["top1"].count(), measured["top1"].sem())
    summary = summary.join(spreads(succeeded, keys)).join(measured[METRICS].mean())
    summary["error"] = failed["error"].agg(_join_reasons)
    summary = as_defined(summary.reset_index(), DENSE)
    for _, task in summary.groupby(TASK):
        for gain, front in FRONTS.items():
            figures = task["top1"].round(DIGITS), certain(task, gain).round(DIGITS)
            summary.loc[task.index, front] = pareto_front(*figures)
    return _ranked(summary)


def best(summary: DataFrame) -> DataFrame:
    """Of a summary the dense networks, and what is on a Pareto front: of top-1 and size, MACs or latency."""
    on_front = summary[list(FRONTS.values())].any(axis=1)
    return summary[on_front | (summary["setting"] == DENSE)].reset_index(drop=True)


def certain(rows: DataFrame, gain: str) -> Series[float]:
    """The gain, for a front or a rank; of latency only what is no noise (see `proven`)."""
    return proven(rows) if gain == "latency_speedup" else rows[gain]


def _join_reasons(errors: Series[str]) -> str:
    return "; ".join(dict.fromkeys(" ".join(error.split()) for error in errors.dropna()))


def _ranked(summary: DataFrame) -> DataFrame:
    order = summary.assign(_compressed=summary["setting"] != DENSE)
    keys = [*TASK, "_compressed", "top1", "compression_ratio", "setting"]
    ascending = [True] * (len(TASK) + 1) + [False, False, True]
    return order.sort_values(keys, ascending=ascending, ignore_index=True).drop(columns="_compressed")


def pareto_front(accuracy: Series[float], ratio: Series[float]) -> Series[bool]:
    """Whether no other row is at least as good in both figures (higher is better) and better in one.

    A row that lacks a figure is not on the front.
    """
    best = ratio.groupby(accuracy).max().dropna().sort_index(ascending=False)
    front = best[best > best.cummax().shift(fill_value=-math.inf)]
    return accuracy.map(front) == ratio
