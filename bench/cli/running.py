"""The commands that train and measure: `bench run`, `bench train` and `bench oracle`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.delivered import delivery_of
from bench.cli.engines import engine_of
from bench.cli.options import (
    DEFAULT_STORE,
    At,
    Attacked,
    Begin,
    DataRoot,
    Dataset,
    Device,
    Distance,
    DryRun,
    Epochs,
    Freeze,
    ImageSize,
    Jobs,
    Methods,
    Models,
    Passes,
    Ray,
    Recalibrate,
    Runtime,
    Seeds,
    Shard,
    Store,
    SuiteFile,
    Timing,
    Tracking,
    Weights,
    at_least,
    names,
    path,
)
from bench.cli.streams import asked, tell
from bench.cli.usage_errors import FAILED, MISTAKE
from bench.system.errors import BadArgument, BenchError
from bench.system.files import check_place
from bench.system.messages import LOG, log_to

if TYPE_CHECKING:
    from bench.records.store import Store as RecordStore
    from bench.tracking.delivery import Delivery
    from bench.trials.plan import Plan
    from bench.trials.run import Outcome
    from bench.trials.units import Engine

IN_A_SUITE = (
    "methods",
    "at",
    "models",
    "dataset",
    "weights",
    "image_size",
    "epochs",
    "seeds",
    "attack",
    "attack_distance",
    "recalibrate",
)
PARSED = ("methods", "at", "models", "seeds")
"""The options of `IN_A_SUITE` that are parsed before they go into a plan."""


def run(
    context: typer.Context,
    methods: Methods = None,
    models: Models = "resnet20",
    at: At = None,
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    weights: Weights = "auto",
    image_size: ImageSize = None,
    epochs: Epochs = 1,
    seeds: Seeds = 1,
    attack: Attacked = 0,
    attack_distance: Distance = 8,
    recalibrate: Recalibrate = True,
    timing: Timing = True,
    runtime: Runtime = "torch",
    suite: SuiteFile = None,
    shard: Shard = None,
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    jobs: Jobs = 1,
    ray: Ray = None,
    tracking: Tracking = True,
    dry_run: DryRun = False,
) -> None:
    """Run methods on models, or a suite, and print the board. Trials with a record are not run again."""
    check_numbers(epochs, seeds, jobs, image_size)
    at_least("--attack", attack, 0)
    at_least("--attack-distance", attack_distance, 1, 255)
    either_or_suite(context)
    from bench.records.store import Store as RecordStore

    with engine_of(jobs, ray, device, idle=dry_run) as engine:
        plans, records = plans_of(context.params), RecordStore(store)
        if dry_run:
            announce(plans, records)
        else:
            execute(plans, records, tracking, engine)


def train(
    models: Models,
    dataset: Dataset = "fashion-mnist",
    weights: Begin = "scratch",
    freeze: Freeze = False,
    image_size: ImageSize = None,
    epochs: Passes = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(parser=path, help="A .safetensors file to write, instead of one in the cache.")
    ] = None,
) -> None:
    """Train baseline networks and keep them. `bench run` uses them, and trains the ones that are missing."""
    check_size(image_size)
    if weights == "auto":
        raise BadArgument("weights", weights, "expected scratch, pretrained or a file")
    if epochs is not None:
        at_least("--epochs", epochs, 0)
    networks = names(models, "--models")
    if out is not None:
        if out.suffix != ".safetensors" or len(networks) > 1:
            raise BadArgument("out", out, "expected a name that ends in .safetensors, and one model")
        check_place(out, "out")
    from bench.networks import zoo
    from bench.plugins.registry import open_dataset
    from bench.system.environment import select_device
    from bench.trials.baseline import train_baseline

    for name in networks:
        zoo.check_name(name)
    data, place = open_dataset(dataset, data_root), select_device(device)
    for name in networks:
        passes = data.recipe.epochs if epochs is None else epochs
        train_baseline(name, data, passes, place, out, weights=weights, freeze=freeze, image_size=image_size)


def oracle(
    models: Models = "resnet20",
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    weights: Weights = "auto",
    images: Annotated[int, typer.Option(help="Number of images, from those held out of the training set.")] = 256,
    device: Device = "auto",
    out: Annotated[
        Path, typer.Option(parser=path, help="Folder for the scores of every filter (CSV) and the picture (PNG).")
    ] = (DEFAULT_STORE / "oracle"),
) -> None:
    """Compare rankings of filters with the oracle: the change of the loss when each filter is removed."""
    at_least("--images", images, 1)
    check_place(out, "out", folder=True)
    from bench.measuring.exclusive import making_way
    from bench.oracle import report as oracle_report
    from bench.oracle.comparison import compare_task
    from bench.plugins.registry import open_dataset
    from bench.system.environment import select_device
    from bench.system.progress import bar
    from bench.system.terminal import output
    from bench.trials.baseline import load_task

    place, data = select_device(device), open_dataset(dataset, data_root)
    for name in names(models, "--models"):
        task = load_task(name, data, weights, place)
        with making_way(), bar(f"oracle of {name}", None):
            comparison = compare_task(task, place, images)
        output().print(oracle_report.table(comparison))
        for written in oracle_report.write(comparison, out, oracle_report.stem(task)):
            tell(f"written: {written}")


def check_numbers(epochs: float, seeds: int, jobs: int, image_size: int | None) -> None:
    """Check what commands that run trials have in common. BenchError, or BadArgument, for what is out of range."""
    at_least("--epochs", epochs, 0)
    at_least("--seeds", seeds, 1, 10_000)
    at_least("--jobs", jobs, 1, 1_000)
    check_size(image_size)


def check_size(image_size: int | None) -> None:
    """Raise BadArgument for a size that images cannot have."""
    if image_size is not None:
        from bench.records.rules import ImageSize, check

        check("image_size", image_size, ImageSize)


def either_or_suite(context: typer.Context) -> None:
    """Accept either `--methods` with its related options, or a suite; raise BenchError for both."""
    given = [name for name in IN_A_SUITE if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"]
    if context.params["suite"] is None:
        if context.params["methods"] is None:
            raise typer.BadParameter("expected --methods or --suite FILE", context)
    elif given:
        option = next(option for option in context.command.params if option.name == given[0])
        written = option.secondary_opts[0] if context.params[given[0]] is False else option.opts[0]
        raise BenchError(f"{written} with --suite: the suite sets it for each of its runs; use one of the two")


def plans_of(chosen: Mapping[str, Any]) -> list[Plan]:
    """The plans that the options of `bench run` ask for."""
    from bench.plugins.setting import parse, with_dense
    from bench.system.environment import select_device
    from bench.trials.plan import Plan
    from bench.trials.points import parse_points
    from bench.trials.shards import WHOLE, parse_shard

    runtimes = names(chosen["runtime"], "--runtime")
    shard = WHOLE if chosen["shard"] is None else parse_shard(chosen["shard"])
    device, command = select_device(chosen["device"]), asked()
    if chosen["suite"] is not None:
        from bench.trials.suite import load_suite

        plans = load_suite(
            chosen["suite"], device=device, data_root=chosen["data_root"], command=command, runtimes=runtimes
        )
        return [replace(plan, shard=shard, timed=chosen["timing"]) for plan in plans]
    plan = Plan(
        settings=with_dense(parse(chosen["methods"], "--methods")),
        models=names(chosen["models"], "--models"),
        seeds=range(chosen["seeds"]),
        at=parse_points(chosen["at"] or []),
        device=device,
        command=command,
        runtimes=runtimes,
        shard=shard,
        timed=chosen["timing"],
        **{name: chosen[name] for name in ("data_root", *IN_A_SUITE) if name not in PARSED},
    )
    return [plan]


def announce(plans: list[Plan], records: RecordStore) -> None:
    """Print the trials that would be run; exit code 1 if a dataset, model or record cannot be read."""
    from bench.trials import preview

    if records.root.is_file():
        raise BadArgument("store", records.root, "a file; expected a folder")
    expected = preview.preview(plans, records)
    preview.show(expected)
    for point in expected.missed:
        tell(f"not reached: {point}")
    for problem in expected.problems:
        tell(f"failed: {problem}")
    if expected.problems:
        raise typer.Exit(FAILED)


def execute(plans: list[Plan], records: RecordStore, tracking: bool, engine: Engine | None = None) -> None:
    """Run the plans, deliver the records to MLflow with `tracking`, and report."""
    from bench.trials import run as harness

    log_to(records.root / LOG, asked())
    delivery = delivery_of(records, tracking)
    report(harness.run(plans, records, delivery, engine=engine), records.root, delivery)


def report(outcome: Outcome, store: Path, delivery: Delivery | None) -> None:
    """Print the board of this run; exit code 1 if a trial failed, 2 if settings do not fit their networks."""
    from dataclasses import asdict

    import pandas as pd

    from bench.cli.boards import print_board
    from bench.cli.delivered import hint
    from bench.leaderboard.operating_points import tables_of, with_leaders
    from bench.leaderboard.summary import summarise

    if outcome.records:
        records = pd.DataFrame([asdict(record) for record in outcome.records])
        summary = summarise(records, store)
        print_board(summary, with_leaders(tables_of(summary), records, store))
    elif not outcome.problems:
        tell("nothing to run: no trial belongs to this shard")
    if outcome.reused:
        tell(f"{outcome.reused} of {len(outcome.records)} trials were recorded before")
    for point in outcome.missed:
        tell(f"not reached: {point}")
    for problem in outcome.problems:
        tell(f"not run: {problem}")
    if any(record.config.get("over_budget") for record in outcome.failed):
        tell("--epochs sets the budget of every method")
    tell(f"records in {store}" + (f"; {hint(delivery)}" if delivery else ""))
    if outcome.failed or outcome.problems:
        raise typer.Exit(MISTAKE if outcome.refused else FAILED)
