"""What a dataset is: named classes, three splits, one training recipe, and a digest of its content."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from bench.system.errors import BenchError

Official = Literal["train", "test"]
Part = Literal["train", "tuning", "test"]

TUNING_SEED = 0
TUNING_SHARE = 1 / 12
TUNING_MOST = 10_000


@dataclass(frozen=True)
class Recipe:
    """How every network is trained on a dataset: one optimiser and one schedule, the same for all methods.

    SGD with Nesterov momentum; the learning rate rises linearly to its peak and falls to zero along a cosine.
    `epochs` is the length of a baseline that nobody trained deliberately; `lr` its peak learning rate,
    `finetune_lr` that of every training after compression.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    finetune_lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_padding: int = 4
    flip: bool = True


@dataclass(frozen=True)
class Pixels:
    """Small images, decoded: `images` uint8 [N, C, H, W], `labels` int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Pixels:
        return Pixels(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Files:
    """Large images, left on disk until they are needed: `paths` of length N, `labels` int64 [N]."""

    paths: tuple[Path, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Files:
        return Files(tuple(self.paths[i] for i in indices.tolist()), self.labels[indices])


Images = Pixels | Files


class Dataset(ABC):
    """A dataset plugin. Subclasses set the attributes below in `open` and say how to `load` the two official parts.

    `input_shape` is (channels, height, width) as a network sees it; `mean` and `std` are per channel, of pixels in
    [0, 1]. `title` is the name results are filed under; it differs from `name` where one plugin opens many datasets.
    """

    name: ClassVar[str]
    title: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: Recipe
    imagenet_classes: bool = False
    """Whether class i is ImageNet-1k's class i, so that a network trained on ImageNet can be judged as it is."""
    parts: tuple[Official, ...] = ("train", "test")
    """The official parts there are; a folder may have a test part alone."""

    @classmethod
    @abstractmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        """Open what the command line names.

        `argument` is what follows the colon in `folder:PATH` (None without a colon), `root` is `--data-root`
        (None: the plugin's own place, below `bench.system.cache.cache_dir()` for downloads).
        """

    @abstractmethod
    def load(self, part: Official) -> Images:
        """The official training or test images; a BenchError where the dataset has no such part."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of the content; the default reads every part there is."""
        digest = hashlib.sha256(repr((self.classes, self.input_shape)).encode())
        for part in self.parts:
            digest.update(content_digest(self._loaded(part)).encode())
        return digest.hexdigest()[:16]

    def split(self, part: Part) -> Images:
        """One of three disjoint parts; `tuning` is cut from the training images by a fixed seed."""
        if part == "test":
            return self._loaded("test")
        images = self._loaded("train")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(TUNING_SEED))
        tuning = min(max(1, round(len(images) * TUNING_SHARE)), TUNING_MOST, len(images) - 1)
        return images.subset(order[:tuning] if part == "tuning" else order[tuning:].sort().values)

    def load_any(self) -> Images:
        """Whichever part there is, to see what kind of images the dataset has."""
        return self._loaded(self.parts[0])

    def _loaded(self, part: Official) -> Images:
        loaded: dict[str, Images] = self.__dict__.setdefault("_parts", {})
        if part not in loaded:
            loaded[part] = self.load(part)
        return loaded[part]


def content_digest(images: Images) -> str:
    """SHA-256 of decoded pixels and labels; of names, sizes and labels where images stay on disk."""
    digest = hashlib.sha256(images.labels.numpy().tobytes())
    if isinstance(images, Pixels):
        digest.update(images.images.contiguous().numpy().data)
    else:
        for path in images.paths:
            digest.update(f"{path.parent.name}/{path.name}:{file_size(path)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def file_size(path: Path) -> int:
    """Bytes; a BenchError for a file that is gone, or a link to nowhere."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise BenchError(f"image {path} cannot be read: {error.strerror}") from error
