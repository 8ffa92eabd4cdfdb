"""Batches of normalised images on a device: whole in memory where they are small, read by timm where they are large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data.dataset import Images, Pixels, Recipe
from bench.data.image_files import file_batches
from bench.networks.zoo import Preprocessing

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Feed:
    """One part of a dataset as a network sees it; batches are float32 [B, C, H, W] and int64 [B] on `device`."""

    images: Images
    preprocessing: Preprocessing
    device: torch.device
    recipe: Recipe

    def __len__(self) -> int:
        return len(self.images)

    @property
    def steps(self) -> int:
        """Batches in one `epoch`."""
        return max(1, len(self) // self.recipe.batch_size)

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[Batch]:
        """Shuffled, augmented batches of the recipe's size; a smaller last batch is left out.

        The first `skip` batches are drawn like the others, and not given.
        """
        if not isinstance(self.images, Pixels):
            size = self.recipe.batch_size
            yield from file_batches(self.images, self.preprocessing, self.device, size, generator=generator, skip=skip)
            return
        resident, labels = self._resident
        order = torch.randperm(len(self), generator=generator).to(self.device)
        for step in range(self.steps):
            index = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
            pixels = augment(resident[index], self.recipe, generator)
            if step >= skip:
                yield self.normalise(pixels), labels[index]

    def once(self, batch_size: int = 256) -> Iterator[Batch]:
        """Every image once, in order, as it is."""
        if not isinstance(self.images, Pixels):
            yield from file_batches(self.images, self.preprocessing, self.device, min(batch_size, 64))
            return
        resident, labels = self._resident
        for start in range(0, len(self), batch_size):
            part = slice(start, start + batch_size)
            yield self.normalise(resident[part]), labels[part].clone()  # a view would let a method change the dataset

    def batches(self, batch_size: int = 256) -> int:
        """How many batches `once` gives."""
        return ceil(len(self) / (batch_size if isinstance(self.images, Pixels) else min(batch_size, 64)))

    def normalise(self, pixels: Tensor) -> Tensor:
        """The images that a network gets, from pixels uint8 [B, C, H, W]; resized if it wants another size."""
        mean, std = self._scale
        levels, size = pixels.float(), self.preprocessing.size[1:]
        if levels.shape[2:] != size:
            levels = F.interpolate(levels, size, mode="bilinear", antialias=True).round().clamp(0, 255)
        return ((levels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def levels(self, batch: Tensor) -> Tensor:
        """The pixels that a batch was made of: whole levels from 0 to 255, as float32 [B, C, H, W]."""
        mean, std = self._scale
        return ((batch * std + mean) * 255).round()

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, device=self.device) for v in (self.preprocessing.mean, self.preprocessing.std))
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    @cached_property
    def _resident(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.images, Pixels)
        return self.images.images.to(self.device), self.images.labels.to(self.device)


def augment(pixels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Random crop after zero padding, random horizontal flip; uint8 [B, C, H, W] to the same."""
    count, _, height, width = pixels.shape
    pad, device = recipe.crop_padding, pixels.device
    if pad:
        shift = torch.randint(0, 2 * pad + 1, (2, count), generator=generator).to(device)
        # Every possible crop is a view of the padded images; only the chosen ones are copied.
        crops = torch.nn.functional.pad(pixels, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        pixels = crops[torch.arange(count, device=device), :, shift[0], shift[1]]
    if recipe.flip:
        flip = (torch.rand(count, generator=generator) < 0.5).to(device)
        pixels = torch.where(flip[:, None, None, None], pixels.flip(3), pixels)
    return pixels
