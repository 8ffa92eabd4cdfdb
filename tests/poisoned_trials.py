"""Trials of a method that does something to the process, and of one that trains, to see whether it suffered."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bench.data.dataset import Dataset, Pixels, Recipe
from bench.isolation import snapshot
from bench.isolation.snapshot import Snapshot
from bench.measuring import latency, rounds
from bench.plugins.method import Method
from bench.plugins.setting import Pipeline, parse
from bench.records.record import Record
from bench.records.store import PREDICTIONS
from bench.trials import ruler as rulers
from bench.trials.baseline import load_task
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial, run_trial

CPU = torch.device("cpu")
TIMES = ("latency", "throughput", "other_load", "compress_seconds", "fit_seconds", "started_at", "duration_seconds")

Deed = Callable[["Poison", nn.Module, Any], object]
kept: list[Any] = []
"""Keeps modes and contexts alive that a method entered and never left."""


@dataclass(frozen=True, kw_only=True)
class Poison(Method):
    """Does something to the process, and returns the model as it is."""

    name: ClassVar[str] = "poison"
    control: ClassVar[bool] = True
    deeds: ClassVar[list[Deed]] = []

    def compress(self, model: nn.Module, lab: Any) -> nn.Module:
        self.deeds[-1](self, model, lab)
        return model


class Noise(Dataset):
    """Images without a meaning: 24 to train on, of which 2 are held out, and 8 to test."""

    name: ClassVar[str] = "noise"
    title, classes = "noise", ("a", "b", "c")
    input_shape, mean, std, recipe = (3, 16, 16), (0.5,) * 3, (0.25,) * 3, Recipe(epochs=1, batch_size=8)

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        return cls()

    def load(self, part: str) -> Pixels:
        count, generator = 24 if part == "train" else 8, torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return Pixels(images, torch.arange(count) % 3)


def new_ruler() -> Ruler:
    return Ruler(load_task("resnet20", Noise(), "scratch", CPU), CPU)


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return new_ruler()


@pytest.fixture(autouse=True)
def intact(quick_timing: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test leaves changed would fail the others, so it is put back and fails this one."""
    monkeypatch.setattr(snapshot, "_spoiled", [])
    before = Snapshot.now()
    yield
    changes = before.restore()
    for process in kept:
        if isinstance(process, subprocess.Popen):
            process.wait(10)
    kept.clear()
    assert not changes.lost


def poison(ruler: Ruler, folder: Path, deed: Deed, epochs: float = 0) -> Record:
    folder.mkdir()
    Poison.deeds[:] = [deed]
    return run_trial(Trial(ruler.task, Pipeline((Poison(),)), 0, epochs, CPU), ruler, folder, "")


def clean(ruler: Ruler, folder: Path) -> dict[str, Any]:
    """Everything about a trial that trains, times aside."""
    folder.mkdir()
    record = run_trial(Trial(ruler.task, parse("l1(rate=0.5)")[0], 0, 1, CPU), ruler, folder, "")
    assert record.status == "ok", record.error
    figures = {name: value for name, value in asdict(record).items() if not name.startswith(TIMES)}
    tensors = load_file(folder / "model.safetensors")
    weights = {name: sha256(value.numpy().tobytes()).hexdigest() for name, value in tensors.items()}
    return figures | {"predictions.safetensors": (folder / PREDICTIONS).read_bytes(), "weights": weights}


@pytest.fixture(scope="module")
def untouched(ruler: Ruler, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "ROUNDS", 1)
        patch.setattr(rounds, "WARM_UP_ROUNDS", 1)
        patch.setattr(latency, "LARGEST_BATCH", 2)
        patch.setattr(latency.Timing, "noise", [])
        patch.setattr(rulers, "peak_memory_mb", lambda *_: 12.5)
        return clean(ruler, tmp_path_factory.mktemp("untouched") / "clean")
