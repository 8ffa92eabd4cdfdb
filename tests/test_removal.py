"""Removed filters: gone without a trace in what the rest computes, on networks of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from timm.layers.non_local_attn import BatNonLocalAttn
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench import BenchError, FilterGroup, filter_groups, remove_filters, shrink_to
from bench.measuring.cost import count_params
from bench.networks.zoo import create_model

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def randomised(name: str, seed: int = 0) -> nn.Module:
    """A network whose batch norms have statistics, scales and shifts that matter."""
    torch.manual_seed(seed)
    model = create_model(name, 10, 3).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model


def norms_after(model: nn.Module) -> dict[str, str]:
    """The batch norm that reads each convolution's output, found by running the network."""
    outputs: dict[int, str] = {}
    found: dict[str, str] = {}
    alive = []

    def ran(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Conv2d):
                outputs[id(output)] = name
                alive.append(output)
            elif id(inputs[0]) in outputs:
                found[outputs[id(inputs[0])]] = name

        return hook

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [module.register_forward_hook(ran(name)) for name, module in layers]
    with torch.no_grad():
        model(IMAGE)
    for hook in hooks:
        hook.remove()
    return found


@torch.no_grad()
def silence(model: nn.Module, name: str, indices: list[int], norm_name: str | None) -> None:
    """Let filters give zeros, after batch norm and any activation that maps 0 to 0."""
    layer: Any = model.get_submodule(name)
    layer.weight[indices] = 0
    if layer.bias is not None:
        layer.bias[indices] = 0
    norm: Any = model.get_submodule(norm_name) if norm_name else None
    for tensor in (norm.weight, norm.bias, norm.running_mean) if norm else ():
        tensor[indices] = 0


