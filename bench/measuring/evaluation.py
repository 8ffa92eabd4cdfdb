"""How well a network does on images it never trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.feed import Feed
from bench.system.progress import bar


@dataclass(frozen=True)
class Evaluation:
    """What a network said of N images; [N] each: `predictions`, `labels` int64, `in_top5` bool, `losses` float."""

    predictions: Tensor
    labels: Tensor
    in_top5: Tensor
    losses: Tensor

    @property
    def top1(self) -> float:
        return (self.predictions == self.labels).double().mean().item()

    @property
    def top5(self) -> float:
        return self.in_top5.double().mean().item()

    @property
    def loss(self) -> float:
        return self.losses.double().mean().item()


@torch.inference_mode()
def evaluate(model: nn.Module, feed: Feed, description: str = "evaluating") -> Evaluation:
    """Run every image once, in full float32 precision, whatever precision training used."""
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
    """Share of images on which two networks say the same."""
    return (one.predictions == other.predictions).double().mean().item()
