"""Every prediction, and the figures that follow from them, computed again and compared.

Another machine may add in another order, which turns a prediction round only where two classes have almost the same
score. So a prediction may differ if the logits of the two classes are at most `MARGIN` apart, and each figure may
differ by what such images can change. On ResNet-20, logits in 32 and in 64 bits differ by up to 7e-6, and about one
test image in 2,000 lies within the margin; deeper networks add up more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.comparing.outcomes import Outcomes
from bench.data.feed import Feed
from bench.measuring.evaluation import CALIBRATION_BINS, Accuracy, Evaluation, evaluate
from bench.records.record import Record
from bench.system.text import counted
from bench.trials.results import of_accuracy
from bench.verifying.findings import Finding, Verdict, about, together, verdict_on

MARGIN = 1e-3
"""Logits of two classes that are at most so far apart may change their order on another machine."""
LOSS = 1e-4
"""Share of the mean loss that other arithmetic may change."""
EDGE = 1e-4
"""How near to the edge of a bin of the calibration error a confidence may get to the other side."""
OF_DENSE = ("top1_dense", "top1_drop", "agreement", "worst_class", "worst_class_drop")
"""Figures for which the dense network's predictions are needed."""
OF_FILE = ("top1", *OF_DENSE)
"""Figures that predictions alone give."""

Classes = NDArray[np.int32]
"""The classes of N images, [N]."""


@dataclass(frozen=True)
class Tested:
    """A network's evaluation, and its outputs [N, classes] for the test images."""

    evaluation: Evaluation
    logits: Tensor


@dataclass(frozen=True)
class Predictions:
    """Submitted predictions beside recomputed ones: images, how many `changed`, and of these how many are `ties`."""

    images: int
    changed: int
    ties: int
    widest: float
    """The largest distance of the logits of the two classes of a changed image."""

    @property
    def allowed(self) -> float:
        """Share of the images whose prediction may differ."""
        return self.ties / self.images

    def finding(self, name: str) -> Finding:
        claimed, told = counted(self.images, "image", "images"), f"{self.changed:,} differ"
        if not self.changed:
            return Finding(name, Verdict.SAME, claimed, told)
        far = self.changed - self.ties
        note = f"logits of the two classes up to {self.widest:.2g} apart, {MARGIN:g} allowed"
        note = f"{far:,} are no ties; {note}" if far else note
        return Finding(name, Verdict.DIFFERS if far else Verdict.CLOSE, claimed, told, note)


def tested(network: nn.Module, feed: Feed, description: str) -> Tested:
    """Evaluate a network as a trial does, and keep its outputs."""
    kept: list[Tensor] = []
    handle = network.register_forward_hook(lambda _, inputs, outputs: kept.append(outputs.float().cpu()))
    try:
        evaluation = evaluate(network, feed, description)
    finally:
        handle.remove()
    return Tested(evaluation, torch.cat(kept))


def compared(claimed: Classes, ours: Tested) -> Predictions:
    """Compare submitted predictions [N] with those of a network."""
    predicted = torch.from_numpy(claimed).long()
    changed = (predicted != ours.evaluation.predictions).nonzero().flatten()
    logits, classes = ours.logits[changed], predicted[changed]
    exists = (classes >= 0) & (classes < logits.shape[1])
    chosen = logits.gather(1, (classes * exists)[:, None])[:, 0]
    apart = torch.where(exists, logits.amax(1) - chosen, torch.inf)
    widest = apart.max().item() if len(changed) else 0.0
    return Predictions(len(predicted), len(changed), int((apart <= MARGIN).sum()), widest)


def check_figures(
    record: Record, ours: Tested, dense: Evaluation, classes: Sequence[str], allowed: float, allowed_dense: float
) -> Iterator[Finding]:
    """The record's figures of accuracy beside recomputed ones.

    `allowed` and `allowed_dense` are the shares of the images whose prediction by each network may differ.
    """
    accuracy = Accuracy(ours.evaluation, dense, classes)
    figures, images = of_accuracy(accuracy), len(dense.labels)
    of_both, smallest = allowed + allowed_dense, min(one.images for one in accuracy.by_class)
    tolerances = {
        "top1": allowed,
        "top5": _ties_at(ours.logits, 5) / images,
        "loss": LOSS * abs(figures["loss"]),
        "top1_dense": allowed_dense,
        "top1_drop": of_both,
        "agreement": of_both,
        "worst_class_drop": of_both * images / smallest,
        "calibration_error": EDGE + 2 * _near_edges(ours.logits) / images,
    }
    for name, value in figures.items():
        if name == "worst_class":
            yield _worst_class(record, figures, tolerances["worst_class_drop"])
        elif (claimed := getattr(record, name)) is not None:
            yield about(name, claimed, value, tolerances[name])


def _worst_class(record: Record, figures: dict[str, Any], allowed: float) -> Finding:
    """Another class is as good an answer if its drop is as near as other predictions can bring it."""
    finding = about("worst_class", record.worst_class, figures["worst_class"])
    near = verdict_on(record.worst_class_drop, figures["worst_class_drop"], allowed) is not Verdict.DIFFERS
    is_close = finding.verdict is Verdict.DIFFERS and allowed > 0 and near
    return replace(finding, verdict=Verdict.CLOSE) if is_close else finding


def _ties_at(logits: Tensor, place: int) -> int:
    """Images where the class in this place of the ranking and the next one may change their order."""
    if logits.shape[1] <= place:
        return 0
    best = logits.topk(place + 1).values
    return int((best[:, place - 1] - best[:, place] <= MARGIN).sum())


def _near_edges(logits: Tensor) -> int:
    """Images whose confidence lies near the edge of a bin."""
    confidence = logits.softmax(1).amax(1) * CALIBRATION_BINS
    nearest = confidence.round().clamp(1, CALIBRATION_BINS - 1)
    return int(((confidence - nearest).abs() <= EDGE * CALIBRATION_BINS).sum())


def evaluation_of(predictions: Classes, labels: Classes) -> Evaluation:
    """An evaluation of which only the predictions are known."""
    unknown = torch.zeros(len(labels))
    return Evaluation(torch.from_numpy(predictions).long(), torch.from_numpy(labels).long(), unknown, unknown, 0.0)


def accuracy_of(outcomes: Outcomes, classes: Sequence[str]) -> Accuracy:
    """The accuracy by submitted predictions alone."""
    compressed, dense = (evaluation_of(one, outcomes.labels) for one in (outcomes.predictions, outcomes.dense))
    return Accuracy(compressed, dense, classes)


def check_file(record: Record, accuracy: Accuracy) -> list[Finding]:
    """The record's figures beside those of the submitted predictions, which give them exactly."""
    figures = of_accuracy(accuracy)
    pairs = [(name, claimed, figures[name]) for name in OF_FILE if (claimed := getattr(record, name)) is not None]
    return together("accuracy in the file", pairs, Verdict.CONSISTENT, note="by the submitted predictions")
