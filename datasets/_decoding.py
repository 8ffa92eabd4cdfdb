"""Small image files, decoded once: into memory, and into the cache for the next time."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench import BenchError, bar, cache_dir, open_image, upright

LARGEST = 64
GREY = ("1", "L", "LA")

Decoded = dict[str, Tensor]


def decoded(title: str, parts: dict[str, tuple[Path, ...]]) -> Decoded | None:
    """Images uint8 [N, C, H, W] of each part, or None where any is larger than 64 pixels.

    All get the size of the first; C is 1 if every image is grey, otherwise 3.
    """
    size = read_size(next(iter(parts.values()))[0])
    if max(size) > LARGEST:  # nearly every set of large images ends here
        return None
    cached = cache_dir() / "decoded" / f"{title}-{listing_digest(parts)}.pt"
    images = load(cached)
    if images is None:
        images = decode(title, parts, size)
        if images is not None:
            save(images, cached)
    return images


def listing_digest(parts: dict[str, tuple[Path, ...]]) -> str:
    """A digest (16 hex digits) of what the file system says: each file's path, size and times of change."""
    digest = hashlib.sha256(b"upright")  # raised when images are decoded in another way
    for part, paths in parts.items():
        for path in paths:
            try:
                status = os.stat(path)
            except OSError as error:  # a link to nowhere
                raise BenchError(f"image {path} cannot be read: {error}") from error
            line = f"{part} {path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def decode(title: str, parts: dict[str, tuple[Path, ...]], size: tuple[int, int]) -> Decoded | None:
    """Like `decoded`, from the files; `size` is width and height."""
    images: Decoded = {}
    modes: set[str] = set()
    with bar(f"decoding {title}", sum(map(len, parts.values()))) as advance:
        for part, paths in parts.items():
            stack = np.empty((len(paths), 3, size[1], size[0]), dtype=np.uint8)
            for pixels, path in zip(stack, paths, strict=True):
                image = read_small(path)
                if image is None:
                    return None
                modes.add(image.mode)
                sized = image if image.size == size else image.resize(size)
                pixels[:] = np.asarray(sized.convert("RGB")).transpose(2, 0, 1)
                advance(1)
            images[part] = torch.from_numpy(stack)
    channels = 1 if modes == {"L"} else 3
    return {part: stack[:, :channels].contiguous() for part, stack in images.items()}


def read_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, after turning upright; for an image larger than 64 pixels, as it is stored."""
    with open_image(path) as image:
        return image.size if max(image.size) > LARGEST else upright(image).size


def read_small(path: Path) -> Image.Image | None:
    """The image as `L` or `RGB`, or None if it is larger than 64 pixels."""
    with open_image(path) as image:
        return None if max(image.size) > LARGEST else in_colour_or_grey(upright(image))


def in_colour_or_grey(image: Image.Image) -> Image.Image:
    return image.convert("L" if image.mode in GREY else "RGB")


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]; a channel that never varies has deviation 1."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for chunk in torch.split(images, 4096):  # `bincount` makes eight bytes of each pixel
        counts += torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in chunk.unbind(1)])
    shares = counts / counts[0].sum()
    values = torch.arange(256, dtype=torch.float64) / 255
    means = shares @ values
    deviations = (shares * (values - means[:, None]) ** 2).sum(1).sqrt()
    return tuple(means.tolist()), tuple(deviation or 1.0 for deviation in deviations.tolist())


def load(cached: Path) -> Decoded | None:
    """What `save` kept; None if there is nothing, or the file is damaged."""
    try:
        images: Decoded = torch.load(cached, weights_only=True)
    except Exception:  # torch raises many kinds of errors for a damaged file; decoding again repairs it
        return None
    return images


def save(images: Decoded, cached: Path) -> None:
    """Keep the pixels, completely or not at all. If the disk is full, the next run only has to decode them again."""
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cached.parent, prefix=f".{cached.name}.") as partial:
            torch.save(images, Path(partial) / "whole")
            (Path(partial) / "whole").replace(cached)
    except (OSError, RuntimeError):
        return
