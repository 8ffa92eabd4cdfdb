"""Which executable form is chosen: one that is clearly faster, by measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from bench.execution import choice
from bench.execution.choice import OF_A_LAYER, OF_A_NETWORK, Choice, Demand, fastest
from bench.execution.executable import execute
from bench.execution.reduced import Reduced

from .layers_to_execute import half_shared

Make = Callable[..., nn.Module]


class Sleeper(nn.Module):
    """Takes so many milliseconds in turns, on the clock of the test."""

    def __init__(self, *milliseconds: float) -> None:
        super().__init__()
        self.milliseconds, self.runs = milliseconds, 0

    def forward(self, images: Tensor) -> Tensor:
        self.runs += 1
        return images


@pytest.mark.parametrize(
    ("dense", "forms", "demand", "expected"),
    [
        ((10,), [(9,), (5,), (6,)], OF_A_LAYER, Choice(1, 2.0)),
        ((10,), [(9.8,)], OF_A_LAYER, Choice(None)),  # 2% is too little for a layer, and enough for a network
        ((10,), [(9.8,)], OF_A_NETWORK, Choice(0, 10 / 9.8)),
        ((10,), [(11,)], OF_A_NETWORK, Choice(None)),
        ((10, 30, 50, 20), [(45, 18, 9, 27)], OF_A_LAYER, Choice(None)),  # 1.11 times as fast, in noise that is larger
        ((10, 30, 50, 20), [(45, 18, 9, 27)], OF_A_NETWORK, Choice(0, 10 / 9)),
        ((10, 30, 50, 20), [(50, 20, 10, 31)], OF_A_NETWORK, Choice(None)),
    ],
)
def test_a_form_is_chosen_where_it_is_clearly_faster(
    dense: Sequence[float],
    forms: list[Sequence[float]],
    demand: Demand,
    expected: Choice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_once(network: Sleeper, images: Tensor) -> float:
        network(images)
        return network.milliseconds[network.runs % len(network.milliseconds)]

    monkeypatch.setattr(choice, "time_once", time_once)
    dense_one, others = Sleeper(*dense), [Sleeper(*form) for form in forms]
    found = fastest(dense_one, others, [torch.zeros(1)], demand)
    assert (found.number, found.speedup) == (expected.number, pytest.approx(expected.speedup))
    assert {other.runs for other in others} == {dense_one.runs} and dense_one.runs >= 8


def test_what_gains_nothing_in_the_network_is_left_out(make_model: Make) -> None:
    def layers_only(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], demand: Demand) -> Choice:
        return Choice(0, 2.0) if isinstance(dense, nn.Conv2d) else Choice(None)

    model = half_shared(make_model)
    found = execute(model, torch.randn(1, 3, 32, 32), layers_only)
    assert {form.form for form in found.layers.values()} == {"dense"}
    assert not any(isinstance(module, Reduced) for module in found.network.modules())


def test_equal_layers_are_timed_once_and_executed_alike(make_model: Make) -> None:
    seen = []

    def noting(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], demand: Demand) -> Choice:
        seen.append(tuple(inputs[0].shape))
        return Choice(0, 1.5)

    found = execute(half_shared(make_model), torch.randn(2, 3, 32, 32), noting)
    # Stem, three stages with six alike (the first of the later two differs by its stride), two shortcuts, the network.
    assert len(seen) < 12 and seen[-1] == (2, 3, 32, 32)
    assert all(form.form.endswith("filters + gather") for name, form in found.layers.items() if name != "fc")
