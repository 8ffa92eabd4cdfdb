"""`bench find`: the setting that answers a question."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.delivered import delivery_of
from bench.cli.engines import engine_of
from bench.cli.options import (
    DEFAULT_STORE,
    DataRoot,
    Dataset,
    Device,
    ImageSize,
    Jobs,
    Models,
    Ray,
    Store,
    Tracking,
    Weights,
    at_least,
    names,
)
from bench.cli.running import check_numbers
from bench.cli.streams import asked, tell
from bench.cli.usage_errors import FAILED
from bench.system.messages import LOG, log_to

if TYPE_CHECKING:
    from bench.search.find import Finder
    from bench.search.goal import Goal
    from bench.trials.units import Engine

Within = Annotated[float | None, typer.Option(help="Points of top-1 that may be lost.")]
Smallest = Annotated[str | None, typer.Option(help="Find the smallest: size, compressed (zstd) or macs.")]
Fastest = Annotated[str | None, typer.Option(help="Find the fastest: latency (one image) or throughput (a batch).")]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(
        "--at-least",
        help="Gains over dense: 'size=4', compressed=, macs=, latency=, throughput=; or top1= in percent. Without "
        "--smallest and --fastest, the highest top-1 is found.",
    ),
]
AtMost = Annotated[
    list[str] | None,
    typer.Option("--most", help="Limits: 'size=100kB', compressed=, macs=20e6, params=, latency=5ms, drop= in points."),
]
Open = Annotated[
    str | None,
    typer.Option(
        "--methods",
        help="Settings to search, as in 'l1+quantize,tic(transforms=[1,8])': strengths that are left out are chosen "
        "(default: every method that declares a strength, alone and with a last stage such as quantize).",
    ),
]
Passes = Annotated[float, typer.Option(help="Budget of a finalist: passes over the training images.")]
Confirmed = Annotated[int, typer.Option(help="Number of seeds with which finalists are confirmed on the test images.")]
Trials = Annotated[int, typer.Option(help="Number of settings to begin with, on a ninth of the budget.")]


def find(
    context: typer.Context,
    models: Models = "resnet20",
    within: Within = None,
    smallest: Smallest = None,
    fastest: Fastest = None,
    least: AtLeast = None,
    most: AtMost = None,
    methods: Open = None,
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    weights: Weights = "auto",
    image_size: ImageSize = None,
    epochs: Passes = 0.25,
    seeds: Confirmed = 3,
    trials: Trials = 32,
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    jobs: Jobs = 1,
    ray: Ray = None,
    tracking: Tracking = True,
) -> None:
    """Find the setting that answers a question, such as the smallest file within one point of top-1.

    Settings are chosen on images held out of the training images; the finalists are confirmed on the test images. The
    exit code is 1 unless the answer is what was asked for. The same command goes on where it was interrupted.
    """
    check_numbers(epochs, seeds, jobs, image_size)
    at_least("--trials", trials, 1, 10_000)
    from bench.search.goal import goal_of

    goal = goal_of(within=within, smallest=smallest, fastest=fastest, at_least=least or (), most=most or ())
    with engine_of(jobs, ray, device) as engine:
        met = [_answered(finder) for finder in _finders(context.params, goal, engine)]
    if not all(met):
        raise typer.Exit(FAILED)


def _finders(chosen: Mapping[str, Any], goal: Goal, engine: Engine | None) -> Iterator[Finder]:
    """A search for each network; MLflow is updated after the last."""
    from bench.plugins.setting import parse
    from bench.records.store import Store as RecordStore
    from bench.search.find import Finder
    from bench.search.space import families
    from bench.system.environment import select_device
    from bench.trials.plan import Plan

    open_families = families(parse(chosen["methods"], "--methods") if chosen["methods"] is not None else ())
    store = RecordStore(chosen["store"])
    log_to(store.root / LOG, asked())
    delivery = delivery_of(store, chosen["tracking"])
    for model in names(chosen["models"], "--models"):
        plan = Plan(
            settings=[open_families[0].middle_setting],
            models=[model],
            seeds=range(chosen["seeds"]),
            device=select_device(chosen["device"]),
            command=asked(),
            **{name: chosen[name] for name in ("dataset", "data_root", "weights", "image_size", "epochs")},
        )
        yield Finder(plan, open_families, goal, chosen["trials"], store, delivery, engine)
    if delivery is not None:
        delivery.finish()


def _answered(finder: Finder) -> bool:
    """Search, and print the board of the finalists, the answer and the command that deploys it; whether it is met."""
    from dataclasses import asdict

    import pandas as pd

    from bench.cli.boards import print_board
    from bench.leaderboard.summary import summarise
    from bench.search.find import deploying, in_words

    found = finder.find()
    records = pd.DataFrame([asdict(record) for record in found.outcome.records])
    print_board(summarise(records, finder.store.root), [])
    for sentence in in_words(found):
        tell(sentence)
    tell(f"to deploy it: {deploying(found, finder.plan, finder.store)}")
    return found.answers[0].verdict == "met"
