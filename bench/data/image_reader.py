"""One image of a file: which formats are read, how it is turned upright, and how a file that is broken is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps

from bench.system.errors import BenchError

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""Pillow would otherwise start other programs for formats such as PostScript."""
ORIENTATION = 0x0112


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The image in a file, which is decoded when its pixels are asked for.

    Whatever a decoder raises in the block becomes a BenchError that names the file.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except Exception as error:  # a decoder may raise anything when a file is broken
        raise BenchError(f"image {path} cannot be read: {error or type(error).__name__}") from error


def upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned or mirrored as the camera noted (EXIF orientation).

    ValueError for more than 8 bits a channel, which Pillow would clip to white.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError("more than 8 bits a channel")
    image.load()
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def read_image(path: Path, mode: str) -> Image.Image:
    """The decoded image in Pillow's `mode`; a BenchError that names a file nobody can decode."""
    with open_image(path) as image:
        return upright(image).convert(mode)
