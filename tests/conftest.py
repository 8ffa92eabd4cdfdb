"""Small real things: networks that timm ships for tests, images drawn here, a cache and a store of one's own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from PIL import Image

from bench.cli import commands as cli
from bench.execution import choice
from bench.measuring import exclusive, latency, rounds
from bench.system import messages
from bench.testing.fixtures import make_lab as make_lab
from bench.testing.fixtures import make_model as make_model
from bench.testing.fixtures import one_thread as one_thread
from bench.trials import ruler

# Assertions in these are shown in full, as those in tests are.
REWRITTEN = ("browsing", "image_files", "layers_to_execute", "planted_images", "poisoned_trials", "tiny_artifact")
pytest.register_assert_rewrite(*(f"tests.{name}" for name in REWRITTEN))

settings.register_profile("noisy", deadline=None)
settings.load_profile("noisy")

CLASSES = ("down", "flat", "up")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # a worker of pytest-xdist has 80
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


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests do not wait for the timings of a real run."""
    monkeypatch.setattr(exclusive, "lock_folder", lambda: tmp_path / "timing")
    return tmp_path / "timing"


@pytest.fixture(autouse=True)
def no_process_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a process of its own, which takes seconds."""
    monkeypatch.setattr(ruler, "peak_memory_mb", lambda *_: 12.5)


@pytest.fixture
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies of a few rounds that are never called noisy, where it is not they that are tested."""
    monkeypatch.setattr(rounds, "ROUNDS", 1)
    monkeypatch.setattr(rounds, "WARM_UP_ROUNDS", 1)
    monkeypatch.setattr(choice, "LOOKS", (6,))
    monkeypatch.setattr(choice, "WARM_UP_ROUNDS", 1)
    monkeypatch.setattr(latency, "LARGEST_BATCH", 2)
    monkeypatch.setattr(latency.Timing, "noise", [])


SEVERAL = ("--at", "--at-least", "--most")
"""Options of commands that run trials which may be given several times."""


def edited(words: list[str]) -> list[str]:
    """A command that runs trials with the last of several values of an option, as if a person had changed it."""
    if words[:1] not in (["run"], ["train"], ["find"], ["check"]):
        return words
    dropped = set[int]()
    for place, word in enumerate(words):
        if word.startswith("--") and word not in SEVERAL and word in words[place + 1 :]:
            dropped |= {place} if words[place + 1].startswith("--") else {place, place + 1}
    return [word for place, word in enumerate(words) if place not in dropped]


@pytest.fixture
def bench_command(
    quick_timing: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Run `bench` with these words, in this process. An option given again replaces the one before, unless `exactly`
    these words are meant."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` sets it

    def call(*words: object, exactly: bool = False) -> Said:
        monkeypatch.setattr(messages, "_log", messages._Log())  # each command has its own
        texts = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["bench", *(texts if exactly else edited(texts))])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capsys.readouterr())

    return call


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
