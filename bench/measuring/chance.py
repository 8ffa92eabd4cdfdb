"""Whether a network is better than chance on the test images."""

from __future__ import annotations

from torch import Tensor

from bench.measuring.evaluation import Evaluation

CONFIDENCE = 0.95


def chance_of(labels: Tensor) -> float:
    """Top-1 of the best constant answer: the share of the most frequent class. With equal classes it is 1/classes."""
    return int(labels.bincount().max()) / len(labels)


def remark_on_chance(evaluation: Evaluation) -> str | None:
    """A warning if the 95% interval of top-1 reaches down to chance, or lies below it; None otherwise.

    The interval is Clopper and Pearson's (Biometrika 1934), exact for any number of images.
    """
    from scipy import stats  # takes most of a second to import

    labels, right = evaluation.labels, int((evaluation.predictions == evaluation.labels).sum())
    low, high = stats.binomtest(right, len(labels)).proportion_ci(CONFIDENCE, method="exact")
    chance = chance_of(labels)
    if low > chance:
        return None
    return (
        f"the dense network is near chance: top-1 {100 * evaluation.top1:.2f}% on {len(labels):,} test images "
        f"(95% interval {100 * low:.2f} to {100 * high:.2f}%), and always answering the most frequent class gives "
        f"{100 * chance:.2f}%; train it longer, or start from other weights"
    )
