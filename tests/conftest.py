"""Small real things: networks that timm ships for tests, images drawn here, a cache and a store of one's own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image
from torch import nn

from bench.cli import commands as cli
from bench.data.dataset import Pixels, Recipe
from bench.data.feed import Feed
from bench.measuring import latency
from bench.networks import zoo
from bench.networks.zoo import Preprocessing
from bench.training.lab import Lab

settings.register_profile("noisy", deadline=None)
settings.load_profile("noisy")

CLASSES = ("down", "flat", "up")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and on a busy machine they wait for each other."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "cache"


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code, and what it said on either stream."""

    code: int
    out: str
    err: str

    @property
    def mistake(self) -> str:
        """The one line that a user's mistake is told in."""
        assert (self.code, self.out, self.err.count("\n")) == (2, "", 1), self
        return self.err.removeprefix("bench: ").rstrip("\n")


@pytest.fixture
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies of a few rounds, where it is not they that are tested."""
    for name, value in {"ROUNDS": 3, "WARM_UP_ROUNDS": 1, "LARGEST_BATCH": 2}.items():
        monkeypatch.setattr(latency, name, value)


@pytest.fixture
def bench_command(
    quick_timing: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Run `bench` with these words, in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` sets it

    def call(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def make_model() -> Callable[..., nn.Module]:
    """A network with seeded random weights and batch-norm statistics that are not 0 and 1."""

    def make(name: str = "resnet20", classes: int = 4, channels: int = 3, size: int | None = None) -> nn.Module:
        torch.manual_seed(0)
        model = zoo.create_model(name, classes, channels, image_size=size)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
        return model.eval()

    return make


@pytest.fixture
def make_lab() -> Callable[..., Lab]:
    """A laboratory with 48 random images of 4 classes, and 16 held out."""

    def make(epochs: float = 0.0, seed: int = 0, size: int = 32, channels: int = 3) -> Lab:
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
        return Lab(feeds[0], epochs=epochs, seed=seed, tuning=feeds[1])

    return make


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ramps that go down, stay or go up, in noise: 3 classes, 40 training and 10 test images each, 32x32 PNG."""
    root = tmp_path_factory.mktemp("data") / "ramps"
    generator = torch.Generator().manual_seed(2)
    ramp = torch.linspace(-80, 80, 32).expand(3, 32, 32)
    for part, count in (("train", 40), ("test", 10)):
        for slope, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                noise = 20 * torch.randn(3, 32, 32, generator=generator)
                pixels = (128 + (slope - 1) * ramp + noise).clamp(0, 255).byte()
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    return root
