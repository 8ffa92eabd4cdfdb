"""What hooks of a training hold beside tensors decides whether the training can go on from its middle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.training import outside
from bench.training.lab import Lab
from bench.training.network_state import tensors_of

from .killed_trainings import Compress, Make, killed
from .killed_trainings import attempt as attempt


def counting(model: nn.Module, lab: Lab) -> nn.Module:
    """Trains with a hook that counts, and leaves what it counted in the network."""
    seen: list[int] = []
    lab.fit(model, 1, after_step=lambda step, _: seen.append(step))
    with torch.no_grad():
        model.get_submodule("fc").bias += float(sum(seen))  # type: ignore[union-attr, operator]
    lab.fit(model)
    return model


def drawing(model: nn.Module, lab: Lab) -> nn.Module:
    """Trains with a hook that draws training images."""

    def after_step(step: int, steps: int) -> None:
        for images, _ in lab.batches(1):
            model.get_submodule("fc").bias.data += images.mean()

    lab.fit(model, 1, after_step=after_step)
    return model


def freezing(model: nn.Module, lab: Lab) -> nn.Module:
    """Trains with a hook that freezes the classifier."""
    lab.fit(model, after_step=lambda step, _: model.get_submodule("fc").requires_grad_(step < 2) and None)
    return model


@pytest.mark.parametrize("compress", [counting, drawing, freezing])
def test_hooks_that_change_more_than_tensors_begin_again(compress: Compress, attempt: Any) -> None:
    whole, steps = attempt(compress, folder="whole")
    for kill in (3, steps):
        killed(attempt, compress, kill, folder=f"{kill}")
        again, made = attempt(compress, folder=f"{kill}")
        assert again == whole and made >= min(steps, 3)


class Averages:
    """A hook with a tensor of its own, which it changes in place."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.average = model, torch.zeros(4)

    def __call__(self, step: int, steps: int) -> None:
        self.average.data.mul_(0.9).add_(self.model.get_submodule("fc").bias.detach())  # type: ignore[arg-type]


def test_what_hooks_hold_is_seen(make_model: Make) -> None:
    model = make_model()
    counts, limit = {"steps": 0}, 3
    tensors = tensors_of(model)

    def tell(*things: object) -> str:
        return outside.described(model, tensors, {}, *things)

    def hook(step: int, steps: int) -> None:
        counts["steps"] += limit

    average = Averages(model)
    before = tell(hook), tell(average), tell(average.__call__), tell()
    assert before == (tell(hook), tell(average), tell(average.__call__), tell()) and len(set(before)) == 4
    hook(1, 2)
    average(1, 2)
    assert not {tell(hook), tell(average), tell(average.__call__)} & set(before) and tell() == before[3]
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert tell() == before[3], "tensors of the network are in the checkpoint"
    model.seen = 1  # type: ignore[assignment]
    assert tell() != before[3]
    assert tell(iter([1])) != "" and tell(step for step in [1]) == "" and tell(open) != ""
