"""Feature maps found by their calls, held against what networks keep of their own accord."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import BenchError
from bench.networks.layers import convolutions
from bench.pruning.feature_maps import FeatureMaps

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))

Make = Callable[..., nn.Module]


class Paths(nn.Module):
    """Convolutions with all kinds of followers; `kept` holds copies of the tensors where the way of each ends."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        for name in ("stem", "inner", "outer", "twice", "gate", "frozen", "bare", "stated", "shared", "pre", "last"):
            self.add_module(name, nn.Conv2d(3 if name == "stem" else 4, 4, 3, padding=1))
        self.unused = nn.Conv2d(4, 4, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(5)])
        for name, tensor in self.named_parameters():
            nn.init.normal_(tensor, std=0.3 if "weight" in name else 0.1)
        for norm in self.norms:
            nn.init.uniform_(norm.weight, 0.5, 2)
        self.act, self.slopes = nn.ReLU(inplace=True), nn.PReLU(4)
        self.register_buffer("scale", torch.rand(4))
        self.kept: dict[str, list[Tensor]] = {}

    def keep(self, name: str, values: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():  # so that it does not count as a reader
            self.kept.setdefault(name, []).append(values.detach().clone())
        return values

    def forward(self, x: Tensor) -> Tensor:
        self.kept = {}
        x = self.keep("stem", self.act(self.norms[0](self.stem(x))))
        y = self.keep("inner", F.hardswish(self.norms[1](self.inner(x)), inplace=True))
        y = self.keep("outer", self.norms[2](self.outer(y)))
        y += x  # the sum is nobody's alone
        x = self.act(y)
        for _ in range(2):
            x = self.keep("twice", self.slopes(self.twice(x)))
        x = x * self.keep("gate", self.gate(x).sigmoid())
        x = self.keep("frozen", F.gelu(self.frozen(x) * self.scale.view(1, -1, 1, 1) + 0.1))
        x = self.keep("bare", self.bare(x)).flip(3)
        x = self.stated(x)
        self.keep("stated", x)
        x.relu_()  # what it returns is thrown away
        x = self.keep("shared", self.shared(x))
        x = self.act(self.norms[3](x) + x)  # read twice
        x = self.keep("pre", self.pre(x))
        shortcut = x
        x = self.act(x)  # changes the shortcut too
        x = self.keep("last", self.norms[4](self.last(x + shortcut)))
        return x.mean((2, 3))


@pytest.fixture
def network() -> Paths:
    return Paths().eval()


def test_maps_are_taken_where_the_way_of_each_convolution_ends(network: Paths) -> None:
    maps, seen = FeatureMaps(network, IMAGES[:1]), {}

    def look(name: str, values: Tensor) -> Tensor:
        seen.setdefault(name, []).append(values.detach().clone())
        return values

    maps.run(IMAGES, look)
    assert list(maps.channels) == list(network.kept) and set(maps.channels.values()) == {4}
    assert "unused" not in maps.channels
    for name, expected in network.kept.items():
        assert len(seen[name]) == len(expected) == (2 if name == "twice" else 1)
        assert all(map(torch.equal, seen[name], expected)), name


@pytest.mark.parametrize(
    "name", ["stem", "inner", "outer", "gate", "frozen", "bare", "stated", "shared", "pre", "last"]
)
def test_what_is_changed_is_what_the_network_goes_on_with(network: Paths, name: str) -> None:
    maps = FeatureMaps(network, IMAGES[:1])
    plain = network(IMAGES)
    changed = maps.run(IMAGES, lambda layer, values: values * 0.5 if layer == name else values)
    original = network.keep
    network.keep = lambda layer, values: original(layer, values.mul_(0.5) if layer == name else values)  # type: ignore[method-assign]
    with torch.no_grad():
        expected = network(IMAGES)
    assert torch.allclose(changed, expected, atol=1e-6)
    assert not torch.allclose(changed, plain, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["resnet20", "test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet", "densenet121"],
)
def test_looking_changes_nothing(name: str, make_model: Make) -> None:
    model = make_model(name)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    maps = FeatureMaps(model, images[:1])
    assert torch.equal(maps.run(images, lambda _, values: values * 1), expected)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert set(maps.channels) == set(convolutions(model))
    assert all(maps.channels[key] == layer.out_channels for key, layer in convolutions(model).items())
    assert torch.equal(model(images), expected)


def test_maps_of_half_precision_and_of_other_layouts(make_model: Make) -> None:
    model = make_model("test_resnet").to(torch.bfloat16).to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    seen = []

    def look(name: str, values: Tensor) -> Tensor:
        seen.append((values.dtype, values.is_contiguous(memory_format=torch.channels_last)))
        return values

    outputs = FeatureMaps(model, images[:1]).run(images, look)
    assert torch.equal(outputs, model(images)) and set(seen) == {(torch.bfloat16, True)}


class Moody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.early = self.late = False

    def forward(self, x: Tensor) -> Tensor:
        x = x * 2 if self.early else x
        x = self.conv(x)
        return x.relu().sigmoid() if self.late else x.relu()


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_network_that_computes_something_else_is_told(when: str) -> None:
    model = Moody()
    maps = FeatureMaps(model, IMAGES[:1])
    setattr(model, when, True)
    with pytest.raises(BenchError, match="does not compute the same steps each time"):
        maps.run(IMAGES, lambda _, values: values)
