"""Rankings of filters against autograd, finite differences, hooks and sums by hand."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench import FilterGroup, Lab, filter_macs, group_scores, rank_filters
from bench.networks.layers import convolutions
from bench.pruning import criteria as ranking
from bench.pruning.feature_maps import FeatureMaps

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def network() -> nn.Module:
    """Two convolutions with batch norm and ReLU, the second one followed by pooling, in double precision."""
    torch.manual_seed(0)
    layers = {
        "first": nn.Conv2d(3, 5, 3, padding=1),
        "norm": nn.BatchNorm2d(5),
        "relu": nn.ReLU(),
        "second": nn.Conv2d(5, 4, 3, stride=2),
        "gelu": nn.GELU(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "head": nn.Linear(4, 3),
    }
    nn.init.uniform_(layers["norm"].running_mean, -0.5, 0.5)
    return nn.Sequential(OrderedDict(layers)).double().eval()


@pytest.fixture
def batches() -> Batches:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(count, 3, 9, 9, generator=generator, dtype=torch.double),
            torch.randint(0, 3, (count,), generator=generator),
        )
        for count in (4, 4, 3)
    ]


def maps_of(network: nn.Module) -> FeatureMaps:
    return FeatureMaps(network, torch.zeros(1, 3, 9, 9, dtype=torch.double))


def outputs_of(network: nn.Module, names: tuple[str, ...], images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The network's outputs and, by forward hooks, those of some of its layers."""
    kept: list[Tensor] = []
    handles = [getattr(network, name).register_forward_hook(lambda *call: kept.append(call[2])) for name in names]
    outputs = network(images)
    for handle in handles:
        handle.remove()
    return outputs, kept


@pytest.mark.parametrize("signed", [False, True])
def test_taylor_is_the_gradient_on_the_feature_map(network: nn.Module, batches: Batches, signed: bool) -> None:
    sums: list[list[Tensor]] = [[], []]
    for images, labels in batches:
        for image, label in zip(images, labels, strict=True):
            outputs, kept = outputs_of(network, ("relu", "gelu"), image[None])
            for values in kept:
                values.retain_grad()
            F.cross_entropy(outputs, label[None]).backward()
            for scores, values in zip(sums, kept, strict=True):
                scores.append((values.grad * values).mean((0, 2, 3)).detach())  # type: ignore[operator]
    found = ranking.taylor_scores(maps_of(network), batches, signed=signed)
    for name, scores in zip(("first", "second"), sums, strict=True):
        stacked = torch.stack(scores)
        expected = stacked.mean(0).abs() if signed else stacked.abs().mean(0)
        assert torch.allclose(found[name], expected, rtol=1e-5)  # the loss is taken in float32, as in training


def test_taylor_is_the_slope_of_the_loss_along_a_gate(network: nn.Module, batches: Batches) -> None:
    maps = maps_of(network)
    images, labels = batches[0][0][:1], batches[0][1][:1]
    found = ranking.taylor_scores(maps, [(images, labels)])
    for name, positions in (("first", 81), ("second", 16)):
        for channel in range(maps.channels[name]):

            def loss(gate: float, name: str = name, channel: int = channel) -> float:
                def scale(layer: str, values: Tensor) -> Tensor:
                    if layer != name:
                        return values
                    return torch.cat(
                        [values[:, :channel], values[:, channel, None] * gate, values[:, channel + 1 :]], 1
                    )

                with torch.no_grad():
                    return F.cross_entropy(maps.run(images, scale), labels).item()

            slope = (loss(1 + 1e-4) - loss(1 - 1e-4)) / 2e-4
            assert found[name][channel].item() == pytest.approx(abs(slope) / positions, rel=1e-4, abs=1e-8)


