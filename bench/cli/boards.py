"""The commands that read records: `bench leaderboard`, `bench compare` and `bench check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import DEFAULT_STORE, Format, Store, at_least, needed, path
from bench.cli.streams import tell, write
from bench.cli.usage_errors import FAILED
from bench.system.errors import BadArgument, BenchError
from bench.system.files import check_place, write_atomically
from bench.system.text import encoded

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.leaderboard.operating_points import Table


def leaderboard(
    store: Store = DEFAULT_STORE,
    format: Annotated[Format, typer.Option(help="Parquet, html and png need --out.")] = Format.table,
    out: Annotated[Path | None, typer.Option(parser=path, help="File to write, or folder for html.")] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Only settings on a Pareto front of top-1 and size, MACs or latency.")
    ] = False,
) -> None:
    """Print the board of all records in a store, or write it to a file.

    The board begins with tables of the methods at equal size, at equal compressed size and at equal MACs.
    """
    if out is not None:
        check_place(out, "out", folder=format == Format.html)
    if front and format == Format.html:
        raise BenchError("--front: not with --format html, whose page can show the fronts by itself")
    from bench.leaderboard.operating_points import tables_of, with_leaders
    from bench.leaderboard.summary import best, load_records, summarise

    records = load_records(store)
    if format == Format.html:
        from bench.leaderboard.page import write_html

        write_html(records, needed(out, format), store)
        tell(f"open {needed(out, format) / 'index.html'}")
        return
    summary = summarise(records, store)
    points = with_leaders(tables_of(summary), records, store)
    summary = best(summary) if front else summary
    if format == Format.table and out is None:
        print_board(summary, points)
    elif format in (Format.parquet, Format.png):
        write_atomically(needed(out, format), picture_or_parquet(summary, format))
    elif out is None:
        write(as_text(summary, points, format))
    else:
        write_atomically(out, encoded(as_text(summary, points, format)))


def picture_or_parquet(summary: DataFrame, format: Format) -> bytes:
    """The board in one of the binary formats."""
    if format == Format.png:
        from bench.leaderboard.chart import draw

        return draw(summary)
    from bench.leaderboard.exports import to_parquet

    return to_parquet(summary)


def as_text(summary: DataFrame, points: list[Table], format: Format) -> str:
    """The board in one of the text formats; `points` are its tables at equal size and MACs."""
    from bench.leaderboard import board, exports

    if format in (Format.csv, Format.json):
        return exports.to_csv(summary) if format == Format.csv else exports.to_json(summary)
    return (board.to_text if format == Format.table else board.to_markdown)(summary, points)


def print_board(summary: DataFrame, points: list[Table]) -> None:
    """Print the board, laid out for the terminal."""
    from bench.leaderboard.board import render_terminal
    from bench.system.terminal import output

    output().print(render_terminal(summary, points))


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
