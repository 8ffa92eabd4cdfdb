"""The commands that use an artifact: `bench predict` and `bench export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import DEFAULT_STORE, DataRoot, Dataset, Store, at_least, path
from bench.cli.streams import tell
from bench.system.errors import BenchError
from bench.system.text import one_line, shortened

if TYPE_CHECKING:
    from torch import nn

    from bench.deploying.exporting import Export


class Kind(StrEnum):
    onnx = "onnx"
    pt2 = "pt2"
    safetensors = "safetensors"


Artifact = Annotated[
    str, typer.Argument(help="A file (model.safetensors), or a setting or fingerprint of a record in --store.")
]
Download = Annotated[
    bool, typer.Option("--allow-download", help="Allow a file that names a network of the Hugging Face hub.")
]

Network = Annotated[
    str | None,
    typer.Option("--model", help="Code that builds a network of your own, as in nets.py:Net; it is imported."),
]


def loaded(place: Path, model: str | None, *, folded: bool, allow_download: bool) -> nn.Module:
    """The network in a file. `model` names the code that builds it, if the network has no registered name."""
    import bench
    from bench.encodings.manifest import read_file
    from bench.networks import zoo

    how, built = read_file(place)[1].architecture, None
    if model is not None:
        zoo.check_name(model)
        built = zoo.create_model(model, how.classes, how.channels, image_size=how.image_size)
    elif how.is_unnamed:
        raise BenchError(f"{place}: a network of your own, '{one_line(how.model)}'; --model names its code")
    return bench.load(place, model=built, folded=folded, allow_download=allow_download)


def located(artifact: str, store: Path) -> Path:
    """The file with that name; otherwise the artifact of the latest record of that setting or fingerprint."""
    if Path(artifact).exists() or not store.is_dir() or Path(artifact).suffix == ".safetensors":
        return Path(artifact)
    from bench.leaderboard.finding import find
    from bench.records.store import MODEL
    from bench.records.store import Store as RecordStore

    try:
        (match,), _ = find([artifact], store, {})
    except BenchError as error:
        raise BenchError(f"{shortened(artifact)}: there is no such file; in {store}: {error}") from None
    return RecordStore(store).folder(str(match.records["fingerprint"].iloc[-1])) / MODEL


def predict(
    artifact: Artifact,
    images: Annotated[list[Path], typer.Argument(parser=path, help="Image files.")],
    store: Store = DEFAULT_STORE,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print for each image.")] = 5,
    model: Network = None,
    allow_download: Download = False,
) -> None:
    """Print the likeliest classes of each image, with their probabilities."""
    from bench.deploying.predicting import predict
    from bench.system.terminal import output, styled

    console = output()
    network = loaded(located(artifact, store), model, folded=True, allow_download=allow_download)
    for prediction in predict(network, images, top):
        console.print(styled(str(prediction.path), "bold"), soft_wrap=True)
        for name, share in prediction.classes:
            console.print(f"  {share:7.2%}  {name}", soft_wrap=True)


def export(
    artifact: Artifact,
    to: Annotated[Kind, typer.Option(help="Format of the file.")],
    out: Annotated[Path, typer.Option(parser=path, help="File to write.")],
    store: Store = DEFAULT_STORE,
    images: Annotated[int, typer.Option(help="Number of test images that the outputs are compared on.")] = 64,
    int8: Annotated[
        bool, typer.Option("--int8", help="onnx: activations in 8 bits, for kernels that compute with whole numbers.")
    ] = False,
    calibration_images: Annotated[
        int, typer.Option(help="--int8: number of training images that give the ranges of the activations.")
    ] = 256,
    dataset: Dataset = "fashion-mnist",
    data_root: DataRoot = None,
    model: Network = None,
    allow_download: Download = False,
) -> None:
    """Write an artifact for programs without this package; a clean process compares outputs, on images of --dataset."""
    at_least("--images", images, 1)
    at_least("--calibration-images", calibration_images, 1)
    if int8 and to is not Kind.onnx:
        raise BenchError(f"--int8 goes with --to onnx, not with --to {to.value}")
    from bench.deploying import exporting
    from bench.deploying.images import first_images
    from bench.deploying.predicting import preprocessing_of
    from bench.plugins.registry import open_dataset
    from bench.system.files import check_place
    from bench.system.progress import bar

    exporting.check_kind(to.value)
    check_place(out, "out")
    place = located(artifact, store)
    network = loaded(place, model, folded=False, allow_download=allow_download)
    data, wanted = open_dataset(dataset, data_root), preprocessing_of(network)
    if int8 and "train" not in data.parts:
        raise BenchError(f"--int8: {data.title} has no training images, which give the ranges of the activations")
    calibration = list(first_images(data, wanted, calibration_images, "tuning")) if int8 else []
    shown = list(first_images(data, wanted, images))
    with bar(f"exporting {out.name}", None):
        report(exporting.export(network, to.value, out, shown, place.stat().st_size, calibration), int8)


def report(made: Export, int8: bool) -> None:
    """Print the size of an exported file, and tell how it compares with the artifact and how it is loaded."""
    ratio = made.decoded_bytes / made.file_bytes
    smaller = f"; decoded weights would take {made.decoded_bytes:,}, {ratio:.1f} times as many" if ratio > 1 else ""
    print(f"{made.path}: {made.file_bytes:,} bytes; the artifact has {made.artifact_bytes:,}{smaller}")
    if made.reasons:
        tell(f"larger than the artifact: {'; '.join(made.reasons)}")
    compared = made.comparison
    tell(f"in a clean process, outputs for {compared.images} images differ by at most {compared.apart:.1e}")
    if int8:
        tell(f"with activations in 8 bits, {compared.agreeing} of {compared.images} images keep their class")
    for note in made.notes:
        tell(note)