class Recurrent(nn.Module):
    """One convolution that runs twice, on maps of two sizes, each cut into four windows first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        for _ in range(2):
            windows = x.unflatten(2, (2, -1)).unflatten(4, (2, -1)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
            x = self.conv(windows).sigmoid().mean((2, 3)).view(count, 2, 2, 3).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


def test_several_runs_and_windows_of_a_convolution_share_a_gate() -> None:
    network, images = Recurrent().eval(), torch.randn(5, 3, 8, 8)
    labels = torch.tensor([0, 1, 2, 0, 1])
    expected = torch.zeros(3, dtype=torch.double)
    for image, label in zip(images, labels, strict=True):
        gate = torch.ones(3, 1, 1, requires_grad=True)
        x = image[None]
        for _ in range(2):
            windows = x.unflatten(2, (2, -1)).unflatten(4, (2, -1)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
            x = (network.conv(windows).sigmoid() * gate).mean((2, 3)).view(1, 2, 2, 3).permute(0, 3, 1, 2)
        F.cross_entropy(network.head(x.mean((2, 3))), label[None]).backward()
        expected += gate.grad.view(3).double().abs() / (64 + 4)  # type: ignore[union-attr]
    found = ranking.taylor_scores(FeatureMaps(network, images[:1]), [(images, labels)])
    assert torch.allclose(found["conv"], expected / 5, rtol=1e-4)


def test_statistics_are_those_of_the_activations(network: nn.Module, batches: Batches) -> None:
    found = ranking.activation_scores(maps_of(network), batches)
    kept = [outputs_of(network, ("relu", "gelu"), images)[1] for images, _ in batches]
    for name, parts in zip(("first", "second"), zip(*kept, strict=True), strict=True):
        values = torch.cat(parts).detach().transpose(0, 1).flatten(1)
        assert torch.allclose(found["mean"][name], values.abs().mean(1))
        assert torch.allclose(found["std"][name], values.std(1, correction=0))
        assert torch.allclose(found["zeros"][name], (values > 0).double().mean(1))
    zeros = torch.cat([part[0] for part in kept]).eq(0).double().mean((0, 2, 3))
    assert torch.allclose(found["zeros"]["first"], 1 - zeros)


@pytest.mark.parametrize("at_once", [1, 3 * 81, 1 << 20])
def test_the_oracle_is_the_loss_without_a_filter(
    network: nn.Module, batches: Batches, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ranking.PIXELS_AT_ONCE, "cpu", at_once)
    found = ranking.loss_changes(maps_of(network), batches)
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))

    @torch.no_grad()
    def loss_without(layer: str | None, channel: int = 0) -> float:
        def silence(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            return output.index_fill(1, torch.tensor([channel]), 0)

        handle = getattr(network, layer or "flat").register_forward_hook(silence if layer else lambda *_: None)
        loss = F.cross_entropy(network(images), labels).item()
        handle.remove()
        return loss

    whole = loss_without(None)
    for name, activation in (("first", "relu"), ("second", "gelu")):
        expected = [abs(loss_without(activation, channel) - whole) for channel in range(len(found[name]))]
        assert found[name].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)
        assert max(expected) > 1e-4


def never() -> Iterator[tuple[Tensor, Tensor]]:
    raise AssertionError("images are drawn")
    yield


def test_weights_and_chance_need_no_images(make_model: Callable[..., nn.Module], make_lab: Callable[..., Lab]) -> None:
    model = make_model("test_resnet")
    weights = rank_filters(model, make_lab(), "weight", never())
    for name, layer in convolutions(model).items():
        filters = layer.weight.detach().flatten(1)
        expected = [sum(w * w for w in row) / len(row) for row in filters.tolist()]
        assert weights[name].tolist() == pytest.approx(expected)
    once, again, other = (rank_filters(model, make_lab(seed=seed), "random", never()) for seed in (0, 0, 1))
    assert all(torch.equal(once[name], again[name]) and not torch.equal(once[name], other[name]) for name in once)
    with pytest.raises(AssertionError, match="images are drawn"):
        rank_filters(model, make_lab(), "taylor", never())


@pytest.mark.parametrize("criterion", get_args(ranking.Criterion))
def test_every_criterion_scores_every_filter(
    criterion: ranking.Criterion, make_model: Callable[..., nn.Module], make_lab: Callable[..., Lab]
) -> None:
    model, lab = make_model("resnet20"), make_lab()
    images, labels = next(iter(lab.held_out()))
    scores = rank_filters(model, lab, criterion, [(images[:2], labels[:2])])
    assert {name: len(values) for name, values in scores.items()} == {
        name: layer.out_channels for name, layer in convolutions(model).items()
    }
    assert all(values.dtype == torch.double and values.isfinite().all() for values in scores.values())
    assert all(values.min() >= 0 for values in scores.values())
    assert sum(values.std() > 0 for values in scores.values()) >= 18
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_scores_of_tied_filters_are_summed_and_divided_by_their_norm() -> None:
    scores = {"a": torch.tensor([1.0, 2.0]).double(), "b": torch.tensor([2.0, 2.0]).double()}
    group = FilterGroup(convolutions=("a", "b"), channels=2)
    assert group_scores(group, scores, normalise=False).tolist() == [3, 4]
    assert group_scores(group, scores).tolist() == pytest.approx([0.6, 0.8])
    assert group_scores(group, scores, costs={"a": 0.1, "b": 0.3}).tolist() == pytest.approx([0.2, 0.4])
    nothing = {"a": torch.zeros(2).double()}
    assert group_scores(FilterGroup(convolutions=("a",), channels=2), nothing).tolist() == [0, 0]


def test_multiply_adds_of_filters_add_up_to_those_of_the_convolutions(make_model: Callable[..., nn.Module]) -> None:
    model = make_model("resnet20")
    image = torch.zeros(1, 3, 32, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    total = sum(filter_macs(model, image)[name] * layer.out_channels for name, layer in convolutions(model).items())
    assert total * 1e6 == pytest.approx(counter.get_total_flops() / 2 - 64 * 4)


class Positions(nn.Module):
    """A convolution on the images, and one that encodes positions, the same for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.places, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 4, 3), nn.Linear(4, 3)
        self.register_buffer("grid", torch.randn(1, 2, 9, 9))

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.images(images) * self.places(self.grid)).mean((2, 3)))


def test_a_map_that_all_images_share_is_gated_for_all_of_them(batches: Batches) -> None:
    torch.manual_seed(0)
    network = Positions().double().eval()
    maps = maps_of(network)
    assert maps.shared == {"places"} and set(maps.channels) == {"images", "places"}
    found = {name: score["places"] for name, score in (
        ("taylor", ranking.taylor_scores(maps, batches, signed=True)), ("oracle", ranking.loss_changes(maps, batches))
    )}  # fmt: skip
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    weight, bias = network.places.weight, network.places.bias
    whole = F.cross_entropy(network(images), labels)
    slopes = torch.autograd.grad(whole, [weight, bias])
    positions = 7 * 7
    for channel in range(4):
        # Gating a linear map is scaling its weights: dC/dg = sum of dC/dw * w.
        slope = (slopes[0][channel] * weight[channel]).sum() + slopes[1][channel] * bias[channel]
        assert found["taylor"][channel] == pytest.approx(abs(slope.item()) / positions, rel=1e-4)
        without = Positions().double().eval()
        without.load_state_dict(network.state_dict())
        with torch.no_grad():
            without.places.weight[channel], without.places.bias[channel] = 0, 0
        change = F.cross_entropy(without(images), labels) - whole
        assert found["oracle"][channel] == pytest.approx(abs(change.item()), abs=1e-6)
