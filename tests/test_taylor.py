"""The lowest filters of a whole network, and the method that removes them step by step."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from bench_methods.taylor import Taylor
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench import BenchError, FilterGroup, Lab, filter_groups, filter_macs, remove_lowest_overall
from bench.data.feed import Feed
from bench.networks.layers import convolutions, weighted_layers
from bench.networks.zoo import create_model
from bench.pruning import criteria as ranking

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class Notebook(SimpleNamespace):
    """What removal needs of a Lab."""

    def __init__(self) -> None:
        super().__init__(example_input=IMAGE, notes={})

    def note(self, layer_name: str, text: str, *, reachable: bool = True) -> None:
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
    assert set(lab.notes) == set(weighted_layers(model))
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
    with pytest.raises(BenchError, match="11 of the 11 scores of 'layer1.1.conv1' are NaN or infinite"):
        remove_lowest_overall(model, Notebook(), lambda group: torch.full((group.channels,), torch.nan), 1)  # type: ignore[arg-type]
    assert remove_lowest_overall(model, Notebook(), lambda group: torch.ones(group.channels), 0) == 0  # type: ignore[arg-type]


def removable(model: nn.Module, tied: bool = False) -> int:
    return sum(group.channels for group in filter_groups(model, IMAGE, tied=tied)[0])


def filters_of(model: nn.Module) -> dict[str, int]:
    return {name: layer.out_channels for name, layer in convolutions(model).items()}


def macs_of(model: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(IMAGE)
    return counter.get_total_flops() // 2


Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]


def test_a_share_of_all_filters_goes_and_the_table_says_which(make_model: Make, make_lab: MakeLab) -> None:
    model, lab = make_model(), make_lab(epochs=8)
    before, dense_macs = filters_of(model), macs_of(model)
    smaller = Taylor(rate=0.4, steps=3, batches=2).compress(model, lab)
    after = filters_of(smaller)
    assert sum(before.values()) - sum(after.values()) == round(0.4 * 336)
    expected = dense_macs
    for block in (f"layer{stage}.{index}" for stage in (1, 2, 3) for index in (0, 1, 2)):
        gone, reads = before[f"{block}.conv1"] - after[f"{block}.conv1"], before[f"{block}.conv2"]
        side = {"1": 32, "2": 16, "3": 8}[block[5]]
        inputs = smaller.get_submodule(f"{block}.conv1").weight.shape[1]
        expected -= gone * 9 * side * side * (inputs + reads)
        if gone:
            assert (
                lab.notes[f"{block}.conv1"]
                == f"{before[f'{block}.conv1'] - gone} of {before[f'{block}.conv1']} filters kept"
            )
    assert macs_of(smaller) == expected
    assert lab.notes["conv1"].startswith("all filters kept: tied")
    assert set(lab.notes) == {*before, "fc"}


def test_ties_prune_residual_streams_too(make_model: Make, make_lab: MakeLab) -> None:
    model = make_model("test_resnet")
    filters, groups = filters_of(model), filter_groups(model, IMAGE, tied=True)[0]
    lab = make_lab(epochs=0)
    Taylor(rate=0.3, steps=2, tied=True).compress(model, lab)
    after = filters_of(model)
    gone = sum(group.channels - after[group.convolutions[0]] for group in groups)
    assert gone == round(0.3 * sum(group.channels for group in groups))
    tied = [group for group in groups if len(group.convolutions) > 1]
    assert tied and all(len({after[name] for name in group.convolutions}) == 1 for group in tied)
    changed = [name for name in filters if after[name] < filters[name]]
    assert all(lab.notes[name].endswith("filters kept, ranked on held-out images") for name in changed)


@pytest.mark.parametrize("normalise", [True, False])
def test_one_step_removes_what_the_scores_say(make_model: Make, make_lab: MakeLab, normalise: bool) -> None:
    model, lab = make_model(), make_lab()
    maps = ranking.FeatureMaps(make_model(), lab.example_input)
    scores = ranking.taylor_scores(maps, lab.held_out())
    inner = {
        name: values / values.pow(2).sum().sqrt() if normalise else values
        for name, values in scores.items()
        if ".conv1" in name
    }
    bar = torch.cat(list(inner.values())).sort().values[round(0.2 * 336)]
    Taylor(rate=0.2, steps=1, normalise=normalise).compress(model, lab)
    after = filters_of(model)
    assert {name: after[name] for name in inner} == {name: int((values >= bar).sum()) for name, values in inner.items()}


def test_rankings_and_training_are_paid_from_the_budget(
    make_model: Make, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    draw, fit = Lab.batches, Lab.fit

    def drawn(self: Lab, count: int) -> object:
        events.append(f"rank {count}")
        return draw(self, count)

    def fitted(self: Lab, model: nn.Module) -> None:
        before = self.spent
        fit(self, model)
        events.append(f"fit {round(3 * (self.spent - before))}")

    monkeypatch.setattr(Lab, "batches", drawn)
    monkeypatch.setattr(Lab, "fit", fitted)
    lab = make_lab(epochs=8)  # 24 steps of 16 images
    Taylor(steps=3, batches=2, final=0.25).compress(make_model(), lab)
    assert events == ["rank 2", "fit 4"] * 3 + ["fit 6"]
    assert lab.spent == pytest.approx(8)
    events.clear()
    Taylor(steps=3, batches=5, final=0).compress(make_model(), make_lab(epochs=8))
    assert events == ["rank 4", "fit 4"] * 3 + ["fit 0"]
    events.clear()
    Taylor(steps=3, batches=5).compress(make_model(), make_lab(epochs=1))  # half a batch a step
    assert events == ["fit 0", "fit 0", "fit 1", "fit 2"]


def test_without_images_weights_still_rank(make_model: Make, make_lab: MakeLab) -> None:
    def bare() -> Lab:
        feed: Feed = make_lab()._feed
        return Lab(feed, epochs=0, seed=0)

    with pytest.raises(BenchError, match=r"taylor.*none are held out from them; criterion=weight ranks without images"):
        Taylor().compress(make_model(), bare())
    lab = bare()
    model = Taylor(criterion="weight", rate=0.5, steps=1).compress(make_model(), lab)
    assert removable(model) == 336 - 168
    assert "ranked" not in " ".join(lab.notes.values())


def test_costly_filters_go_first_where_multiply_adds_weigh(make_model: Make, make_lab: MakeLab) -> None:
    def macs_left(weight: float) -> int:
        return macs_of(Taylor(rate=0.2, steps=1, macs_weight=weight).compress(make_model(), make_lab()))

    plain, aware, greedy = macs_left(0), macs_left(0.1), macs_left(1e6)
    assert plain > aware > greedy
    costs = filter_macs(make_model(), IMAGE)
    dearest = sorted(
        {name for name in costs if name.endswith("conv1") and name != "conv1"}, key=lambda name: -costs[name]
    )
    model = Taylor(rate=45 / 336, steps=1, macs_weight=1e6).compress(make_model(), make_lab())
    after = filters_of(model)
    assert (
        {name for name in dearest if after[name] == 1}
        == set(dearest[:3])
        == {n for n in costs if n.startswith("layer1") and n.endswith("conv1")}
    )


def test_mistakes_are_told() -> None:
    for wrong in ({"criterion": "l1"}, {"rate": 1.0}, {"steps": 0}, {"final": 1.5}, {"macs_weight": -1.0}):
        with pytest.raises(BenchError, match=f"taylor.{next(iter(wrong))}"):
            Taylor(**wrong)  # type: ignore[arg-type]
