"""Images prepared for a network that was loaded from an artifact, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bench.data.dataset import Dataset, Part
from bench.data.image_files import MODES
from bench.data.image_reader import read_image
from bench.data.images import Files, Images, Pixels
from bench.networks.zoo import Preprocessing, image_transform
from bench.system.errors import BenchError


def read_files(paths: Sequence[Path], wanted: Preprocessing) -> Tensor:
    """Normalised images float32 [N, C, H, W], prepared as test images are.

    BenchError for a file that cannot be read, and for a network whose channels are neither grey nor colour.
    """
    mode = mode_of(wanted)
    return prepared([read_image(path, mode) for path in paths], wanted)


def first_images(
    dataset: Dataset, wanted: Preprocessing, count: int, part: Part = "test", batch: int = 64
) -> Iterator[Tensor]:
    """The first `count` images of a part of a dataset in batches, prepared for the network whatever their size is."""
    images, mode = dataset.split(part), mode_of(wanted)
    for start in range(0, min(count, len(images)), batch):
        places = range(start, min(start + batch, count, len(images)))
        yield prepared([_image(images, place, mode) for place in places], wanted)


def mode_of(wanted: Preprocessing) -> str:
    """Pillow's name for the network's channels."""
    if wanted.size[0] not in MODES:
        raise BenchError(f"the network reads images of {wanted.size[0]} channels; expected 1 (grey) or 3 (colour)")
    return MODES[wanted.size[0]]


def prepared(images: Sequence[Image.Image], wanted: Preprocessing) -> Tensor:
    """Resized, cropped, stacked and normalised; float32 [N, C, H, W]."""
    transform = image_transform(wanted, training=False)
    pixels = torch.stack([transform(image) for image in images]).float()
    mean, std = (
        torch.tensor([255 * value for value in values]).view(1, -1, 1, 1) for values in (wanted.mean, wanted.std)
    )
    return (pixels - mean) / std


def _image(images: Images, place: int, mode: str) -> Image.Image:
    if isinstance(images, Files):
        return read_image(images.paths[place], mode)
    return _from_pixels(images, place).convert(mode)


def _from_pixels(images: Pixels, place: int) -> Image.Image:
    pixels = images.images[place].permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
