"""From records to a ranked board: one row a setting, averaged over its seeds. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import BenchError
from bench.record import Record
from bench.store import RECORD, read_record

if TYPE_CHECKING:
    from pandas import DataFrame, Series
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

TASK = ["model", "dataset", "weights", "device", "budget_epochs"]
"""What two settings must share to be ranked together."""

METRICS = [
    item.name
    for item in fields(Record)
    if str(item.type) in ("float | None", "int | None") and item.name not in ("seed", "budget_epochs")
]
NESTED = ["versions", "config", "notes"]
DENSE = "none"
"""The setting that leaves the network as it is."""


def load_records(*paths: Path | str) -> DataFrame:
    """One row a record, columns as in `Record`; of records with the same fingerprint, the last measured.

    A path is a store, a folder of records, or a file: JSON (one record or a list) or JSONL. BenchError where there is
    nothing to read, or something that is no record.
    """
    import pandas

    latest: dict[str, Record] = {}
    for path in paths:
        for record in _read(Path(path)):
            known = latest.setdefault(record.fingerprint, record)
            if record.started_at > known.started_at:
                latest[record.fingerprint] = record
    frame = pandas.DataFrame([asdict(record) for record in latest.values()], columns=[f.name for f in fields(Record)])
    # A column in which nothing was measured would otherwise be of no type, and one with a gap not of integers.
    types = {"int": "Int64", "int | None": "Int64", "float": "float64", "float | None": "float64"}
    return frame.astype({f.name: types[str(f.type)] for f in fields(Record) if str(f.type) in types})


def _read(path: Path) -> Iterator[Record]:
    if path.is_dir():
        folder = path / "records" if (path / "records").is_dir() else path
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
        text = path.read_text(encoding="utf-8")
        for item in _parse(text, lines=path.suffix == ".jsonl"):
            yield Record.from_json(json.dumps(item))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: not records ({str(error).splitlines()[0]})") from error


def _parse(text: str, lines: bool) -> list[Any]:
    if lines:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    content = json.loads(text)
    return content if isinstance(content, list) else [content]


def summarise(records: DataFrame) -> DataFrame:
    """One row a task and setting: the mean of every metric over the seeds that succeeded, dense first, best top-1 next.

    `top1_ci95` is the half width of the 95% confidence interval of the mean over seeds (Student's t), null where there
    is one seed. Of a trial that was measured again in another way (its method was edited, say) the last record counts.
    `pareto`: no other setting of the task is at least as good in both top-1 and compression ratio, and better in one.
    `failed` counts the seeds without figures, and `error` tells their reasons.
    """
    keys = [*TASK, "method", "setting"]
    records = records.sort_values("started_at").drop_duplicates([*keys, "seed"], keep="last")
    is_ok = records["status"] == "ok"
    measured = records[is_ok].astype(dict.fromkeys(METRICS, "float64")).groupby(keys)
    failed = records[~is_ok].groupby(keys)
    summary = records.groupby(keys)[[]].sum()
    summary["seeds"] = measured.size()
    summary["failed"] = failed.size()
    summary = summary.fillna(0).astype("int64")
    summary["pareto"] = False
    summary["top1_ci95"] = measured["top1"].agg(confidence_interval)
    summary = summary.join(measured[METRICS].mean())
    summary["error"] = failed["error"].agg(_join_reasons)
    summary = summary.reset_index()
    for _, task in summary.groupby(TASK):
        summary.loc[task.index, "pareto"] = pareto_front(task["top1"], task["compression_ratio"])
    return _ranked(summary)


def _join_reasons(errors: Series[str]) -> str:
    return "; ".join(dict.fromkeys(" ".join(error.split()) for error in errors.dropna()))


def _ranked(summary: DataFrame) -> DataFrame:
    order = summary.assign(_compressed=summary["setting"] != DENSE)
    keys = [*TASK, "_compressed", "top1", "compression_ratio", "setting"]
    ascending = [True] * (len(TASK) + 1) + [False, False, True]
    return order.sort_values(keys, ascending=ascending, ignore_index=True).drop(columns="_compressed")


def confidence_interval(values: Iterable[float]) -> float:
    """Half width of the 95% interval of the mean (Student's t); NaN for fewer than two values, NaN among them aside."""
    sample = [value for value in values if not math.isnan(value)]
    if len(sample) < 2:
        return math.nan
    from scipy.special import stdtrit  # Student's t quantile; quicker to import than scipy.stats

    return float(stdtrit(len(sample) - 1, 0.975)) * stdev(sample) / math.sqrt(len(sample))


def pareto_front(accuracy: Series[float], ratio: Series[float]) -> Series[bool]:
    """Whether no other row is at least as good in both figures (higher is better) and better in one.

    A row that lacks a figure is not on the front.
    """
    best = ratio.groupby(accuracy).max().dropna().sort_index(ascending=False)
    front = best[best > best.cummax().shift(fill_value=-math.inf)]
    return accuracy.map(front) == ratio


@dataclass(frozen=True)
class Column:
    """A column for people: its header, and how it writes a row of the summary."""

    header: str
    write: Callable[[Series[Any]], str]
    numeric: bool = True
    minor: bool = False
    """Left out where the terminal is narrow."""


def _figure(name: str, pattern: str, scale: float = 1) -> Callable[[Series[Any]], str]:
    return lambda row: "–" if math.isnan(row[name]) else pattern.format(row[name] * scale)


def _write_top1(row: Series[Any]) -> str:
    interval = "" if math.isnan(row["top1_ci95"]) else f" ±{100 * row['top1_ci95']:.2f}"
    return _figure("top1", "{:.2f}", 100)(row) + interval


COLUMNS = [
    Column("", lambda row: "●" if row["pareto"] else "", numeric=False),
    Column("setting", lambda row: "dense" if row["setting"] == DENSE else row["setting"], numeric=False),
    Column("top-1 %", _write_top1),
    Column("drop", _figure("top1_drop", "{:.2f}", 100)),
    Column("size", _figure("compression_ratio", "{:.2f}×")),
    Column("MACs", _figure("macs_ratio", "{:.2f}×")),
    Column("latency", _figure("latency_speedup", "{:.2f}×")),
    Column("images/s", _figure("throughput_speedup", "{:.2f}×"), minor=True),
    Column("epochs", _figure("epochs_spent", "{:.4g}"), minor=True),
    Column("seeds", lambda row: str(row["seeds"])),
]
LEGEND = (
    "● on the Pareto front of top-1 and size. drop: points of top-1 lost. size, MACs, latency, images/s: gain over "
    "dense, so 2× is half the file or twice as fast. ±: 95% interval over seeds. –: not measured."
)
WIDTH = 96
"""Characters that all columns need beside a setting of one line."""
EMPTY = "No records yet: `bench run` makes some."


def render_terminal(summary: DataFrame) -> RenderableType:
    """A table a task, the failures below each; it fits 100 columns, and in 80 leaves out the minor ones."""
    from rich.text import Text

    return Text(EMPTY) if summary.empty else _Boards(summary)


@dataclass(frozen=True)
class _Boards:
    summary: DataFrame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        columns = [column for column in COLUMNS if options.max_width >= WIDTH or not column.minor]
        for title, measured, failures in _boards(self.summary):
            yield Text(title, style="bold")
            if len(measured):
                yield _table(measured, columns)
            yield from (Text(f"failed: {line}", style="red") for line in failures)
            yield ""
        yield Text(LEGEND, style="dim")


def _table(measured: DataFrame, columns: list[Column]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        folds = column.header == "setting"
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(column.header, justify=justify, overflow="fold", no_wrap=not folds)
    for _, row in measured.iterrows():
        # Between the stages of a pipeline is where a long setting breaks best.
        cells = [column.write(row).replace(")+", ")\n+") for column in columns]
        table.add_row(*cells, end_section=row["setting"] == DENSE)
    return table


def _boards(summary: DataFrame) -> Iterator[tuple[str, DataFrame, list[str]]]:
    """Of each task its title, the rows with figures and a line a failure."""
    for (model, dataset, weights, device, budget), rows in summary.groupby(TASK, sort=False):
        title = (
            f"{model} on {dataset}, weights {weights}, budget {budget:g} epoch{'' if budget == 1 else 's'}, {device}"
        )
        failures = [
            f"{row['setting']}, {row['failed']} of {row['failed'] + row['seeds']} seeds: {row['error']}"
            for _, row in rows[rows["failed"] > 0].iterrows()
        ]
        yield title, rows[rows["seeds"] > 0], failures


def to_markdown(summary: DataFrame) -> str:
    """The terminal's board as GitHub's Markdown."""
    if summary.empty:
        return EMPTY + "\n"
    parts = []
    for title, measured, failures in _boards(summary):
        lines = [f"**{title}**"]
        if len(measured):
            lines += ["", _markdown_row(column.header for column in COLUMNS)]
            lines += ["|" + "|".join(" ---: " if column.numeric else " --- " for column in COLUMNS) + "|"]
            lines += [_markdown_row(column.write(row) for column in COLUMNS) for _, row in measured.iterrows()]
        if failures:
            lines += ["", *(f"- failed: {line}" for line in failures)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, LEGEND]) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def to_csv(frame: DataFrame) -> str:
    """Records or a summary: plain numbers, nothing where there was no measurement; nested fields are left out."""
    return frame.drop(columns=NESTED, errors="ignore").to_csv(index=False, float_format="%.10g", lineterminator="\n")


def to_json(frame: DataFrame) -> str:
    """Records or a summary as a list of objects, with null where there was no measurement."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """As JSON knows it; 10 digits, so that an average does not end in the noise of its last bit."""
    import pandas

    if isinstance(value, (dict, list)):
        return value
    if value is None or pandas.isna(value):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else float(f"{value:.10g}")
    return value
