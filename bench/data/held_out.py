"""A dataset that is tested on the images held out of its training images, to choose among settings."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, Self

from bench.data.dataset import Dataset, Images, Official
from bench.system.errors import BadArgument

PREFIX = "held-out"
"""What its title and its specification begin with, as in `held-out:fashion-mnist`."""


class HeldOut(Dataset):
    """Training images, recipe and baselines of `whole`; test images are its tuning images, and its own are not seen.

    Methods may rank filters by these images, but none is trained on them. BadArgument if there are no training images.
    """

    name: ClassVar[str] = PREFIX

    def __init__(self, whole: Dataset) -> None:
        self.whole = whole
        self.title = f"{PREFIX}:{whole.title}"
        if "train" not in whole.parts:
            raise BadArgument("dataset", self.title, f"{whole.title} has no training images to hold images out of")
        self.classes, self.input_shape = whole.classes, whole.input_shape
        self.mean, self.std = whole.mean, whole.std
        self.recipe, self.imagenet_classes = whole.recipe, whole.imagenet_classes
        self.parts: tuple[Literal["train", "test"], ...] = ("train", "test")

    @property
    def baselines(self) -> Dataset:
        return self.whole

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        raise BadArgument("dataset", f"{PREFIX}:{argument}", "made from an open dataset by `HeldOut(dataset)`")

    def load(self, part: Official) -> Images:
        return self.loaded(part)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(f"{PREFIX} {self.whole.digest}".encode()).hexdigest()[:16]

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Those of the whole, and what the test images are."""
        count = len(self.whole.split("tuning"))
        return (*self.whole.remarks, f"tested on {count:,} images that were held out of the training images")

    def loaded(self, part: Official) -> Images:
        return self.whole.split("tuning") if part == "test" else self.whole.loaded("train")
