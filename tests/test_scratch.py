"""`scratch`: another setting's structure, with none of its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bench import BenchError, Lab, weighted_layers
from bench.encodings.base import encoded_layers
from bench.plugins import registry
from bench.plugins.method import Method
from bench.plugins.setting import parse

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]

module: Any = sys.modules[registry.methods()["scratch"].__module__]


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    return parse(setting)[0].compress(model, lab).eval()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("scratch", "scratch(of=l1(rate=0.5))"),
        ("scratch(of=l1)", "scratch(of=l1(rate=0.5))"),
        ("scratch(of=l1(rate=0.25, skip='layer1.*'))", "scratch(of=l1(rate=0.25, skip=('layer1.*',)))"),
        ("scratch(of='l1(rate=0.25)')", "scratch(of=l1(rate=0.25))"),
        ("scratch(of=l1+magnitude(rate=0.75))", "scratch(of=l1(rate=0.5)+magnitude(rate=0.75))"),
        ("scratch(of=none)", "scratch(of=none)"),
    ],
)
def test_a_setting_may_be_an_options_value(text: str, printed: str) -> None:
    pipeline = parse(text)[0]
    assert str(pipeline) == printed and parse(printed) == [pipeline]
    assert pipeline.options == [{"method": "scratch", "of": printed.removeprefix("scratch(of=")[:-1]}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "scratch(of=l2(rate=0.5))",
            "settings: scratch(of='l2(rate=0.5)'): of should be a setting: there is no method 'l2'. There are: ",
        ),
        (
            "scratch(of=l1(rate=1))",
            "settings: scratch(of='l1(rate=1)'): of should be a setting: l1(rate=1): rate should",
        ),
        ("scratch(of='')", "settings: scratch(of=''): of should be a setting '': names no method"),
        ("scratch(of='l1,tic')", "settings: scratch(of='l1,tic'): of should be one setting, not 2"),
        ("scratch(of=scratch)", "settings: scratch(of=scratch): of should be a method that prunes, and not scratch"),
        (
            "scratch(of=l1+scratch(of=l1))",
            "settings: scratch(of='l1 + scratch(of=l1)'): of should be a method that prunes, and not scratch itself",
        ),
        ("scratch(of=3)", "settings: scratch(of=3): of should be a setting, as in of=l1(rate=0.5)"),
        ("scratch(of=1+l1)", "settings: '1 + l1' is not a value; quote text that is not one word"),
        ("tic(k=l1(rate=1))", "settings: tic(k='l1(rate=1)'): k should be a valid integer"),
    ],
)
def test_what_is_no_setting_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(BenchError) as caught:
        parse(text)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet20", "test_efficientnet"])
def test_the_structure_is_the_inner_settings_and_the_weights_are_not(
    name: str, make_model: Make, make_lab: MakeLab
) -> None:
    pruned = compress("l1(rate=0.25)", make_model(name), make_lab(size=64)).state_dict()
    lab = make_lab(size=64)
    fresh = compress("scratch(of=l1(rate=0.25))", make_model(name), lab).state_dict()
    assert {key: value.shape for key, value in fresh.items()} == {key: value.shape for key, value in pruned.items()}
    kept = [key for key, value in fresh.items() if value.dim() > 1 and torch.equal(value, pruned[key])]
    assert not kept and "of 16 filters kept" in " ".join(lab.notes.values())
    means = [value for key, value in fresh.items() if key.endswith("running_mean")]
    assert means and not torch.cat(means).any()


def test_what_random_weights_are_drawn_from(make_model: Make) -> None:
    model = nn.Sequential(
        nn.Conv2d(64, 96, 3, groups=4), nn.BatchNorm2d(96), nn.PReLU(96), nn.Flatten(), nn.Linear(400, 200)
    )
    for parameter in model.parameters():
        nn.init.constant_(parameter, 7)
    model.register_parameter("scale", nn.Parameter(3 + 0.1 * torch.randn(5000)))
    scale = model.scale.detach().clone()  # type: ignore[operator, union-attr]
    module.forget(model, torch.Generator().manual_seed(0))
    convolution, norm, prelu, _, linear = model.requires_grad_(False)
    assert float(convolution.weight.std()) == pytest.approx((2 / (96 // 4 * 9)) ** 0.5, rel=0.05)
    assert float(linear.weight.abs().max()) == pytest.approx(1 / 20, rel=0.01)
    assert float(linear.weight.std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert not convolution.bias.any() and not linear.bias.any() and not norm.bias.any()
    assert bool((norm.weight == 1).all()) and bool((prelu.weight == 0.25).all())
    assert not torch.equal(model.scale, scale)
    assert float(model.scale.mean()) == pytest.approx(3, abs=0.01)
    assert float(model.scale.std()) == pytest.approx(0.1, rel=0.05)


def test_masks_stay_and_what_they_keep_is_new(make_model: Make, make_lab: MakeLab) -> None:
    setting = "magnitude(rate=0.75)"
    pruned = dict(weighted_layers(compress(setting, make_model(), make_lab())))
    model = compress(f"scratch(of={setting})", make_model(), make_lab(epochs=1))
    assert len(list(encoded_layers(model))) == len(pruned)
    for name, layer in weighted_layers(model).items():
        kept = pruned[name].weight != 0
        assert torch.equal(layer.weight != 0, kept), name
        assert not torch.isclose(layer.weight[kept], pruned[name].weight[kept]).all(), name


def test_the_whole_budget_is_spent_at_the_learning_rate_of_a_baseline(
    make_model: Make, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    lab = make_lab(epochs=10)
    compress("scratch(of=dynamic(rate=0.25))", make_model(), lab)
    assert lab.spent == pytest.approx(10) and len(rates) == 30
    assert max(rates) == pytest.approx(0.1, rel=0.01)


def test_labels_of_clusters_are_refused(make_model: Make, make_lab: MakeLab) -> None:
    with pytest.raises(BenchError) as caught:
        compress("scratch(of=tic(k=4))", make_model(), make_lab())
    assert str(caught.value).startswith("scratch(of=tic(k=4)): the result of tic(k=4) is in the weights, ")
    assert str(caught.value).endswith("remove filters or set weights to zero")


def test_a_method_that_needs_images_to_choose_is_refused(
    make_model: Make, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ranks(self: Method, model: nn.Module, lab: Lab) -> nn.Module:
        list(lab.batches(1))
        return model

    monkeypatch.setattr(registry.methods()["l1"], "compress", ranks)
    with pytest.raises(BenchError, match=r"scratch prunes without training images, and l1\(rate=0.5\) cannot"):
        compress("scratch", make_model(), make_lab(epochs=1))


def test_a_changed_inner_method_makes_it_another_trial() -> None:
    pipeline = parse("scratch(of=l1+magnitude)+tic")[0]
    assert [stage.name for stage in pipeline.nested] == ["scratch", "l1", "magnitude", "tic"]


def test_every_normalisation_starts_anew(make_model: Callable[..., nn.Module], make_lab: Callable[..., Lab]) -> None:
    fresh, model = (make_model("test_efficientnet_evos") for _ in range(2))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(3)
    parse("scratch(of=none)")[0].compress(model, make_lab(size=64))
    initial = fresh.state_dict()
    norms = [(name, value) for name, value in model.state_dict().items() if "bn" in name and value.dim() == 1]
    assert norms and all(torch.equal(value, initial[name].clamp(0, 1).round()) for name, value in norms)
