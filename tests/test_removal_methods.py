"""Methods that remove filters: `l1` and `random`, their rates, and the networks of the paper."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bench_methods.l1 import L1, sum_magnitudes
from bench_methods.random import Random
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench import BenchError, FilterGroup, layer_rates
from bench.measuring.cost import count_params
from bench.networks.zoo import create_model
from bench.pruning.rates import parse_ranges, removed_count

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class FakeLab(SimpleNamespace):
    """What the methods need of a Lab."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(example_input=IMAGE, generator=torch.Generator().manual_seed(seed), notes={}, fits=0)

    def note(self, layer_name: str, text: str, *, reachable: bool = True) -> None:
        self.notes[layer_name] = text

    def fit(self, model: nn.Module) -> None:
        self.fits += 1


def test_kept_filters_are_counted_in_decimals() -> None:
    assert 16 - removed_count(16, 0.1) == 14
    assert 100 - removed_count(100, 0.9) == 10  # 100 * (1 - 0.9) is 9.999999999999998 in floating point
    assert 5 - removed_count(5, 0.999) == 1
    assert removed_count(64, 0.0) == 0


def test_rates_by_layer() -> None:
    model = create_model("resnet20", 10, 3)
    rates = list(layer_rates(model, 0.5, "2-3=0.1, 19=0", skip=(3,)).values())
    assert rates == [0.5, 0.1, 0.0, *[0.5] * 15, 0.0]
    assert parse_ranges("") == []
    with pytest.raises(BenchError, match="skip=20 matches no layer: the network has 19 convolutions, conv1, "):
        layer_rates(model, 0.5, skip=(20,))
    for wrong in ("x", "3-1=0.5", "0=0.5", "1=1"):
        with pytest.raises(BenchError, match="should"):
            L1(rates=wrong)


@pytest.mark.parametrize(
    ("network", "method", "macs", "params"),
    [
        ("resnet56", L1(rate=0.1, skip=(16, 20, 38, 54)), 112_435_840, 773_336),
        ("resnet56", Random(rate=0.1, skip=(16, 20, 38, 54)), 112_435_840, 773_336),
        (
            "resnet56",
            L1(rates="1-19=0.6,20-37=0.3,38-55=0.1", skip=(16, 18, 20, 34, 38, 54)),
            90_907_264,
            735_712,
        ),
        ("resnet110", L1(rate=0, rates="1-37=0.5", skip=(36,)), 212_779_648, 1_688_522),
        ("vgg16_512_cifar", L1(rate=0, rates="1=0.5,8-13=0.5"), 206_279_680, 5_399_690),
    ],
    ids=["ResNet-56-A", "random as ResNet-56-A", "ResNet-56-B", "ResNet-110-A", "VGG-16-A"],
)
def test_the_published_networks_come_out(network: str, method: L1 | Random, macs: int, params: int) -> None:
    model = create_model(network, 10, 3)
    lab = FakeLab()
    smaller = method.compress(model.eval(), lab)  # type: ignore[arg-type]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        smaller(IMAGE)
    assert (counter.get_total_flops() // 2, count_params(smaller)) == (macs, params)
    assert lab.fits == 1


def test_l1_keeps_the_largest_filters_and_says_what_it_did() -> None:
    model: Any = create_model("resnet20", 10, 3)
    sums = model.layer1[0].conv1.weight.abs().sum((1, 2, 3))
    kept = sums.argsort()[-8:].sort().values
    expected = model.layer1[0].conv1.weight[kept].clone()
    lab = FakeLab()
    L1(rate=0.5).compress(model, lab)  # type: ignore[arg-type]
    assert torch.equal(model.layer1[0].conv1.weight, expected)
    assert lab.notes["layer1.0.conv1"] == "8 of 16 filters kept"
    assert lab.notes["conv1"].startswith("all filters kept: tied by sums")
    assert len(lab.notes) == 20


def test_greedy_sums_only_what_is_still_read() -> None:
    weight = torch.tensor([[5.0, 1.0], [0.0, 2.0]]).reshape(2, 2, 1, 1)
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False))
    model[0].weight.data = weight
    group = FilterGroup(convolutions=("0",), channels=2)
    assert sum_magnitudes(model, group, {})[0].tolist() == [6, 2]
    assert sum_magnitudes(model, group, {"0": {0}})[0].tolist() == [1, 2]
    plain, greedy = (create_model("vgg16_cifar", 10, 3) for _ in range(2))
    greedy.load_state_dict(plain.state_dict())
    L1().compress(plain, FakeLab())  # type: ignore[arg-type]
    L1(greedy=True).compress(greedy, FakeLab())  # type: ignore[arg-type]
    first, second = ({k: v for k, v in m.state_dict().items()} for m in (plain, greedy))
    assert torch.equal(first["features.0.weight"], second["features.0.weight"])
    assert not torch.equal(first["features.40.weight"], second["features.40.weight"])


def test_random_is_drawn_from_the_lab() -> None:
    first, again, other = (create_model("resnet20", 10, 3) for _ in range(3))
    for twin in (again, other):
        twin.load_state_dict(first.state_dict())
    for model, seed in ((first, 0), (again, 0), (other, 1)):
        Random(rate=0.5).compress(model, FakeLab(seed))  # type: ignore[arg-type]
    name = "layer1.0.conv1.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    assert count_params(first) == count_params(other)