@pytest.mark.parametrize(
    ("name", "tied", "groups"),
    [
        ("resnet20", False, 9),
        ("vgg16_cifar", False, 13),
        ("resnet18", True, 12),
        ("resnet26", False, 17),
        ("mobilenetv3_small_050", False, 23),
        ("mobilenetv3_small_050", True, 26),
        ("seresnet18", True, 20),
        ("ghostnet_050", False, 25),
        ("efficientnet_b0", False, 35),
        ("densenet121", False, 120),
        ("cs3darknet_focus_s", False, 18),  # its first operation is a concatenation that Torch-Pruning cannot map
    ],
)
def test_the_rest_computes_what_it_did_when_the_filters_gave_zeros(name: str, tied: bool, groups: int) -> None:
    model = randomised(name)
    norms = norms_after(model)
    found, left_dense = filter_groups(model, IMAGE, tied=tied)
    assert len(found) == groups
    members = {member for group in found for member in group.members}
    assert sorted([*members, *left_dense]) == sorted(
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    )
    removed: dict[str, list[int]] = {}
    expected = deepcopy(model)
    for group in found:
        if name == "densenet121" and not group.convolutions[0].endswith("conv1"):
            continue  # read by many batch norms, after concatenation
        indices = torch.randperm(group.channels)[: group.channels // 3].tolist()
        removed[group.convolutions[0]] = indices
        for member in members_that_add(group):
            layer: Any = model.get_submodule(member)
            halves = range(0, layer.out_channels, group.channels)  # GhostNet: computed and cheap ones, concatenated
            silence(expected, member, [half + j for half in halves for j in indices], norms.get(member))
    smaller = deepcopy(model)
    remove_filters(smaller, IMAGE, removed)
    with torch.no_grad():
        difference = (smaller(IMAGE) - expected(IMAGE)).abs().max()
        assert difference < 1e-5 * expected(IMAGE).abs().max()
        assert difference < 1e-3 * (model(IMAGE) - expected(IMAGE)).abs().max()  # it would have shown
    assert count_params(smaller) < count_params(model)


def members_that_add(group: FilterGroup) -> list[str]:
    return [name for name in group.members if not name.endswith(("se.fc2", "se.conv_expand"))]


def test_gates_and_depthwise_convolutions_follow() -> None:
    found, _ = filter_groups(create_model("mobilenetv3_small_050", 10, 3), IMAGE)
    group = next(group for group in found if group.convolutions == ("blocks.1.0.conv_pw",))
    assert group.followers == ("blocks.1.0.conv_dw",)
    group = next(group for group in found if group.convolutions == ("blocks.2.0.conv_pw",))
    assert group.followers == ("blocks.2.0.conv_dw", "blocks.2.0.se.conv_expand")


@pytest.mark.parametrize("tied", [False, True])
def test_streams_padded_with_zeros_stay_whole(tied: bool) -> None:
    model = create_model("resnet20", 10, 3)
    found, left_dense = filter_groups(model, IMAGE, tied=tied)
    assert all(group.convolutions[0].endswith(".conv1") for group in found)
    assert len(left_dense) == 10
    assert all("tied" in reason for reason in left_dense.values())
    with pytest.raises(BenchError, match="'layer2.0.conv2' cannot lose filters: tied to some of the channels"):
        remove_filters(model, IMAGE, {"layer2.0.conv2": [0]})


class Odd(nn.Module):
    """A network with something between two convolutions that the tracer takes for element-wise."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)
        self.head, self.between = nn.Linear(4, 10), between

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.between(self.first(x)).relu()).relu()
        return self.head(self.third(x).mean((2, 3)))


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x[:, [1, 0, 3, 2, 5, 4, 7, 6]],
        lambda x: x.flip(1),
        lambda x: x.softmax(1),
        lambda x: x - x.mean(1, keepdim=True),
        lambda x: x.roll(1, dims=1),
        lambda x: x.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2),
        lambda x: x.view(-1, 8, *x.shape[2:]),
        lambda x: nn.functional.conv2d(x.flip(1), torch.eye(8)[:, :, None, None]),  # float32 whatever the network is
    ],
)
def test_what_the_tracer_gets_wrong_stays_dense(between: Callable[[Tensor], Tensor]) -> None:
    model = Odd(between)
    found, left_dense = filter_groups(model, IMAGE)
    assert [group.convolutions for group in found] == [("second",), ("third",)]
    assert list(left_dense) == ["first"]


def test_outputs_grouped_unused_and_untraceable_convolutions_stay_dense() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 1))
    model.register_module("unused", nn.Identity())
    _, left_dense = filter_groups(model, IMAGE)
    assert left_dense == {
        "0": "its channels meet the grouped convolution 1",
        "1": "its channels meet the grouped convolution 1",
        "2": "its filters are the network's outputs",
    }
    broken = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten())
    assert list(filter_groups(broken, IMAGE)[1]) == ["0"]


def test_attention_that_the_tracer_loses_track_of_stays_dense() -> None:
    attention = BatNonLocalAttn(16, block_size=8)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), attention, nn.Conv2d(16, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    found, left_dense = filter_groups(model.eval(), IMAGE)
    assert [group.convolutions for group in found] == [("1.ba.conv1.conv",), ("1.ba.conv2.conv",), ("2",)]
    assert left_dense["1.ba.conv_p"] == left_dense["1.conv1.conv"] == "its channels are mixed with others"


def test_nothing_but_the_filters_changes() -> None:
    model: Any = randomised("test_resnet").train().to(memory_format=torch.channels_last)
    model.layer1[0].bn1.eval()
    frozen = model.layer1[0].conv1.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    before, random_state = deepcopy(model.state_dict()), torch.get_rng_state()
    with torch.no_grad():
        found, _ = filter_groups(model, IMAGE)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        remove_filters(model, IMAGE, {"layer1.0.conv1": [0, 5], "layer2.0.conv1": [1]})
    assert torch.equal(random_state, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert model.layer1[0].conv1.weight.shape[0] == model.layer1[0].bn1.num_features == frozen.shape[0] - 2
    assert not model.layer1[0].conv1.weight.requires_grad
    assert model.layer1[0].conv2.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(isinstance(p, nn.Parameter) and p.is_leaf for p in model.parameters())
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.cat([IMAGE, IMAGE.flip(3)]))[0].sum().backward()
    weight = model.layer2[0].conv1.weight.detach().clone()
    optimiser.step()
    assert not torch.equal(weight, model.layer2[0].conv1.weight)


def test_mistakes_are_told() -> None:
    model = create_model("resnet20", 10, 3)
    before = count_params(model)
    for indices, message in (([16], "filters 0 to 15, not 16"), (range(16), "would lose all of its 16 filters")):
        with pytest.raises(BenchError, match=message):
            remove_filters(model, IMAGE, {"layer1.0.conv1": indices})
    with pytest.raises(BenchError, match="'conv9' cannot lose filters: no such convolution"):
        remove_filters(model, IMAGE, {"conv9": [0]})
    parametrize.register_parametrization(model.layer3[0].conv1, "weight", nn.Identity())
    for act in (lambda: filter_groups(model, IMAGE), lambda: remove_filters(model, IMAGE, {})):
        with pytest.raises(BenchError, match="filters are removed before weights are encoded.*layer3.0.conv1"):
            act()
    assert count_params(model) == before


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_smaller_network_is_rebuilt_from_shapes(name: str) -> None:
    model = randomised(name)
    found, _ = filter_groups(model, IMAGE, tied=True)
    remove_filters(model, IMAGE, {group.convolutions[0]: range(group.channels // 3) for group in found})
    state = model.state_dict()
    twin = create_model(name, 10, 3).eval()
    shrink_to(twin, {key: tensor.shape for key, tensor in state.items()})
    twin.load_state_dict(state)
    assert repr(twin) == repr(model)
    assert torch.equal(twin(IMAGE), model(IMAGE))
