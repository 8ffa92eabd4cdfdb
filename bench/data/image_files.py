"""Batches of images that stay on disk: read by worker processes, prepared by timm, normalised on a device."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from bench.data.dataset import Files
from bench.data.image_reader import read_image
from bench.networks.zoo import Preprocessing, image_transform
from bench.system.errors import BenchError

MOST_WORKERS = 8
MODES = {1: "L", 3: "RGB"}
SHARED_MEMORY = Path("/dev/shm")
BATCHES_AHEAD = 3
"""Batches of each worker that lie in shared memory: two read ahead, and one on its way."""
SECONDS_FOR_A_BATCH = 600


def file_batches(
    images: Files,
    preprocessing: Preprocessing,
    device: torch.device,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    skip: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches on `device`: normalised float32 [B, C, H, W], channels last, and labels int64 [B].

    Without a generator: every image once, in order, prepared as the network's authors tested it. With a generator:
    shuffled, augmented images in whole batches, which depend only on the generator's state and not on the number of
    workers; the first `skip` batches are left out. A BenchError names a file that cannot be read.
    """
    loader = DataLoader(
        Reader(images, preprocessing, None if generator is None else draw_seed(generator)),
        batch_sampler=batch_indices(len(images), batch_size, generator)[skip:],
        collate_fn=collate,
        num_workers=(processes := workers(batch_size * prod(preprocessing.size))),
        timeout=SECONDS_FOR_A_BATCH if processes else 0,
        pin_memory=device.type == "cuda",
        # A loader draws its workers' seeds from torch's global generator unless it is given another.
        generator=torch.Generator(),
    )
    # Scaled in Python and applied in this order, as in timm's loader: the numbers are timm's to the last bit.
    mean, std = (
        torch.tensor([value * 255 for value in values], device=device).view(1, -1, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 dislikes that workers are forked
        batches = iter(loader)
    for batch in _told(batches):
        if isinstance(batch, str):
            raise BenchError(batch)
        pixels, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        floats = pixels.to(torch.float32, memory_format=torch.channels_last)
        yield floats.sub_(mean).div_(std), labels


def draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


def batch_indices(count: int, batch_size: int, generator: torch.Generator | None) -> list[list[int]]:
    """Which images make up each batch. In training a smaller last batch is left out, unless it is the only one."""
    order = (torch.arange(count) if generator is None else torch.randperm(count, generator=generator)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return batches[:-1] if generator is not None and count > batch_size and count % batch_size else batches


def workers(batch_bytes: int) -> int:
    """Number of reading processes: one for each CPU of this process, at most 8, and no more than fit in shared memory.

    Their batches lie in /dev/shm, which is small in a container (64 MB by default); a worker that finds it full waits
    or dies. `batch_bytes` is the size of one batch.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = min(MOST_WORKERS, allowed)
    if not SHARED_MEMORY.is_dir():
        return wanted
    room = shutil.disk_usage(SHARED_MEMORY).free // (BATCHES_AHEAD * batch_bytes)
    if room < wanted:
        warnings.warn(
            f"{SHARED_MEMORY} has room for the batches of {room} reading processes, not {wanted}; "
            "reading is slower (docker run --shm-size makes it larger)",
            stacklevel=2,
        )
    return min(wanted, room)


def _told(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches; BenchError if a worker died or did not answer in time."""
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise BenchError(
            f"reading images failed: {reason}; shared memory ({SHARED_MEMORY}) may be full, or a disk not answering"
        ) from error


class Reader(torch.utils.data.Dataset[tuple[Tensor, Tensor] | str]):
    """What a worker process reads: image i as uint8 [C, H, W] with its label, or an error message about its file.

    With a seed, images are augmented, each with its own random numbers.
    """

    def __init__(self, images: Files, preprocessing: Preprocessing, seed: int | None) -> None:
        self.images = images
        self.mode = MODES[preprocessing.size[0]]
        self.seed = seed
        self.transform: Callable[[Image.Image], Tensor] = image_transform(preprocessing, training=seed is not None)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor] | str:
        if self.seed is not None:
            random.seed(self.seed + index)
            torch.default_generator.manual_seed(self.seed + index)
        try:
            image = read_image(self.images.paths[index], self.mode)
        except BenchError as error:
            return str(error)  # an exception would reach the main process as a worker's whole traceback
        return self.transform(image), self.images.labels[index]


def collate(samples: list[tuple[Tensor, Tensor] | str]) -> tuple[Tensor, Tensor] | str:
    """A batch, or the first thing that is wrong in it."""
    good = [sample for sample in samples if not isinstance(sample, str)]
    if len(good) < len(samples):
        return next(sample for sample in samples if isinstance(sample, str))
    pixels, labels = zip(*good, strict=True)
    return torch.stack(pixels), torch.stack(labels)
