"""`dynamic`: masks that change in training, what becomes of them, and the decorrelation penalty."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench import BenchError, Lab, convolutions, keep_highest_overall, weighted_layers
from bench.encodings.base import encoded_layers
from bench.measuring.cost import compare, count_macs
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.training.loop import one_cycle

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]

paper: Any = sys.modules[registry.methods()["dynamic"].__module__]


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    return parse(setting)[0].compress(model, lab).eval()


def gated(weight: Tensor, kept: Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2], bias=False)
    layer.weight = nn.Parameter(weight.clone())
    parametrize.register_parametrization(layer, "weight", paper.StraightThrough(layer.weight))
    layer.parametrizations.weight[0].kept = kept  # type: ignore[union-attr, index]
    return layer


def test_what_is_pruned_computes_nothing_but_is_given_the_gradient_of_the_masked_weight() -> None:
    torch.manual_seed(0)
    weight, images, wanted = torch.randn(3, 2, 3, 3), torch.randn(4, 2, 6, 6), torch.randn(4, 3, 4, 4)
    kept = torch.tensor([True, False, True])[:, None, None, None]
    layer = gated(weight, kept)
    (layer(images) - wanted).square().sum().backward()
    masked = (weight * kept).requires_grad_()
    (nn.functional.conv2d(images, masked) - wanted).square().sum().backward()
    assert torch.equal(layer.weight, weight * kept)
    original = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert torch.equal(original.grad, masked.grad) and original.grad[1].abs().min() > 0


def test_a_pruned_filter_grows_under_its_mask_and_comes_back() -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 1, 3, 3)
    weight[0] *= 0.1
    layer = gated(weight, torch.tensor([False, True])[:, None, None, None])
    target = nn.functional.conv2d(
        images := torch.randn(64, 1, 5, 5), torch.randn(2, 1, 3, 3) * torch.tensor([2, 0.5])[:, None, None, None]
    )
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        (layer(images) - target).square().mean((0, 2, 3)).sum().backward()
        optimiser.step()
    assert layer.weight[0].abs().max() == 0
    kept = keep_highest_overall({"": paper.filter_magnitudes([layer])}, 0.5)[""]
    assert kept.flatten().tolist() == [True, False]


def test_masks_are_made_anew_every_period_from_the_dense_weights_and_freeze_at_three_quarters(
    make_model: Make, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, dict[str, Tensor]]] = []

    def spy(scores: dict[str, Tensor], rate: float, **options: Any) -> dict[str, Tensor]:
        kept = keep_highest_overall(scores, rate, **options)
        seen.append((rate, kept))
        return kept

    monkeypatch.setattr(paper, "keep_highest_overall", spy)
    model = compress("dynamic(rate=0.5, period=2)", make_model(), make_lab(epochs=4))  # 12 steps, 9 of them masked
    masks = [torch.cat([kept.flatten() for kept in masks.values()]) for _, masks in seen]
    assert len(masks) == 1 + 9 // 2 + 1 and all(len(mask) == 688 and mask.sum() == 344 for mask in masks)
    returned = sum(int((later & ~mask).sum()) for mask, later in zip(masks, masks[1:], strict=False))
    assert returned > 0, "no filter ever came back"
    final = {name: kept.flatten() for name, kept in seen[-1][1].items()}
    for name, layer in convolutions(model).items():
        if len(layer.weight) == len(final[name]):  # tied, so zero
            assert torch.equal(layer.weight.abs().sum((1, 2, 3)) > 0, final[name]), name
        else:
            assert len(layer.weight) == final[name].sum(), name


def test_without_a_budget_the_filters_of_the_smallest_mean_go(make_model: Make, make_lab: MakeLab) -> None:
    dense = convolutions(make_model())
    means = {name: layer.weight.detach().abs().mean((1, 2, 3)).numpy() for name, layer in dense.items()}
    bar = np.sort(np.concatenate(list(means.values())))[-412]  # floor(688 * 0.6) stay
    lab = make_lab()
    model = compress("dynamic(rate=0.4)", make_model(), lab)
    for name, layer in convolutions(model).items():
        kept = max(1, int((means[name] >= bar).sum()))
        assert int((layer.weight.abs().sum((1, 2, 3)) > 0).sum()) == kept, name
        assert lab.notes[name].startswith(f"{kept} of {len(means[name])} filters kept") or kept == len(means[name])
    masked = {name for name, *_ in encoded_layers(model)}
    assert masked and not any(name.endswith("conv1") and name != "conv1" for name in masked), "those can go for good"


def test_what_is_removed_is_really_gone(make_model: Make, make_lab: MakeLab) -> None:
    dense, lab = make_model("vgg16_cifar"), make_lab(epochs=1)
    model = compress("dynamic(rate=0.3)", make_model("vgg16_cifar"), lab)
    found = compare(dense, model, (3, 32, 32), lab.notes)
    assert not list(encoded_layers(model))
    assert found.macs == count_macs(model, (3, 32, 32)) < count_macs(dense, (3, 32, 32))
    before, after = (sum(layer.out_channels for layer in convolutions(net).values()) for net in (dense, model))
    assert 0 <= after - before * 7 // 10 <= len(convolutions(model))  # one stays where all would go


def test_tied_filters_share_a_mask_and_the_stream_shrinks(make_model: Make, make_lab: MakeLab) -> None:
    model = compress("dynamic(rate=0.4, tied=true)", make_model("test_resnet"), make_lab(epochs=1, size=64))
    assert not list(encoded_layers(model))
    dense = convolutions(make_model("test_resnet"))
    smaller = [name for name, layer in convolutions(model).items() if layer.out_channels < dense[name].out_channels]
    assert any("downsample" in name for name in smaller)
    assert model(torch.randn(2, 3, 64, 64)).isfinite().all()


def test_single_weights_by_one_threshold_stay_zero_while_the_rest_is_trained(
    make_model: Make, make_lab: MakeLab
) -> None:
    model = compress("dynamic(granularity=weight, rate=0.9, period=1)", make_model(), make_lab(epochs=2))
    weights = torch.cat([layer.weight.flatten() for layer in weighted_layers(model).values()])
    assert int((weights != 0).sum()) == len(weights) // 10
    assert len(list(encoded_layers(model))) == len(weighted_layers(model)) == len(convolutions(model)) + 1


def test_the_rate_of_weights_grows_cubically() -> None:
    method = paper.Dynamic(rate=0.8, granularity="weight", ramp=0.5)
    assert [method.rate_at(t) for t in (0, 0.25, 0.5, 0.75)] == pytest.approx([0, 0.8 * 7 / 8, 0.8, 0.8])
    assert paper.Dynamic(rate=0.8).rate_at(0) == 0.8


def test_both_trainings_follow_one_schedule(
    make_model: Make, make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    lab = make_lab(epochs=4)
    compress("dynamic", make_model(), lab)
    assert rates == pytest.approx([0.01 * one_cycle(step / 12) for step in range(12)])
    assert lab.spent == pytest.approx(4)


def numpy_correlation(filters: np.ndarray) -> float:
    matrix = np.corrcoef(filters)
    return float(np.linalg.norm(matrix - np.diag(np.diag(matrix))) / len(filters))


def test_correlation_is_numpys() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.05
    assert float(paper.correlation(weight)) == pytest.approx(numpy_correlation(weight.flatten(1).numpy()), rel=1e-5)
    weight[2], weight[4] = 0, 1e-5
    alive = weight[[0, 1, 3, 5]].flatten(1).numpy()
    assert float(paper.correlation(weight)) == pytest.approx(numpy_correlation(alive), rel=1e-5)


def test_correlation_is_of_filters_that_read_the_same_inputs() -> None:
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    halves = [numpy_correlation(half.flatten(1).numpy()) * 3 for half in weight.split(3)]
    assert float(paper.correlation(weight, groups=2)) == pytest.approx(np.hypot(*halves) / 6, rel=1e-5)
    assert float(paper.correlation(weight[:, :1], groups=6)) == 0


@pytest.mark.parametrize("case", ["alive", "some zero", "one alive", "none alive", "single numbers"])
def test_correlation_has_the_gradient_of_finite_differences(case: str) -> None:
    weight = torch.randn(4, 2, 2, 2, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    weight[{"some zero": [2], "one alive": [1, 2, 3], "none alive": [0, 1, 2, 3]}.get(case, [])] = 0
    weight = weight[:, :1, :1, :1] if case == "single numbers" else weight
    alive = weight.flatten(1).abs().sum(1) > 0
    pairs = int(alive.sum()) > 1 and case != "single numbers"
    if pairs:
        assert torch.autograd.gradcheck(
            lambda rows: paper.correlation(weight.index_put((alive,), rows)), weight[alive].requires_grad_()
        )
    gradient = torch.autograd.grad(paper.correlation(weight.requires_grad_()), weight)[0]
    assert gradient.isfinite().all() and not gradient[~alive].any()
    assert bool(gradient.any()) == pairs


def test_a_constant_filter_correlates_with_none() -> None:
    weight = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    weight[1] = 0.5
    others = numpy_correlation(weight[[0, 2, 3]].flatten(1).numpy())
    assert float(paper.correlation(weight)) == pytest.approx(others * 3 / 4, rel=1e-5)


def test_decorrelation_makes_filters_less_alike_and_removes_none(make_model: Make, make_lab: MakeLab) -> None:
    def alike(setting: str) -> float:
        torch.manual_seed(0)
        model = compress(setting, make_model(), make_lab(epochs=6))
        assert not list(encoded_layers(model)) and convolutions(model)["layer1.0.conv1"].out_channels == 16
        return sum(
            numpy_correlation(layer.weight.detach().flatten(1).numpy()) for layer in convolutions(model).values()
        )

    assert alike("dynamic(rate=0, decorrelation=20)") < 0.95 * alike("dynamic(rate=0)")


def test_an_earlier_methods_encodings_are_refused_for_filters_and_kept_for_weights(
    make_model: Make, make_lab: MakeLab
) -> None:
    with pytest.raises(BenchError, match="put the method that removes filters first"):
        compress("magnitude+dynamic", make_model(), make_lab())
    model = compress("dynamic+tic(k=4)", make_model(), make_lab(epochs=2))
    stream = convolutions(model)["layer3.2.conv2"].weight
    assert int((stream.abs().sum((1, 2, 3)) > 0).sum()) < len(stream)
