"""Checkpoints of trainings: what goes on from them, what starts anew, and to the same bits in either case."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.data.dataset import Recipe
from bench.data.feed import Feed
from bench.plugins.registry import open_dataset
from bench.system import files
from bench.testing.test_method_contract import MORE_NETWORKS, NETWORKS
from bench.training import checkpoint, loop, resuming
from bench.training.lab import Lab

from .killed_trainings import Make, MakeLab, killed, twice
from .killed_trainings import attempt as attempt

SETTINGS = (
    "dynamic(rate=0.5, granularity=weight)",
    "dynamic(rate=0.3, decorrelation=0.7, tied=True)",
    "taylor(steps=3)",
    "taylor(steps=2, criterion=random, final=0)",
    "l1+tic(k=4)+quantize(bits=8)",
    "scratch(of=magnitude)",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_step_is_made_twice_and_the_file_is_the_same(setting: str, attempt: Any) -> None:
    whole, steps = attempt(setting, folder="whole")
    for kill in (2, steps):
        killed(attempt, setting, kill, folder=f"{kill}")
        assert attempt(setting, folder=f"{kill}") == (whole, steps - kill + 1)


def test_a_training_may_be_killed_again_and_again(attempt: Any) -> None:
    whole, steps = attempt(twice, folder="whole")
    for _ in range(steps - 1):  # one update in each attempt
        killed(attempt, twice, 2)
    assert attempt(twice) == (whole, 1)
    assert attempt(twice) == (whole, 0), "everything is trained"


@pytest.mark.parametrize(
    "network", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_NETWORKS)]
)
def test_networks_of_every_kind_go_on(network: str, attempt: Any) -> None:
    options = {"network": network, "size": 64, "epochs": 1}
    whole, steps = attempt("none(train=True)", folder="whole", **options)
    killed(attempt, "none(train=True)", steps, **options)
    assert attempt("none(train=True)", **options) == (whole, 1)


class Chance(nn.Module):
    """Draws from all global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 4)

    def forward(self, images: Tensor) -> Tensor:
        noise = random.random() + np.random.standard_normal() + torch.rand(())
        return self.layer(images.flatten(1)) * noise


def test_random_numbers_of_the_network_go_on(attempt: Any) -> None:
    found: list[dict[str, Tensor]] = []

    def compress(model: nn.Module, lab: Lab) -> nn.Module:
        ours = Chance()
        lab.fit(ours)
        found.append(ours.state_dict())
        return model

    _, steps = attempt(compress, folder="whole")
    killed(attempt, compress, 5)
    assert attempt(compress)[1] == steps - 4
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def spoil(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-10])


def scramble(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"\x00" * 100)


def swap(folder: Path) -> None:
    """Another tensor under a name of the network, with the right key and beginning."""
    for path in folder.iterdir():
        kept = checkpoint.Checkpoint.read(path, "test")
        assert kept is not None
        name = next(name for name in kept.tensors if name.startswith(checkpoint.MODEL))
        kept.tensors[name] = torch.zeros(7)
        kept.write(path, "test")


def lie(folder: Path) -> None:
    for path in folder.iterdir():
        kept = checkpoint.Checkpoint.read(path, "test")
        assert kept is not None
        checkpoint.Checkpoint(kept.tensors, kept.facts | {"step": 1e6, "python_noise": "none"}).write(path, "test")


def rename(folder: Path) -> None:
    for path in folder.iterdir():
        kept = checkpoint.Checkpoint.read(path, "test")
        assert kept is not None
        kept.write(path, "of another version")


@pytest.mark.parametrize("damage", [spoil, scramble, swap, lie, rename])
def test_what_is_damaged_or_foreign_is_told_once_and_starts_anew(
    damage: Callable[[Path], None], attempt: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, steps = attempt(twice, folder="whole")
    killed(attempt, twice, steps)
    capsys.readouterr()
    damage(tmp_path / "kept")
    assert attempt(twice) == (whole, steps)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "is damaged, or other code or another machine wrote it" in told
    assert attempt(twice) == (whole, 0), "what was written since is good"


def test_a_training_that_began_otherwise_is_not_taken_up(attempt: Any, capsys: pytest.CaptureFixture[str]) -> None:
    whole, steps = attempt("random", seed=1, folder="whole")
    killed(attempt, "random", steps, seed=0)
    assert attempt("random", seed=1) == (whole, steps)
    assert "starts anew" in capsys.readouterr().err


def test_a_full_disk_is_told_once_and_does_no_harm(
    attempt: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    whole, steps = attempt(twice, folder="whole")
    capsys.readouterr()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    assert attempt(twice) == (whole, steps)
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "(No space left on device); the trial goes on without" in told
    assert not any((tmp_path / "kept").iterdir())


def test_a_short_training_writes_nothing(attempt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resuming, "SECONDS", 60.0)
    attempt(twice)
    assert not (tmp_path / "kept").exists()


def test_a_checkpoint_is_due_after_a_minute_of_training_and_then_all_are_written(
    make_model: Make, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock, schedule = [0.0], loop.one_cycle
    written: list[list[str]] = []

    def one_cycle(progress: float) -> float:
        written.append(sorted(path.name.removesuffix(".safetensors") for path in (tmp_path / "kept").glob("*")))
        clock[0] += 13
        return schedule(progress)

    monkeypatch.setattr(resuming, "working_seconds", lambda: clock[0])
    monkeypatch.setattr(loop, "one_cycle", one_cycle)
    lab, model = make_lab(epochs=4, checkpoints=tmp_path / "kept"), make_model()
    for _ in range(4):
        clock[0] += 1000  # time without training does not count
        lab.fit(model, 1)
    assert written == [[]] * 5 + [["1", "2-unfinished"]] * 5 + [["1", "2", "3", "4-unfinished"]] * 2
    assert lab._checkpoints is not None
    lab._checkpoints.close()
    assert sorted(path.stem for path in (tmp_path / "kept").iterdir()) == ["1", "2", "3", "4"]


def test_images_in_files_go_on_in_the_middle_of_a_pass(image_folder: Path) -> None:
    from bench.trials.baseline import load_task

    dataset = open_dataset(f"folder:{image_folder}")
    task = load_task("resnet20", dataset, "scratch", torch.device("cpu"))
    feed = Feed(dataset.split("train"), task.preprocessing, torch.device("cpu"), Recipe(epochs=1, batch_size=16))
    whole = list(feed.epoch(torch.Generator().manual_seed(3)))
    generator = torch.Generator().manual_seed(3)
    rest = list(feed.epoch(generator, skip=2))
    assert len(rest) == len(whole) - 2 > 0
    assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in zip(rest, whole[2:], strict=True))
