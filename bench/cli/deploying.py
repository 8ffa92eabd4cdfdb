"""The commands that use an artifact: `bench predict` and `bench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import path

Artifact = Annotated[Path, typer.Argument(parser=path, help="A model.safetensors of a store, or of bench.save.")]
Download = Annotated[
    bool, typer.Option("--allow-download", help="Let the file name a network of the Hugging Face hub.")
]


def predict(
    artifact: Artifact,
    images: Annotated[list[Path], typer.Argument(parser=path, help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print for each image.")] = 5,
    allow_download: Download = False,
) -> None:
    """Print the likeliest classes of each image, with their probabilities."""
    import bench
    from bench.deploying.predicting import predict
    from bench.system.terminal import output, styled

    console = output()
    for prediction in predict(bench.load(artifact, allow_download=allow_download), images, top):
        console.print(styled(str(prediction.path), "bold"), soft_wrap=True)
        for name, share in prediction.classes:
            console.print(f"  {share:7.2%}  {name}", soft_wrap=True)
