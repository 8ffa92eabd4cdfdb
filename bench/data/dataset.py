"""What a dataset is: named classes, three splits, one training recipe, and a digest of its content."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from bench.data import contract
from bench.data.images import Files as Files
from bench.data.images import Images as Images
from bench.data.images import Pixels as Pixels
from bench.data.recipe import Recipe as Recipe
from bench.data.remarks import remarks_on

Official = Literal["train", "test"]
Part = Literal["train", "tuning", "test"]

TUNING_SEED = 0
TUNING_SHARE = 1 / 12
TUNING_MOST = 10_000


class Dataset(ABC):
    """A dataset plugin. Subclasses set the attributes below, and say how to `open` it and to `load` its two parts.

    Attributes are set on the class or in `open`. They and the images are checked before the first image is used; if
    something is wrong, a BenchError names the plugin.
    """

    name: ClassVar[str]
    downloads: ClassVar[bool] = False
    """Whether it is fetched from the network if `open` gets no root."""
    title: str
    """The name that results are filed under; it differs from `name` if one plugin opens many datasets."""
    classes: tuple[str, ...]
    """The name of each class; label i is class i."""
    input_shape: tuple[int, int, int]
    """(channels, height, width) of an image as a network sees it."""
    mean: tuple[float, ...]
    """One number per channel, of pixels in [0, 1]."""
    std: tuple[float, ...]
    """One number per channel above 0, of pixels in [0, 1]."""
    recipe: Recipe
    imagenet_classes: bool = False
    """Whether class i is ImageNet-1k's class i, so that a network trained on ImageNet can be tested as it is."""
    parts: tuple[Official, ...] = ("train", "test")
    """The official parts that exist; a folder may have only a test part."""
    notes: tuple[str, ...] = ()
    """What a reader of results must know about the data, such as files that were left out; kept in every record."""

    @property
    def baselines(self) -> Dataset:
        """The dataset whose baselines are compressed: this one, unless it is a view of another."""
        return self

    @classmethod
    @abstractmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        """Open a dataset.

        `argument` is what follows the colon in `folder:PATH` (None without a colon). `root` is the folder that the
        user named for the data (None: the plugin's own place, below `bench.cache_dir()` for downloads). Raises
        BenchError for an argument or a folder that cannot be used.
        """

    @abstractmethod
    def load(self, part: Official) -> Images:
        """The official training or test images; BenchError if the dataset has no such part."""

    def check(self) -> None:
        """Check the attributes and the images of every part; BenchError for what breaks the contract."""
        contract.check_attributes(self)
        kinds = {type(self.loaded(part)).__name__ for part in self.parts}
        if len(kinds) > 1:
            raise contract.broken(type(self), "one part is Pixels and the other Files, expected both of one kind")

    @cached_property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of the content; the default reads every part that exists."""
        digest = hashlib.sha256(repr((self.classes, self.input_shape)).encode())
        for part in self.parts:
            digest.update(content_digest(self.loaded(part)).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of results must know: the plugin's notes, and remarks on its images."""
        train = self.loaded("train") if "train" in self.parts else None
        trained = None if train is None else train.labels[self._places(train, "train")]
        return (*self.notes, *remarks_on(train, trained, self.loaded("test"), len(self.classes)))

    def split(self, part: Part) -> Images:
        """One of three disjoint parts; `tuning` is cut from the training images by a fixed seed."""
        if part == "test":
            return self.loaded("test")
        images = self.loaded("train")
        return images.subset(self._places(images, part))

    @staticmethod
    def _places(images: Images, part: Literal["train", "tuning"]) -> Tensor:
        """Which of the official training images belong to this part."""
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(TUNING_SEED))
        tuning = min(max(1, round(len(images) * TUNING_SHARE)), TUNING_MOST, len(images) - 1)
        return order[:tuning] if part == "tuning" else order[tuning:].sort().values

    def load_any(self) -> Images:
        """Any part that exists, to see what kind of images the dataset has."""
        return self.loaded(self.parts[0])

    def loaded(self, part: Official) -> Images:
        """What `load` returns, checked, and loaded once."""
        loaded: dict[str, Images] = self.__dict__.setdefault("_parts", {})
        if part not in loaded:
            contract.check_attributes(self)
            images = contract.guarded(type(self), "load", lambda: self.load(part))
            contract.check_part(self, part, images)
            loaded[part] = images
        return loaded[part]


def content_digest(images: Images) -> str:
    """SHA-256 of decoded pixels and labels; of names, sizes and labels where images stay on disk."""
    digest = hashlib.sha256(images.labels.numpy().tobytes())
    if isinstance(images, Pixels):
        digest.update(images.images.contiguous().numpy().data)
    else:
        for path, size in zip(images.paths, images.sizes, strict=True):
            digest.update(f"{path.parent.name}/{path.name}:{size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
