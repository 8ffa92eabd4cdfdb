"""Baselines at image sizes that were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.data.dataset import Dataset, Pixels
from bench.data.feed import Feed
from bench.networks import zoo
from bench.plugins.registry import open_dataset
from bench.records.store import Store
from bench.trials import baseline
from bench.trials.baseline import cached_path, load_task, train_baseline

from .transfer_images import dataset as dataset
from .transfer_images import photographs as photographs

CPU = torch.device("cpu")
Say = Callable[..., Any]


@pytest.mark.parametrize("value", ["0", "-1", "7", "4097", str(10**9), "-" + "9" * 30])
def test_a_size_that_images_cannot_have_is_one_line(value: str, bench_command: Say, tmp_path: Path) -> None:
    assert bench_command("run", "--methods", "l1", "--image-size", value).code == 2
    suite = tmp_path / "sizes.yaml"
    suite.write_text(f"runs: [{{models: resnet20, methods: l1, image_size: {value}}}]")
    assert "image_size" in bench_command("run", "--suite", suite).mistake


def test_a_size_that_the_network_cannot_have_is_one_line(photographs: Path, bench_command: Say) -> None:
    mine = Path(__file__).with_name("networks_of_mine.py")
    words = (
        "run",
        "--methods",
        "l1",
        "--dataset",
        f"folder:{photographs}",
        "--weights",
        "scratch",
        "--image-size",
        "64",
    )
    told = bench_command(*words, "--models", f"{mine}:Fixed").mistake
    assert told.startswith(f"--models {mine}:Fixed: it fails on images of 3x64x64: RuntimeError: mat1 and mat2 shapes")


def test_photographs_have_the_size_of_training(photographs: Path, tmp_path: Path) -> None:
    """timm: ConvNeXt-tiny in12k was trained with 224 and tested with 288 pixels."""
    dataset = open_dataset(f"folder:{photographs}")
    name = "convnext_tiny.in12k_ft_in1k"
    model = zoo.create_model(name, 2, 3)
    assert model.pretrained_cfg["test_input_size"] == (3, 288, 288)  # type: ignore[index,union-attr]
    assert zoo.preprocessing(model).size == (3, 224, 224)
    task = load_task("test_resnet", dataset, "scratch", CPU)
    assert (
        task.preprocessing.size == (3, 160, 160) and "photographs at 160x160 pixels (centre crop of" in task.described()
    )
    assert task.architecture.image_size is None
    task = load_task("test_resnet", dataset, "scratch", CPU, 48)
    assert task.preprocessing.size == (3, 48, 48) and task.architecture.image_size == 48
    batch, _ = next(iter(task.feed(dataset.split("test"), CPU).once()))
    assert batch.shape == (8, 3, 48, 48)


def test_small_images_are_resized_on_demand(dataset: Dataset) -> None:
    task = load_task("resnet20", dataset, "scratch", CPU, 64)
    images = dataset.split("test")
    assert isinstance(images, Pixels)
    feed = task.feed(images, CPU)
    batch, _ = next(iter(feed.once(4)))
    expected = [
        torch.nn.functional.interpolate(image[None].float(), (64, 64), mode="bilinear", antialias=True).round()
        for image in images.images[:4]
    ]
    assert batch.shape == (4, 3, 64, 64) and torch.equal(feed.levels(batch), torch.cat(expected))
    assert "images of 64x64 pixels resized from 32x32 (bilinear)" in task.described()
    augmented, _ = next(iter(feed.epoch(torch.Generator())))
    assert augmented.shape[2:] == (64, 64)


def test_the_usual_size_is_no_other_baseline(dataset: Dataset, photographs: Path) -> None:
    assert cached_path("resnet20", dataset, 32) == cached_path("resnet20", dataset)
    assert "-64px-" in cached_path("resnet20", dataset, 64).name
    large = open_dataset(f"folder:{photographs}")
    assert cached_path("test_resnet", large, 160) == cached_path("test_resnet", large)
    assert "-96px-" in cached_path("test_resnet", large, 96).name


def test_a_size_is_another_trial_and_another_task(image_folder: Path, tmp_path: Path, bench_command: Say) -> None:
    words = f"run --methods none --models resnet20 --dataset folder:{image_folder} --weights scratch --epochs 0"
    store = tmp_path / "runs"
    for size in ("32", "48", "48"):
        said = bench_command(*words.split(), "--image-size", size, "--no-tracking", "--store", store)
        assert said.code == 0, said.err
    records = sorted(Store(store).records(), key=lambda record: record.config["preprocessing"]["size"])
    assert [record.config["preprocessing"]["size"] for record in records] == [[3, 32, 32], [3, 48, 48]]
    small, large = (record.macs for record in records)
    assert small and large and 2.2 < large / small < 2.3  # (48 / 32) ** 2, less the classifier
    assert "--image-size 48" in records[1].config["repeat"]
    board = bench_command("leaderboard", "--store", store).out
    assert "ramps at 32x32" in board and "ramps at 48x48" in board


def test_train_baseline_takes_the_size(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def note(model: nn.Module, feed: Feed, *_: Any, **__: Any) -> None:
        seen.append(feed.preprocessing.size)

    monkeypatch.setattr(baseline, "fit", note)
    path = train_baseline("resnet20", dataset, 1, CPU, image_size=40)
    assert seen == [(3, 40, 40)] and path == cached_path("resnet20", dataset, 40)
    assert json.loads(path.with_suffix(".json").read_text())["image_size"] == [40, 40]
    assert load_task("resnet20", dataset, "auto", CPU, 40).weights == path.stem
