"""Options that several commands share, and checks of their values."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import completing
from bench.system.errors import BenchError

DEFAULT_STORE = Path("runs")


def path(text: str | Path) -> Path:
    """A path. Empty text is refused, because it would mean the current folder."""
    if text == "":
        raise typer.BadParameter("an empty path; is a variable in it not set?")
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
    pdf = "pdf"


Store = Annotated[Path, typer.Option(parser=path, help="Folder for records, artifacts and MLflow's database.")]
Dataset = Annotated[
    str,
    typer.Option(help="A name from `bench list datasets`, or folder:PATH.", autocompletion=completing.datasets),
]
DataRoot = Annotated[
    Path | None, typer.Option(parser=path, help="Folder with the files of a dataset that is not embedded.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Passes = Annotated[float | None, typer.Option(help="Passes over the training images (default: the recipe's).")]
Weights = Annotated[
    str,
    typer.Option(
        help="auto, pretrained, scratch, a file of weights, or FILE#KEY for one of several state dicts in it. Weights "
        "for another number of classes are fine-tuned first."
    ),
]
Begin = Annotated[
    str,
    typer.Option(
        help="What to start from: scratch (random), pretrained, a file of weights, or FILE#KEY. If the number of "
        "classes differs, the classifier is new."
    ),
]
Freeze = Annotated[
    bool,
    typer.Option("--freeze", help="Train only the classifier for a fifth of the passes, then the whole network."),
]
Models = Annotated[
    str,
    typer.Option(
        help="Networks, separated by commas: names from `bench list models`, your own as file.py:Class or "
        "package.module:function.",
        autocompletion=completing.models,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Height and width of images in pixels (default: for photographs the size that the network was trained "
        "with, for small images their own). It holds for training, accuracy and latency."
    ),
]

Runtime = Annotated[
    str,
    typer.Option(
        help="What executes the networks, separated by commas: torch, compile, onnxruntime, onnxruntime-int8 (8-bit "
        "activations, too), openvino. Each is timed beside the dense network in the same runtime; torch is always "
        "among them."
    ),
]

Methods = Annotated[
    str | None,
    typer.Option(
        help="Settings, as in 'tic(k=64),l1+kse'. Lists and ranges are tried one value after another: "
        "'tic(k=[16,32,64])', rate=0.1..0.9/0.2, k=16..256*2; several are multiplied.",
        autocompletion=completing.methods,
    ),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        help="Operating points: 'size=2,4,8', compressed= (size after zstandard) or macs=. For each of them, the "
        "option that sets a method's strength is chosen so that the ratio is within 3%. May be given several times."
    ),
]
Epochs = Annotated[float, typer.Option(help="Budget: passes over the training images.")]
Seeds = Annotated[int, typer.Option(help="Number of seeds, counted from 0.")]
Attacked = Annotated[int, typer.Option(help="Number of test images to attack, which measures robustness.")]
Distance = Annotated[int, typer.Option(help="Largest change of a pixel by the attack, in levels of 255.")]
Recalibrate = Annotated[
    bool,
    typer.Option(
        "--recalibrate/--no-recalibrate",
        help="Re-estimate batch-norm statistics if no training follows the last change of the weights.",
    ),
]
Timing = Annotated[
    bool,
    typer.Option("--timing/--no-timing", help="Measure latency and throughput; accuracy and sizes take less time."),
]
SuiteFile = Annotated[
    Path | None, typer.Option(parser=path, help="A YAML file with many runs, instead of --methods, --models and so on.")
]
Tracking = Annotated[bool, typer.Option("--tracking/--no-tracking", help="Log to MLflow.")]
Jobs = Annotated[
    int,
    typer.Option(
        help="Number of processes that run trials at the same time. They share the threads, and of several GPUs each "
        "process gets one; only one of them times at a time."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Run trials on a Ray cluster, each as a task with as many CPUs as OMP_NUM_THREADS says, or one GPU. "
        "Without an address: the cluster of RAY_ADDRESS, or of this machine.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Run one part of the trials: 2/8 is part 2 of 8. Each machine runs another one. The parts are the same "
        "everywhere. `bench merge` joins their stores.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the trials and their state in the store; run none.")]


def names(text: str, option: str) -> list[str]:
    """The names in a comma-separated text, each once."""
    listed = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not listed:
        raise BenchError(f"{option} {text!r}: expected at least one name")
    return listed


def at_least(option: str, value: float, least: float, most: float = math.inf) -> None:
    """Raise BenchError for a number that is not finite, or not between `least` and `most`."""
    if not least <= value <= most or value == math.inf:
        bounds = f"from {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise BenchError(f"{option} {value:g}: expected a number {bounds}")


def needed(out: Path | None, format: Format) -> Path:
    """The value of `--out`, which some formats require."""
    if out is None:
        raise BenchError(f"--format {format.value}: needs a place to write to, --out PATH")
    return out
