"""The command line: each command a few lines over one library call."""

from __future__ import annotations

import math
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.usage_errors import FAILED, MISTAKE, Commands
from bench.system.errors import BenchError
from bench.system.files import check_place, write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.records.store import Store as RecordStore
    from bench.tracking.delivery import Delivery
    from bench.trials.plan import Plan
    from bench.trials.run import Outcome

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("cnn-compression-bench"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Compare CNN compression methods: real files, real latency, equal budgets."""


def path(text: str | Path) -> Path:
    """An empty one would be the current folder."""
    if text == "":
        raise typer.BadParameter("an empty path, as of a variable that is not set")
    return Path(text)


class Kind(StrEnum):
    methods = "methods"
    models = "models"
    datasets = "datasets"


class Format(StrEnum):
    table = "table"
    md = "md"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    html = "html"
    png = "png"


Store = Annotated[Path, typer.Option(parser=path, help="Folder of records, artifacts and MLflow's database.")]
Dataset = Annotated[str, typer.Option(help="A name of `bench list datasets`, or folder:PATH.")]
DataRoot = Annotated[Path | None, typer.Option(parser=path, help="Where a dataset lies that is not embedded.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Passes = Annotated[float | None, typer.Option(help="Passes over the training images (default: the recipe's).")]
Weights = Annotated[str, typer.Option(help="auto, pretrained, scratch or a file of weights.")]
Models = Annotated[str, typer.Option(help="Networks, separated by commas: timm's, pytorchcv's or ours.")]

DEFAULT_STORE = Path("runs")


@app.command()
def run(
    context: typer.Context,
    methods: Annotated[str | None, typer.Option(help="Settings, as in 'tic(k=64),l1+kse'.")] = None,
    models: Models = "resnet20",
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    weights: Weights = "auto",
    epochs: Annotated[float, typer.Option(help="Budget: passes over the training images.")] = 1,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0.")] = 1,
    attack: Annotated[int, typer.Option(help="Test images to attack, for the figures of robustness.")] = 0,
    attack_distance: Annotated[int, typer.Option(help="How far a pixel may move, of 255 levels.")] = 8,
    suite: Annotated[
        Path | None, typer.Option(parser=path, help="A YAML file of many runs, instead of --methods and the like.")
    ] = None,
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    tracking: Annotated[bool, typer.Option("--tracking/--no-tracking", help="Log to MLflow.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the trials and which are recorded; run none.")
    ] = False,
) -> None:
    """Run methods on models, or a suite, and print the board. What is recorded already is not run again."""
    at_least("--epochs", epochs, 0)
    at_least("--seeds", seeds, 1, 10_000)
    at_least("--attack", attack, 0)
    at_least("--attack-distance", attack_distance, 1, 255)
    either_or_suite(context)
    from bench.plugins.setting import parse, with_dense
    from bench.records.store import Store as RecordStore
    from bench.system.environment import select_device
    from bench.trials import run as harness
    from bench.trials.plan import Plan
    from bench.trials.suite import load_suite

    place = select_device(device)
    if suite is not None:
        plans = load_suite(suite, device=place, data_root=data_root, command=command_line())
    else:
        plan = Plan(
            settings=with_dense(parse(methods or "")),
            models=names(models, "--models"),
            dataset=dataset,
            data_root=data_root,
            weights=weights,
            epochs=epochs,
            seeds=range(seeds),
            attack=attack,
            attack_distance=attack_distance,
            device=place,
            command=command_line(),
        )
        plans = [plan]
    records = RecordStore(store)
    if dry_run:
        if store.is_file():
            raise BenchError(
                f"store {store}: a file stands where a folder should; choose another folder with --store DIR"
            )
        announce(plans, records)
        return
    delivery = None
    if tracking:
        from bench.tracking.delivery import Delivery

        delivery = Delivery(records)
    outcome = harness.run(plans, records, delivery)
    report(outcome, store, delivery)


@app.command()
def train(
    models: Models,
    dataset: Dataset = "fashion-mnist",
    epochs: Passes = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(parser=path, help="A .safetensors file to keep it in, not the cache.")
    ] = None,
) -> None:
    """Train baselines deliberately; `bench run` finds them."""
    if epochs is not None:
        at_least("--epochs", epochs, 0)
    networks = names(models, "--models")
    if out is not None and (out.suffix != ".safetensors" or len(networks) > 1):
        raise BenchError(f"--out {out}: expected a name that ends in .safetensors, and one model")
    if out is not None:
        check_place(out, "--out")
    from bench.networks import zoo
    from bench.plugins.registry import open_dataset
    from bench.system.environment import select_device
    from bench.trials.baseline import train_baseline

    for name in networks:
        zoo.check_name(name)
    data, place = open_dataset(dataset, data_root), select_device(device)
    for name in networks:
        train_baseline(name, data, data.recipe.epochs if epochs is None else epochs, place, out)


@app.command(name="list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    match: Annotated[str, typer.Option(help="Only names with this in them.")] = "",
) -> None:
    """List methods, models or datasets."""
    from bench.cli import listing

    listing.show(kind.value, match)


@app.command()
def show(method: Annotated[str, typer.Argument(help="A name of `bench list methods`.")]) -> None:
    """Show a method: its paper, its options with types, defaults and meanings."""
    from bench.cli import listing

    listing.show_method(method)


@app.command()
def oracle(
    models: Models = "resnet20",
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    weights: Weights = "auto",
    images: Annotated[int, typer.Option(help="How many of the images held out from the training set.")] = 256,
    device: Device = "auto",
    out: Annotated[
        Path, typer.Option(parser=path, help="Folder for the scores of every filter (CSV) and the picture (PNG).")
    ] = (DEFAULT_STORE / "oracle"),
) -> None:
    """Compare rankings of filters with the oracle: the loss without each filter, one after another."""
    at_least("--images", images, 1)
    check_place(out, "--out", folder=True)
    from bench.oracle import report
    from bench.oracle.comparison import compare_task
    from bench.plugins.registry import open_dataset
    from bench.system.environment import select_device
    from bench.system.terminal import output
    from bench.trials.baseline import load_task

    place, data = select_device(device), open_dataset(dataset, data_root)
    for name in names(models, "--models"):
        task = load_task(name, data, weights, place)
        comparison = compare_task(task, place, images)
        output().print(report.table(comparison))
        for path in report.write(comparison, out, report.stem(task)):
            typer.echo(f"written: {path}", err=True)


@app.command()
def leaderboard(
    store: Store = DEFAULT_STORE,
    format: Annotated[Format, typer.Option(help="Parquet, html and png need --out.")] = Format.table,
    out: Annotated[Path | None, typer.Option(parser=path, help="Where to write it: a file; of html, a folder.")] = None,
    front: Annotated[
        bool, typer.Option("--front", help="Only what is on a Pareto front of top-1 and size, MACs or latency.")
    ] = False,
) -> None:
    """Print the board of all records in a store, or write it as a page."""
    if out is not None:
        check_place(out, "--out", folder=format == Format.html)
    if front and format == Format.html:
        raise BenchError("--front: the page draws the fronts and filters by itself; leave it out with --format html")
    from bench.leaderboard import board, exports
    from bench.leaderboard.summary import best, load_records, summarise

    records = load_records(store)
    if format == Format.html:
        from bench.leaderboard.page import write_html

        write_html(records, needed(out, format), store)
        typer.echo(f"open {needed(out, format) / 'index.html'}", err=True)
        return
    summary = best(summarise(records)) if front else summarise(records)
    if format == Format.parquet:
        write_atomically(needed(out, format), exports.to_parquet(summary))
    elif format == Format.png:
        from bench.leaderboard.chart import draw

        write_atomically(needed(out, format), draw(summary))
    elif format == Format.table and out is None:
        print_board(summary)
    else:
        writers = {"table": board.to_text, "md": board.to_markdown, "csv": exports.to_csv, "json": exports.to_json}
        text = writers[format.value](summary)
        sys.stdout.write(text) if out is None else write_atomically(out, text.encode())


@app.command()
def check(
    baseline: Annotated[Path, typer.Argument(help="A JSON file that --update wrote, as results/ci-baseline.json.")],
    store: Store = DEFAULT_STORE,
    tolerance: Annotated[float, typer.Option(help="Points of top-1 that may be lost.")] = 0.5,
    slowdown: Annotated[float, typer.Option(help="Percent of the speed that may be lost.")] = 10,
    exact: Annotated[bool, typer.Option(help="Other outputs where nothing but the code differs fail.")] = True,
    update: Annotated[bool, typer.Option("--update", help="Make the store's records the baseline.")] = False,
    markdown: Annotated[Path | None, typer.Option(parser=path, help="Write it for a pull request, too.")] = None,
    junit: Annotated[Path | None, typer.Option(parser=path, help="Write it as JUnit XML, too.")] = None,
) -> None:
    """Compare a store's records with a committed baseline; exit code 1 where something got worse."""
    at_least("--tolerance", tolerance, 0, 100)
    at_least("--slowdown", slowdown, 0)
    check_reports(baseline, markdown, junit)
    from bench.gate import check as gate
    from bench.gate import report as written
    from bench.gate.verdict import Limits
    from bench.system.terminal import output

    judge = gate.update if update else gate.check
    found = judge(baseline, store, Limits(tolerance / 100, slowdown / 100, exact))
    if found is not None:
        output().print(written.render_terminal(found))
        written.write(found, baseline, store, markdown=markdown, junit=junit)
    if update:
        typer.echo(f"{baseline}: now the records of {store}; commit it", err=True)
    elif found is not None and (advice := written.advice(found, baseline, store)):
        typer.echo(advice, err=True)
    if found is not None and found.failed and not update:
        raise typer.Exit(FAILED)


@app.command()
def sync(store: Store = DEFAULT_STORE) -> None:
    """Deliver to MLflow every record it lacks."""
    from bench.records.store import Store as RecordStore
    from bench.tracking import Tracker

    if not store.is_dir():
        raise BenchError(f"--store {store}: there is no such folder")
    delivered = Tracker(store).sync(RecordStore(store))
    typer.echo(f"{delivered} records delivered")


@app.command()
def ui(
    store: Store = DEFAULT_STORE,
    port: Annotated[int, typer.Option(help="Where it listens, on this machine only.", min=1, max=65535)] = 5000,
) -> None:
    """Browse the board in MLflow's UI; records it lacks are delivered first."""
    from bench.tracking import serve

    serve(store, port)


def names(text: str, option: str) -> list[str]:
    """Names separated by commas, each once."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise BenchError(f"{option} {text!r}: names nothing")
    return found


def at_least(option: str, value: float, least: float, most: float = math.inf) -> None:
    if not least <= value <= most or value == math.inf:
        bounds = f"from {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise BenchError(f"{option} {value:g}: expected a number {bounds}")


def check_reports(baseline: Path, markdown: Path | None, junit: Path | None) -> None:
    """Each a file of its own."""
    taken = {baseline.resolve(): "the baseline"}
    for option, path in {"--markdown": markdown, "--junit": junit}.items():
        if path is not None:
            if other := taken.get(path.resolve()):
                raise BenchError(f"{option} {path}: that is {other}; choose another file")
            check_place(path, option)
            taken[path.resolve()] = f"{option}'s"


def needed(out: Path | None, format: Format) -> Path:
    if out is None:
        raise BenchError(f"--format {format.value}: say where to write it with --out")
    return out


IN_A_SUITE = ("methods", "models", "dataset", "weights", "epochs", "seeds", "attack", "attack_distance")


def either_or_suite(context: typer.Context) -> None:
    """Either `--methods` and what goes with it, or a file that says all of that."""
    given = [name for name in IN_A_SUITE if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if context.params["suite"] is None:
        if context.params["methods"] is None:
            raise typer.BadParameter("name --methods, or a --suite FILE", context)
    elif given:
        option = "--" + given[0].replace("_", "-")
        raise BenchError(f"{option} beside --suite: the file says it for each of its runs; leave one of the two out")


def announce(plans: list[Plan], store: RecordStore) -> None:
    """What would be run; exit code 1 where a dataset or a model cannot be opened."""
    from bench.trials import preview

    found = preview.preview(plans, store)
    preview.show(found)
    for problem in found.problems:
        typer.echo(f"failed: {problem}", err=True)
    if found.problems:
        raise typer.Exit(FAILED)


def command_line() -> str:
    """What was typed, so that a record can be made again."""
    import shlex

    return shlex.join(["bench", *sys.argv[1:]])


def report(outcome: Outcome, store: Path, delivery: Delivery | None) -> None:
    """The table of this run; exit code 1 where a trial failed, 2 where its setting does not fit the network."""
    from dataclasses import asdict

    import pandas as pd

    from bench.leaderboard.summary import summarise

    print_board(summarise(pd.DataFrame([asdict(record) for record in outcome.records])))
    if outcome.found:
        typer.echo(f"{outcome.found} of {len(outcome.records)} trials were recorded before", err=True)
    for problem in outcome.problems:
        typer.echo(f"not run: {problem}", err=True)
    typer.echo(f"records in {store}" + (f"; {delivery.hint}" if delivery else ""), err=True)
    if outcome.failed or outcome.problems:
        raise typer.Exit(MISTAKE if outcome.refused else FAILED)


def print_board(summary: DataFrame) -> None:
    from bench.leaderboard.board import render_terminal
    from bench.system.terminal import output

    output().print(render_terminal(summary))


def main() -> None:
    """Run the command line; warnings are one line each."""
    warnings.showwarning = _show_warning
    app(prog_name="bench")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)
