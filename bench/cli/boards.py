"""The commands that read records: `bench leaderboard`, `bench compare` and `bench check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import completing
from bench.cli.options import DEFAULT_STORE, Format, Store, at_least, needed, path
from bench.cli.streams import tell, write
from bench.cli.usage_errors import FAILED
from bench.system.errors import BadArgument
from bench.system.files import check_place, write_atomically
from bench.system.text import counted, encoded

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.leaderboard.answer import Answer
    from bench.leaderboard.operating_points import Table
    from bench.leaderboard.question import Question


Minima = Annotated[
    list[str] | None,
    typer.Option(
        "--min",
        help="Only settings with at least this value of a column, in the board's unit: 'size=4,top1=93'. Names are "
        "top1, rank, drop, worst-class, size, compressed (zstd), macs, latency, images/s, robust, fooled, budget, "
        "epochs and seeds, where the board has them. May be given several times.",
    ),
]
Maxima = Annotated[
    list[str] | None, typer.Option("--max", help="Only settings with at most this value, as in 'drop=1'.")
]
Sort = Annotated[str | None, typer.Option(help="Best first by one of these columns, within each task.")]
OnlyMethods = Annotated[
    list[str] | None,
    typer.Option(
        help="Only these methods, separated by commas, with every setting and pipeline of theirs; or settings, as in "
        "'tic(k=64)'.",
        autocompletion=completing.methods,
    ),
]
OnlyModels = Annotated[
    list[str] | None,
    typer.Option(help="Only these networks, separated by commas.", autocompletion=completing.models),
]
OnlyDatasets = Annotated[
    list[str] | None,
    typer.Option(help="Only these datasets, separated by commas.", autocompletion=completing.datasets),
]
OnFront = Annotated[
    bool, typer.Option("--front", help="Only settings with a dot: on a front of top-1 and size, MACs or latency.")
]
Form = Annotated[Format, typer.Option(help="Parquet, html, png and pdf (a page to print) need --out.")]


def leaderboard(
    store: Store = DEFAULT_STORE,
    format: Form = Format.table,
    out: Annotated[Path | None, typer.Option(parser=path, help="File to write, or folder for html.")] = None,
    minima: Minima = None,
    maxima: Maxima = None,
    sort: Sort = None,
    method: OnlyMethods = None,
    model: OnlyModels = None,
    dataset: OnlyDatasets = None,
    front: OnFront = False,
) -> None:
    """Print the board of all records in a store, or write it to a file.

    The board begins with tables of the methods at equal size, at equal compressed size and at equal MACs; conditions
    leave these out. Ranks and dots stay those of all settings. With --format html, the page opens with the conditions.
    """
    if out is not None:
        check_place(out, "out", folder=format == Format.html)
    from bench.leaderboard.answer import answer
    from bench.leaderboard.operating_points import tables_of, with_leaders
    from bench.leaderboard.question import of_tasks
    from bench.leaderboard.summary import summarise

    question = question_of(minima, maxima, method, model, dataset, front, sort)
    records = results(store, question)
    summary = summarise(records, store)
    answered = answer(summary, question)
    if format == Format.html:
        write_page(records, summary, question, needed(out, format), store)
        return
    if answered.noise and format not in (Format.table, Format.md):
        tell(answered.noise)
    if format in (Format.parquet, Format.png, Format.pdf):
        write_atomically(needed(out, format), picture_or_parquet(summary, answered, format))
    elif format in (Format.csv, Format.json):
        put(data(answered, format), out)
    else:
        board = of_tasks(summary, question)
        show(board, [] if answered.narrowed else with_leaders(tables_of(board), records, store), answered, format, out)


def question_of(
    minima: list[str] | None,
    maxima: list[str] | None,
    method: list[str] | None,
    model: list[str] | None,
    dataset: list[str] | None,
    front: bool,
    sort: str | None = None,
) -> Question:
    """The question that the options ask."""
    from bench.leaderboard.question import Question

    of = {"method": method or (), "model": model or (), "dataset": dataset or ()}
    return Question(min=minima or (), max=maxima or (), sort=sort, front=front, **of)


def results(store: Path, question: Question) -> DataFrame:
    """The records of a store; a line says which trials of searches are not among them."""
    from bench.leaderboard.grouping import without_searches
    from bench.leaderboard.summary import load_records

    records = load_records(store)
    kept = without_searches(records, question.dataset)
    if left_out := len(records) - len(kept):
        named = ",".join(sorted(set(records["dataset"]) - set(kept["dataset"])))
        tell(f"{counted(left_out, 'trial', 'trials')} of searches not shown; --dataset {named} shows them")
    return kept


def write_page(records: DataFrame, summary: DataFrame, question: Question, out: Path, store: Path) -> None:
    """Write the page of the whole board, and say how it opens with the question asked."""
    from bench.leaderboard.address import fragment
    from bench.leaderboard.page import write_html

    asked = "" if summary.empty else fragment(summary, question)
    write_html(records, out, store, summary)
    index = out / "index.html"
    tell(f"open {f'{index.resolve().as_uri()}#{asked}' if asked else index}")


def picture_or_parquet(summary: DataFrame, answered: Answer, format: Format) -> bytes:
    """The board in one of the binary formats."""
    if format in (Format.png, Format.pdf):
        from bench.leaderboard.chart import draw

        return draw(summary, answered, format)
    from bench.leaderboard.exports import to_parquet

    return to_parquet(answered.rows)


def data(answered: Answer, format: Format) -> str:
    """The rows asked for, as CSV or JSON."""
    from bench.leaderboard import exports

    return (exports.to_csv if format == Format.csv else exports.to_json)(answered.rows)


def show(summary: DataFrame, points: list[Table], answered: Answer, format: Format, out: Path | None) -> None:
    """The board as people read it; `points` are its tables at equal size and MACs."""
    from bench.leaderboard import board

    if format == Format.table and out is None:
        print_board(summary, points, answered)
    else:
        put((board.to_text if format == Format.table else board.to_markdown)(summary, points, answered), out)


def put(text: str, out: Path | None) -> None:
    """Text for a file, or for standard output."""
    if out is None:
        write(text)
    else:
        write_atomically(out, encoded(text))


def print_board(summary: DataFrame, points: list[Table], answered: Answer | None = None) -> None:
    """Print the board, laid out for the terminal."""
    from bench.leaderboard.board import render_terminal
    from bench.system.terminal import output

    output().print(render_terminal(summary, points, answered))


def compare(
    first: Annotated[str, typer.Argument(help="A setting as in `bench run`, or the fingerprint of a record.")],
    second: Annotated[str, typer.Argument(help="What to compare it with.")],
    store: Store = DEFAULT_STORE,
    model: Annotated[str | None, typer.Option(help="Only records of this network.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only records of this dataset.")] = None,
    weights: Annotated[str | None, typer.Option(help="Only records of these weights.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Only records of this budget.")] = None,
    recalibrate: Annotated[
        bool | None,
        typer.Option(
            "--recalibrate/--no-recalibrate",
            help="Only records with re-estimated batch-norm statistics, or only those without (default: with, where "
            "the store has both).",
        ),
    ] = None,
) -> None:
    """Say whether one setting is better than another, paired on the same test images over all seeds."""
    from bench.leaderboard import compare as comparing
    from bench.leaderboard.comparison_text import render_comparison
    from bench.system.terminal import output

    chosen: Any = {"model": model, "dataset": dataset, "weights": weights, "epochs": epochs}
    comparison = comparing.compare(first, second, store, **chosen, recalibrate=recalibrate)
    output().print(render_comparison(comparison))


def check(
    baseline: Annotated[
        Path, typer.Argument(help="A JSON file written by --update, such as results/ci-baseline.json.")
    ],
    store: Store = DEFAULT_STORE,
    tolerance: Annotated[float, typer.Option(help="Percentage points of top-1 that may be lost.")] = 0.5,
    slowdown: Annotated[float, typer.Option(help="Percentage of the speed-up that may be lost.")] = 10,
    exact: Annotated[bool, typer.Option(help="Fail if outputs differ although only the code has changed.")] = True,
    update: Annotated[bool, typer.Option("--update", help="Make the store's records the baseline.")] = False,
    markdown: Annotated[
        Path | None, typer.Option(parser=path, help="Also write the report as Markdown, for a pull request.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(parser=path, help="Also write the report as JUnit XML.")] = None,
) -> None:
    """Compare a store's records with a committed baseline; exit code 1 if something got worse."""
    at_least("--tolerance", tolerance, 0, 100)
    at_least("--slowdown", slowdown, 0)
    check_reports(baseline, markdown, junit)
    from bench.gate import check as gate
    from bench.gate import report as written
    from bench.gate.verdict import Limits
    from bench.system.terminal import output

    judge = gate.update if update else gate.check
    report = judge(baseline, store, Limits(tolerance / 100, slowdown / 100, exact))
    if report is not None:
        output().print(written.render_terminal(report))
        written.write(report, baseline, store, markdown=markdown, junit=junit)
    if update:
        tell(f"{baseline}: written from the records of {store}; commit it")
    elif report is not None and (advice := written.advice(report, baseline, store)):
        tell(advice)
    if report is not None and report.failed and not update:
        raise typer.Exit(FAILED)


def check_reports(baseline: Path, markdown: Path | None, junit: Path | None) -> None:
    """Raise BadArgument if two of the files are the same, or if a report cannot be written."""
    taken = {baseline.resolve(): "the baseline"}
    for option, place in {"markdown": markdown, "junit": junit}.items():
        if place is not None:
            if other := taken.get(place.resolve()):
                raise BadArgument(option, place, f"that is {other}; choose another file")
            check_place(place, option)
            taken[place.resolve()] = f"--{option}'s"
