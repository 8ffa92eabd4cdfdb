"""The accuracy and calibration of a network on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.feed import Feed
from bench.system.errors import BenchError
from bench.system.progress import bar

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """The outputs of a network for N images: `predictions`, `labels` int64 [N], `in_top5` bool [N], `losses` [N].

    With fewer than five classes, the top five are all of them. `calibration_error` is the expected calibration error
    (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599): the mean gap
    between confidence and accuracy over 15 bins of equal width, weighted by the images in each.
    """

    predictions: Tensor
    labels: Tensor
    in_top5: Tensor
    losses: Tensor
    calibration_error: float

    @property
    def top1(self) -> float:
        """Share of images whose label is the class with the highest score."""
        return (self.predictions == self.labels).double().mean().item()

    @property
    def top5(self) -> float:
        """Share of images whose label is among the five classes with the highest scores."""
        return self.in_top5.double().mean().item()

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats: the negative log-likelihood."""
        return self.losses.double().mean().item()


@dataclass(frozen=True)
class ClassAccuracy:
    """Top-1 on the test images of one class, of the compressed and of the dense network."""

    name: str
    images: int
    top1: float
    top1_dense: float

    @property
    def drop(self) -> float:
        return self.top1_dense - self.top1


@dataclass(frozen=True)
class Accuracy:
    """Evaluations of a compressed network and of the dense one on the same images; label i is `classes[i]`."""

    compressed: Evaluation
    dense: Evaluation
    classes: Sequence[str]

    @property
    def top1_drop(self) -> float:
        return self.dense.top1 - self.compressed.top1

    @property
    def agreement(self) -> float:
        """Share of images for which both networks predict the same class."""
        return agreement(self.compressed, self.dense)

    @property
    def by_class(self) -> list[ClassAccuracy]:
        """One for every class that has test images, in the dataset's order."""
        labels, count = self.compressed.labels, len(self.classes)
        images = labels.bincount(minlength=count).tolist()
        right, dense = (
            labels[evaluation.predictions == labels].bincount(minlength=count).tolist()
            for evaluation in (self.compressed, self.dense)
        )
        return [
            ClassAccuracy(name, number, ours / number, theirs / number)
            for name, number, ours, theirs in zip(self.classes, images, right, dense, strict=True)
            if number
        ]

    @property
    def worst_class(self) -> ClassAccuracy:
        """The class that loses most against the dense network; of equals, the first."""
        return max(self.by_class, key=lambda one: one.drop)


@torch.inference_mode()
def evaluate(model: nn.Module, feed: Feed, description: str = "evaluating") -> Evaluation:
    """Classify every image of `feed` once, in float32 whatever precision the training used.

    `description` labels the progress bar. Raises BenchError for a feed without images.
    """
    if not len(feed):
        raise BenchError(f"{description}: there are no images")
    from torchmetrics.classification import MulticlassCalibrationError  # takes seconds to import

    model.eval()
    calibration: MulticlassCalibrationError | None = None
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with bar(description, feed.batches()) as advance:
        for images, labels in feed.once():
            logits = model(images).float()
            best = logits.topk(min(5, logits.shape[1])).indices
            losses = F.cross_entropy(logits, labels, reduction="none")
            if calibration is None:
                calibration = MulticlassCalibrationError(logits.shape[1], n_bins=CALIBRATION_BINS).to(logits.device)
            calibration.update(logits.softmax(1), labels)
            parts.append((best[:, 0], labels, (best == labels[:, None]).any(1), losses))
            advance(1)
    predictions, labels, in_top5, losses = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    assert calibration is not None
    return Evaluation(predictions, labels, in_top5, losses, calibration.compute().item())


def agreement(one: Evaluation, other: Evaluation) -> float:
    """Share of images for which two networks predict the same class."""
    return (one.predictions == other.predictions).double().mean().item()
