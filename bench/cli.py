"""The command line: each command a few lines over one library call."""

from __future__ import annotations

import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bench.errors import BenchError

if TYPE_CHECKING:
    from pandas import DataFrame

    from bench.run import Delivery, Outcome
    from bench.setting import Pipeline

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
"""Exit codes: of a run with a failed trial, of a command that could not be done, of Ctrl-C."""


class Commands(TyperGroup):
    """A user's mistake, or surroundings that will not do, is one line and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (BenchError, OSError) as error:
            print(f"bench: {error}", file=sys.stderr)
            sys.exit(MISTAKE)
        except KeyboardInterrupt:
            print("bench: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
            sys.exit(INTERRUPTED)


app = typer.Typer(
    cls=Commands,
    help="Compare CNN compression methods: real files, real latency, equal budgets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Kind(StrEnum):
    methods = "methods"
    models = "models"
    datasets = "datasets"


class Format(StrEnum):
    table = "table"
    md = "md"
    csv = "csv"
    json = "json"


Store = Annotated[Path, typer.Option(help="Folder of records, artifacts and MLflow's database.")]
Dataset = Annotated[str, typer.Option(help="A name of `bench list datasets`, or folder:PATH.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where a dataset lies that is not embedded.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Passes = Annotated[float | None, typer.Option(help="Passes over the training images (default: the recipe's).")]
Models = Annotated[str, typer.Option(help="Networks, separated by commas: timm's, pytorchcv's or ours.")]

DEFAULT_STORE = Path("runs")


@app.command()
def run(
    methods: Annotated[str, typer.Option(help="Settings, as in 'tic(k=64),l1(rate=0.5)+kse'; `bench list methods`.")],
    models: Models = "resnet20",
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    weights: Annotated[str, typer.Option(help="auto, pretrained, scratch or a file of weights.")] = "auto",
    epochs: Annotated[float, typer.Option(help="Budget: passes over the training images.")] = 1,
    seeds: Annotated[int, typer.Option(help="How many seeds, from 0.")] = 1,
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    tracking: Annotated[bool, typer.Option("--tracking/--no-tracking", help="Log to MLflow.")] = True,
) -> None:
    """Run methods on models and print the board. What is recorded already is not run again."""
    at_least("--epochs", epochs, 0)
    at_least("--seeds", seeds, 1)
    from bench import run as harness
    from bench.environment import select_device
    from bench.setting import parse
    from bench.store import Store as RecordStore

    plan = harness.Plan(
        settings=with_dense(parse(methods)),
        models=names(models, "--models"),
        dataset=dataset,
        data_root=data_root,
        weights=weights,
        epochs=epochs,
        seeds=range(seeds),
        device=select_device(device),
        command=command_line(),
    )
    records = RecordStore(store)
    delivery = harness.Delivery(records) if tracking else None
    outcome = harness.run(plan, records, delivery)
    report(outcome, store, delivery)


@app.command()
def train(
    models: Models,
    dataset: Dataset = "fashion-mnist",
    epochs: Passes = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="A .safetensors file to keep it in, not the cache.")] = None,
) -> None:
    """Train baselines deliberately; `bench run` finds them."""
    if epochs is not None:
        at_least("--epochs", epochs, 0)
    networks = names(models, "--models")
    if out is not None and (out.suffix != ".safetensors" or len(networks) > 1):
        raise BenchError(f"--out {out}: expected a name that ends in .safetensors, and one model")
    from bench import zoo
    from bench.baseline import train_baseline
    from bench.environment import select_device
    from bench.run import open_dataset

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
    from bench import listing

    listing.show(kind.value, match)


@app.command()
def show(method: Annotated[str, typer.Argument(help="A name of `bench list methods`.")]) -> None:
    """Show a method: its paper, its options with types, defaults and meanings."""
    from bench import listing

    listing.show_method(method)


@app.command()
def leaderboard(
    store: Store = DEFAULT_STORE,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
) -> None:
    """Print the board of all records in a store."""
    from bench import leaderboard as board

    summary = board.summarise(board.load_records(store))
    writers = {Format.md: board.to_markdown, Format.csv: board.to_csv, Format.json: board.to_json}
    if format in writers:
        sys.stdout.write(writers[format](summary))
    else:
        print_board(summary)


@app.command()
def sync(store: Store = DEFAULT_STORE) -> None:
    """Deliver to MLflow every record it lacks."""
    from bench.store import Store as RecordStore
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


def at_least(option: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise BenchError(f"{option} {value:g}: expected a number from {least:g}")


def with_dense(settings: list[Pipeline]) -> list[Pipeline]:
    """The uncompressed control first: it is always on the board."""
    from bench.setting import parse

    return list({str(setting): setting for setting in [*parse("none"), *settings]}.values())


def command_line() -> str:
    """What was typed, so that a record can be made again."""
    import shlex

    return shlex.join(["bench", *sys.argv[1:]])


def report(outcome: Outcome, store: Path, delivery: Delivery | None) -> None:
    """The table of this run; exit code 1 where a trial failed."""
    from dataclasses import asdict

    import pandas as pd

    from bench import leaderboard as board

    print_board(board.summarise(pd.DataFrame([asdict(record) for record in outcome.records])))
    if outcome.found:
        typer.echo(f"{outcome.found} of {len(outcome.records)} trials were recorded before", err=True)
    typer.echo(f"records in {store}" + (f"; {delivery.hint}" if delivery else ""), err=True)
    if outcome.failed or outcome.problems:
        raise typer.Exit(FAILED)


def print_board(summary: DataFrame) -> None:
    from bench.leaderboard import render_terminal
    from bench.terminal import output

    output().print(render_terminal(summary))


def main() -> None:
    """Run the command line; warnings are one line each."""
    warnings.showwarning = _show_warning
    app(prog_name="bench")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)
