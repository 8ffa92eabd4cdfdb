"""The accuracy of a network on images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.feed import Feed
from bench.system.errors import BenchError
from bench.system.progress import bar


@dataclass(frozen=True)
class Evaluation:
    """The answers of a network for N images: `predictions`, `labels` int64 [N], `in_top5` bool [N], `losses` [N].

    With fewer than five classes, the top five are all of them.
    """

    predictions: Tensor
    labels: Tensor
    in_top5: Tensor
    losses: Tensor

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
        """Mean cross-entropy in nats."""
        return self.losses.double().mean().item()


@dataclass(frozen=True)
class Accuracy:
    """Evaluations of a compressed network and of the dense one on the same images."""

    compressed: Evaluation
    dense: Evaluation

    @property
    def top1_drop(self) -> float:
        return self.dense.top1 - self.compressed.top1

    @property
    def agreement(self) -> float:
        """Share of images for which both networks predict the same class."""
        return agreement(self.compressed, self.dense)


@torch.inference_mode()
def evaluate(model: nn.Module, feed: Feed, description: str = "evaluating") -> Evaluation:
    """Classify every image of `feed` once, in float32 whatever precision the training used.

    `description` labels the progress bar. Raises BenchError for a feed without images.
    """
    if not len(feed):
        raise BenchError(f"{description}: there are no images")
    model.eval()
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    with bar(description, feed.batches()) as advance:
        for images, labels in feed.once():
            logits = model(images).float()
            best = logits.topk(min(5, logits.shape[1])).indices
            losses = F.cross_entropy(logits, labels, reduction="none")
            parts.append((best[:, 0], labels, (best == labels[:, None]).any(1), losses))
            advance(1)
    predictions, labels, in_top5, losses = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return Evaluation(predictions, labels, in_top5, losses)


def agreement(one: Evaluation, other: Evaluation) -> float:
    """Share of images for which two networks predict the same class."""
    return (one.predictions == other.predictions).double().mean().item()
