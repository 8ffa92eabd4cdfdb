"""The lowest filters of a whole network, and the method that removes them step by step."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bench import BenchError, FilterGroup, filter_groups, remove_lowest_overall
from bench.layers import convolutions
from bench.zoo import create_model

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Notebook(SimpleNamespace):
    """What removal needs of a Lab."""

    def __init__(self) -> None:
        super().__init__(example_input=IMAGE, notes={})

    def note(self, layer_name: str, text: str) -> None:
        self.notes[layer_name] = text


def random_scores(model: nn.Module, tied: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    groups, _ = filter_groups(model, IMAGE, tied=tied)
    return {group.convolutions[0]: torch.rand(group.channels, generator=generator) for group in groups}


@pytest.mark.parametrize(("name", "tied"), [("resnet20", False), ("test_resnet", True), ("vgg16_cifar", False)])
def test_the_lowest_of_all_layers_go_and_no_others(name: str, tied: bool) -> None:
    torch.manual_seed(0)
    model, lab = create_model(name, 10, 3).eval(), Notebook()
    scores = random_scores(model, tied)
    everything = torch.cat(list(scores.values()))
    bar = everything.sort().values[30]
    kept = {name: values >= bar for name, values in scores.items()}
    assert all(mask.any() for mask in kept.values())
    expected = {name: model.get_submodule(name).weight[mask].sum((1, 2, 3)) for name, mask in kept.items()}
    gone = remove_lowest_overall(model, lab, lambda group: scores[group.convolutions[0]], 30, tied=tied)  # type: ignore[arg-type]
    assert gone == 30
    for name, sums in expected.items():  # inputs go too, so compare what survives by position
        layer = model.get_submodule(name)
        assert len(layer.weight) == len(sums)
        assert lab.notes[name] == f"{len(sums)} of {len(scores[name])} filters kept"
        if layer.weight.shape[1] == 3:
            assert torch.allclose(layer.weight.sum((1, 2, 3)), sums)
    assert set(lab.notes) == set(convolutions(model))
    assert model(IMAGE).isfinite().all()


def test_one_filter_stays_in_every_layer_and_it_is_the_best() -> None:
    model, lab = create_model("resnet20", 10, 3).eval(), Notebook()
    scores = {name: torch.arange(len(values)).flip(0) for name, values in random_scores(model, False).items()}
    first = {name: model.get_submodule(name).weight[0, 0].clone() for name in scores}
    score: Callable[[FilterGroup], Tensor] = lambda group: scores[group.convolutions[0]]  # noqa: E731
    assert remove_lowest_overall(model, lab, score, 10_000) == 336 - 9  # type: ignore[arg-type]
    for name in scores:
        weight = model.get_submodule(name).weight
        assert len(weight) == 1 and torch.equal(weight[0, 0], first[name])


def test_of_equal_scores_the_first_goes_first_and_no_number_is_refused() -> None:
    model = create_model("resnet20", 10, 3).eval()
    remove_lowest_overall(model, Notebook(), lambda group: torch.ones(group.channels), 20)  # type: ignore[arg-type]
    sizes = [layer.out_channels for name, layer in convolutions(model).items() if name.endswith("conv1")]
    assert sizes[:4] == [16, 1, 11, 16]
    with pytest.raises(BenchError, match="no number"):
        remove_lowest_overall(model, Notebook(), lambda group: torch.full((group.channels,), torch.nan), 1)  # type: ignore[arg-type]
    assert remove_lowest_overall(model, Notebook(), lambda group: torch.ones(group.channels), 0) == 0  # type: ignore[arg-type]
