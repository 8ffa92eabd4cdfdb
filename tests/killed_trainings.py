"""Trainings that are killed at a chosen update, and tried again with the checkpoints that they left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from bench.encodings import artifact
from bench.encodings.artifact import Architecture
from bench.isolation.randomness import seeded
from bench.plugins.setting import parse
from bench.training import loop, resuming
from bench.training.lab import Lab

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]
Compress = Callable[[nn.Module, Lab], nn.Module]

FOREVER = 10**9


class Killed(BaseException):
    """Ends a training, as a kill does."""


@pytest.fixture
def attempt(make_model: Make, make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train with checkpoints after every step, until the update `kill`: the network's bytes, and the updates made."""
    monkeypatch.setattr(resuming, "SECONDS", 0.0)
    schedule, updates = loop.one_cycle, [0, FOREVER]

    def one_cycle(progress: float) -> float:
        updates[0] += 1
        if updates[0] == updates[1]:
            raise Killed
        return schedule(progress)

    def go(setting: str | Compress, kill: int = FOREVER, folder: str = "kept", **options: Any) -> tuple[bytes, int]:
        updates[:] = [0, kill]
        compress = parse(setting)[0].compress if isinstance(setting, str) else setting
        network = options.pop("network", "resnet20")
        lab = make_lab(**{"epochs": 2} | options, checkpoints=tmp_path / folder)
        with seeded(0):
            model = compress(make_model(network, size=options.get("size")), lab).eval()
        return artifact.dump(model, Architecture(network, 4, 3)), updates[0]

    monkeypatch.setattr(loop, "one_cycle", one_cycle)
    return go


def killed(attempt: Any, *arguments: Any, **options: Any) -> None:
    with suppress(Killed):
        attempt(*arguments, **options)
        raise AssertionError("it was not killed")


def twice(model: nn.Module, lab: Lab) -> nn.Module:
    """Train in two parts."""
    lab.fit(model, lab.remaining / 2)
    lab.fit(model)
    return model
