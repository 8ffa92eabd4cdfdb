"""Evaluation: accuracy by class and calibration, by hand and by definition."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.leaderboard.setting_page import read_classes
from bench.measuring.evaluation import Accuracy, Evaluation, evaluate
from bench.plugins.registry import open_dataset
from bench.system.errors import BenchError
from bench.trials.baseline import load_task
from bench.trials.tables import write_classes

CPU = torch.device("cpu")


def evaluation(predictions: list[int], labels: list[int]) -> Evaluation:
    nothing = torch.zeros(len(labels))
    return Evaluation(torch.tensor(predictions), torch.tensor(labels), nothing.bool(), nothing, 0.0)


@pytest.fixture
def accuracy() -> Accuracy:
    """cat: dense 3 of 4, compressed 2 of 4; dog: 1 of 2 and 2 of 2; no image of a fox; cow: 2 of 2 and 1 of 2."""
    labels = [0, 0, 0, 0, 1, 1, 3, 3]
    dense = evaluation([0, 0, 0, 1, 1, 0, 3, 3], labels)
    return Accuracy(evaluation([0, 0, 3, 3, 1, 1, 3, 2], labels), dense, ("cat", "dog", "fox", "cow"))


def test_accuracy_by_class_by_hand(accuracy: Accuracy) -> None:
    found = [(one.name, one.images, one.top1, one.top1_dense, one.drop) for one in accuracy.by_class]
    assert found == [("cat", 4, 0.5, 0.75, 0.25), ("dog", 2, 1.0, 0.5, -0.5), ("cow", 2, 0.5, 1.0, 0.5)]
    assert accuracy.worst_class.name == "cow"
    assert sum(one.images * one.drop for one in accuracy.by_class) / 8 == pytest.approx(accuracy.top1_drop)


def test_the_table_of_classes_is_written_and_read(accuracy: Accuracy, tmp_path: Path) -> None:
    write_classes(accuracy.by_class, tmp_path / "classes.csv")
    with (tmp_path / "classes.csv").open(newline="") as file:
        assert list(csv.reader(file))[:2] == [
            ["class", "images", "top1", "top1_dense", "drop"],
            ["cat", "4", "0.5", "0.75", "0.25"],
        ]
    table = read_classes(tmp_path / "classes.csv")
    assert table.headers == ["class", "images", "top-1 %", "dense %", "drop"]
    assert table.rows[0] == ["cow", "2", "50.00", "100.00", "50.00"] and table.rows[-1][0] == "dog"
    for broken in ("class,images\na,1\n", "class,images,top1,top1_dense,drop\na,1,x,1,2\n", "class\n\na\n"):
        (tmp_path / "classes.csv").write_text(broken)
        with pytest.raises(BenchError, match=r"classes\.csv: not a table of classes"):
            read_classes(tmp_path / "classes.csv")


def calibration_error(chances: np.ndarray, labels: np.ndarray) -> float:
    """By its definition: 15 bins of equal width, weighted by the images in each."""
    confidence, right = chances.max(1), chances.argmax(1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


class Fixed(nn.Module):
    """Logits that depend on the image in a way that has nothing to do with its class."""

    def forward(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return images.flatten(1) @ torch.randn(images[0].numel(), 3, generator=generator) / 8


def test_calibration_and_accuracies_of_an_evaluation(image_folder: Path) -> None:
    task = load_task("resnet20", open_dataset(f"folder:{image_folder}"), "scratch", CPU)
    feed = task.feed(task.dataset.split("test"), CPU)
    found = evaluate(Fixed(), feed)
    images, labels = (torch.cat(parts) for parts in zip(*feed.once(), strict=True))
    chances = Fixed()(images).softmax(1).numpy()
    assert len(labels) == 30 and 0.4 < chances.max(1).mean() < 0.95
    assert found.calibration_error == pytest.approx(calibration_error(chances, labels.numpy()), rel=1e-5)
    assert found.top1 == pytest.approx((chances.argmax(1) == labels.numpy()).mean())
    likelihoods = chances[np.arange(len(labels)), labels.numpy()]
    assert found.loss == pytest.approx(-np.log(likelihoods).mean(), rel=1e-5), "the negative log-likelihood"
