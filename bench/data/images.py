"""Labelled images: decoded into memory (`Pixels`), or files that are read when they are needed (`Files`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from bench.system.errors import BenchError

INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Pixels:
    """Small images in memory: `images` uint8 [N, C, H, W] with levels from 0 to 255, `labels` integers [N].

    Labels are stored as int64. Raises BenchError for tensors of another type or shape: float images, for example,
    would be scaled a second time.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) or self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise BenchError(f"Pixels: images are {described(self.images)}, expected a uint8 tensor [N, C, H, W]")
        object.__setattr__(self, "labels", checked_labels("Pixels", self.labels, len(self.images)))

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Pixels:
        """The images at `indices` (int64 [M] or bool [N]), copied."""
        return Pixels(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Files:
    """Large images on disk: `paths` of N files, `labels` integers [N], stored as int64.

    No file is looked at until it is needed. Raises BenchError where the labels do not fit the paths.
    """

    paths: tuple[Path, ...]
    labels: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", checked_labels("Files", self.labels, len(self.paths)))

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Files:
        """The images at `indices` (int64 [M])."""
        return Files(tuple(self.paths[i] for i in indices.tolist()), self.labels[indices])

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each file; BenchError for a file that is gone, or a link to nowhere."""
        return tuple(map(file_size, self.paths))


Images = Pixels | Files


def checked_labels(kind: str, labels: Tensor, count: int) -> Tensor:
    """Labels as int64 [count]; BenchError if they are not integers, or not `count` of them."""
    if not isinstance(labels, Tensor) or labels.dtype not in INTEGERS or labels.dim() != 1:
        raise BenchError(f"{kind}: labels are {described(labels)}, expected an integer tensor [N]")
    if len(labels) != count:
        raise BenchError(f"{kind}: {count} images, but {len(labels)} labels; expected one label per image")
    return labels.long()


def described(value: object) -> str:
    """`float32 [10, 3, 32, 32]` for a tensor, `an ndarray` for anything else."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def file_size(path: Path) -> int:
    """Size in bytes; BenchError for a file that is gone, or a link to nowhere."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise BenchError(f"image {path} cannot be read: {error.strerror}") from error
