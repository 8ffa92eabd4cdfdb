"""Fixtures: small networks with seeded random weights, and a lab with random images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.data.dataset import Pixels, Recipe
from bench.data.feed import Feed
from bench.networks import zoo
from bench.networks.zoo import Preprocessing
from bench.training.lab import Lab
from bench.training.resuming import Checkpoints


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """One torch thread: networks this small gain nothing from more, and threads wait for each other."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture
def make_model() -> Callable[..., nn.Module]:
    """A network with seeded random weights and batch-norm statistics that are not 0 and 1."""

    def make(name: str = "resnet20", classes: int = 4, channels: int = 3, size: int | None = None) -> nn.Module:
        torch.manual_seed(0)
        model = zoo.create_model(name, classes, channels, image_size=size)
        for module in model.modules():
            if (
                isinstance(module, nn.BatchNorm2d)
                and module.running_mean is not None
                and module.running_var is not None
            ):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
        return model.eval()

    return make


@pytest.fixture
def make_lab() -> Callable[..., Lab]:
    """A lab with 48 random images of 4 classes to train on, and 16 held out; `checkpoints` is a folder for them."""

    def make(
        epochs: float = 0.0, seed: int = 0, size: int = 32, channels: int = 3, checkpoints: Path | None = None
    ) -> Lab:
        generator = torch.Generator().manual_seed(1)
        images = torch.randint(0, 256, (64, channels, size, size), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 4, (64,), generator=generator)
        shape = (channels, size, size)
        recipe = Recipe(epochs=1, batch_size=16)
        plain = Preprocessing(shape, (0.5,) * channels, (0.25,) * channels)
        feeds = [
            Feed(Pixels(images[part], labels[part]), plain, torch.device("cpu"), recipe)
            for part in (slice(48), slice(48, 64))
        ]
        kept = Checkpoints(checkpoints, "test", "test") if checkpoints else None
        return Lab(feeds[0], epochs=epochs, seed=seed, tuning=feeds[1], checkpoints=kept)

    return make
