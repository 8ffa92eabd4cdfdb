"""`bench find`: the setting that answers a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from bench.cli.running import check_size
from bench.cli.streams import asked, tell
from bench.cli.usage_errors import FAILED
from bench.system.messages import LOG, log_to

if TYPE_CHECKING:
    from bench.search.find import Finder, Found

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
    at_least("--epochs", epochs, 0)
    at_least("--seeds", seeds, 1, 10_000)
    at_least("--trials", trials, 1, 10_000)
    at_least("--jobs", jobs, 1, 1_000)
    check_size(image_size)
    chosen = {"dataset": dataset, "data_root": data_root, "weights": weights, "image_size": image_size}
    from bench.search.goal import goal_of

    goal = goal_of(within=within, smallest=smallest, fastest=fastest, at_least=least or (), most=most or ())
    from bench.records.store import Store as RecordStore

    records, delivery = RecordStore(store), None
    log_to(records.root / LOG, asked())
    if tracking:
        from bench.tracking.delivery import Delivery

        delivery = Delivery(records)
    met = True
    with engine_of(jobs, ray, device) as engine:
        for model in names(models, "--models"):
            finder = _finder(model, methods, epochs, seeds, device, chosen)
            met &= _answered(finder(goal, trials, records, delivery, engine))
    if delivery is not None:
        delivery.finish()
    if not met:
        raise typer.Exit(FAILED)


def _finder(model: str, methods: str | None, epochs: float, seeds: int, device: str, chosen: dict[str, Any]) -> Any:
    """What makes a `Finder` of the other arguments."""
    import shlex
    import sys
    from functools import partial

    from bench.plugins.setting import parse
    from bench.search.find import Finder
    from bench.search.space import families
    from bench.system.environment import select_device
    from bench.trials.plan import Plan

    open_families = families(parse(methods, "--methods") if methods is not None else ())
    plan = Plan(
        settings=[open_families[0].at(open_families[0].middle)],
        models=[model],
        epochs=epochs,
        seeds=range(seeds),
        device=select_device(device),
        command=shlex.join(["bench", *sys.argv[1:]]),
        **chosen,
    )
    return partial(Finder, plan, open_families)


def _answered(finder: Finder) -> bool:
    """Search, and print the board of the finalists, the answer and the command that deploys it; whether it is met."""
    from dataclasses import asdict

    import pandas as pd

    from bench.cli.boards import print_board
    from bench.leaderboard.summary import summarise
    from bench.search.find import deploying, in_words

    found: Found = finder.find()
    records = pd.DataFrame([asdict(record) for record in found.outcome.records])
    print_board(summarise(records, finder.store.root), [])
    for sentence in in_words(found):
        tell(sentence)
    tell(f"to deploy it: {deploying(found, finder.plan, finder.store)}")
    return found.answers[0].verdict == "met"
