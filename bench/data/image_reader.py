"""Reading one image file: which formats are read, how an image is turned upright, and errors for broken files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps

from bench.system.errors import BenchError

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")
"""The formats that are read. For others, such as PostScript, Pillow would start other programs."""
ORIENTATION = 0x0112


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The image in a file; it is decoded when its pixels are used.

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
    """The decoded image in Pillow's `mode`; a BenchError names a file that cannot be decoded."""
    with open_image(path) as image:
        return upright(image).convert(mode)
