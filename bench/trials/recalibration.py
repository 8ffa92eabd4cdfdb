"""Batch-norm statistics of every network that is tested: re-estimated, unless training has settled them.

A method that does not train keeps the statistics of the dense network, which do not fit its new weights; a test would
then measure this mismatch more than the method. So if a trial has not trained after its last change of the weights,
its statistics are re-estimated. The training batches are the same for all, including the dense control. Papers that
prune without training do not do this; `--no-recalibrate` measures as they do.
"""

from __future__ import annotations

import warnings

from torch import nn

from bench.training.lab import ROUNDING, Lab
from bench.training.recalibration import with_statistics
from bench.trials.results import Recalibration
from bench.trials.ruler import Ruler

BATCHES = 30
"""Training batches for the statistics of one network; fewer if a pass over the training images has fewer.

As many steps of training also settle the statistics: with the usual momentum of 0.1, 4% of the old values remain.
"""


def settle(model: nn.Module, lab: Lab, ruler: Ruler, seed: int, *, wanted: bool) -> Recalibration:
    """Re-estimate the statistics of a trial's network, in place, if that is `wanted` and `lab` has not trained it.

    The batches are the first in the order that `seed` gives, the same for every method. If the budget is spent, they
    are granted beyond it. If there are no training images to draw, a warning says so.
    """
    batches = min(BATCHES, ruler.steps)
    if not with_statistics(model):
        return Recalibration("none")
    if lab.was_trained(model, max(1, batches)):
        return Recalibration("trained")
    if not wanted:
        return Recalibration("kept")
    if not batches:
        warnings.warn(
            "the dataset has no training images, so the batch-norm statistics cannot be re-estimated; "
            "those of the dense network are used",
            stacklevel=1,
        )
        return Recalibration("kept")
    ours = ruler.lab(batches / ruler.steps, seed)
    ours.recalibrate(model, batches)
    return Recalibration("recalibrated", batches, ours.spent)


def remark(done: Recalibration, lab: Lab) -> list[str]:
    """Notes for the record: that statistics were re-estimated, and how much was granted beyond the budget."""
    if not done.recalibration_batches:
        return []
    beyond = done.epochs - lab.remaining
    granted = f"; {beyond:.3g} epochs of it go beyond the budget of {lab.budget:g}" if beyond > ROUNDING else ""
    batches = f"{done.recalibration_batches} training batch{'' if done.recalibration_batches == 1 else 'es'}"
    return [f"batch-norm statistics re-estimated from {batches}{granted}"]
