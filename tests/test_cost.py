"""Counts against other counters and against what is published; timing against a network known to be slower."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.encodings import SharedFilters
from bench.encodings.base import encode, encoded_layers
from bench.measuring import cost
from bench.measuring.cost import compare, count_macs, count_params
from bench.measuring.latency import saturating_batch, time_beside
from bench.networks import zoo
from bench.networks.layers import convolutions
from bench.networks.work import Work, layer_work
from bench.plugins.setting import parse
from bench.training.lab import Lab

Make = Callable[..., nn.Module]


@pytest.mark.parametrize(
    "name", ["resnet20", "test_efficientnet", "test_convnext", "test_byobnet", "test_nfnet", "mobilenetv3_small_050"]
)
def test_macs_agree_with_torchs_counter(name: str, make_model: Make) -> None:
    model = make_model(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 64, 64))
    assert count_macs(model, (3, 64, 64)) == counter.get_total_flops() / 2


def test_resnet_56_costs_what_is_published() -> None:
    model = zoo.create_model("resnet56", 10, 3)
    assert count_params(model) == 853_018
    assert count_macs(model, (3, 32, 32)) == pytest.approx(125.5e6, rel=5e-4)


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv3_small_050", "test_convnext", "test_mambaout"])
def test_layers_make_the_whole(name: str, make_model: Make) -> None:
    size = (3, 32, 32) if name == "resnet20" else (3, 64, 64)
    model = make_model(name)
    assert sum(work.macs for work in layer_work(model, size).values()) == count_macs(model, size)


def test_what_a_layer_reads_and_writes(make_model: Make) -> None:
    found = layer_work(make_model(), (3, 32, 32))
    assert found["conv1"] == Work(32 * 32 * 16 * 3 * 9, 32 * 32, 32 * 32)
    assert found["fc"] == Work(64 * 4, 1, 1)
    blocks = layer_work(make_model("test_convnext"), (3, 64, 64))
    layer = make_model("test_convnext").get_submodule("stages.0.blocks.0.mlp.fc1")
    positions = (64 // 4) ** 2  # one for each patch of the stem
    assert blocks["stages.0.blocks.0.mlp.fc1"] == Work(positions * layer.weight.numel(), positions, positions)


def test_a_transposed_a_strided_and_a_grouped_convolution_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.Flatten(), nn.Linear(8 * 7 * 7, 5))
    assert count_macs(model, (4, 16, 16)) == 7 * 7 * 8 * 2 * 9 + 8 * 7 * 7 * 5
    assert layer_work(model, (4, 16, 16)) == {
        "0": Work(7 * 7 * 8 * 2 * 9, 16 * 16, 7 * 7),
        "2": Work(8 * 7 * 7 * 5, 1, 1),
    }


def test_attention_is_counted() -> None:
    model = zoo.create_model("test_vit", 4, 3)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 160, 160))
    # The counter knows no fused attention on a CPU since torch 2.12: queries by keys and weights by values, by hand.
    tokens, width, blocks = (160 // 16) ** 2 + 1, model.embed_dim, len(model.blocks)
    known = sum(count for name, count in counter.get_flop_counts()["Global"].items() if "attention" not in str(name))
    assert count_macs(model, (3, 160, 160)) == known // 2 + blocks * 2 * tokens**2 * width


def test_a_compressed_network_costs_what_its_layers_cost(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    dense = make_model()
    lab = make_lab()
    model = parse("kse(G=4)")[0].compress(make_model(), lab).eval()
    found = compare(dense, model, (3, 32, 32), lab.notes)
    outside = found.macs_dense - sum(layer.macs_dense for layer in found.layers)
    assert found.macs == outside + sum(layer.macs for layer in found.layers)
    assert found.layers[0].reason == "the network's first convolution, which reads the image, stays dense"
    weights = {name: encoding.formula_bits() for name, _, encoding in encoded_layers(model)}
    encoded = sum(convolutions(dense)[name].weight.numel() for name in weights)
    assert found.kernel_ratio == pytest.approx(32 * encoded / sum(weights.values()))
    rest = count_params(dense) - encoded
    assert found.formula_ratio == pytest.approx(32 * count_params(dense) / (32 * rest + sum(weights.values())))


def test_removing_half_the_filters_is_seen_by_the_counter(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    model = parse("l1(rate=0.5)")[0].compress(make_model(), make_lab()).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32))
    found = compare(make_model(), model, (3, 32, 32), {})
    assert found.macs == counter.get_total_flops() / 2
    assert found.formula_ratio == pytest.approx(found.params_dense / found.params)


class Slow(nn.Module):
    """Does everything four times over."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(4):
            y = self.inner(x)
        return y


def test_a_network_that_does_everything_four_times_is_measured_slower(make_model: Make) -> None:
    dense, images = make_model(), torch.zeros(4, 3, 32, 32)
    timing = time_beside(Slow(dense), dense, images)
    assert 0.1 < timing.speedup.value < 0.6
    assert timing.p50 <= timing.p90 <= timing.p99
    assert timing.speedup.low <= timing.speedup.value <= timing.speedup.high
    assert timing.images_per_second == pytest.approx(4000 / timing.p50)


def test_the_saturating_batch_is_a_power_of_two(make_model: Make) -> None:
    batch = saturating_batch(make_model(), torch.zeros(1, 3, 32, 32))
    assert batch & (batch - 1) == 0 and 1 <= batch <= 1024


@pytest.mark.parametrize(("busy", "expected"), [((), 16), ((4,), 16), ((8,), 16), ((32, 64), 16)])
def test_one_busy_moment_does_not_end_the_search(
    busy: tuple[int, ...], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_once(_: nn.Module, images: Tensor) -> float:
        return max(1.0, len(images) / 16) * (3 if len(images) in busy else 1)  # saturates at 16 images

    monkeypatch.setattr("bench.measuring.latency.time_once", time_once)
    assert saturating_batch(nn.Identity(), torch.zeros(1, 3, 8, 8)) == expected


@pytest.mark.parametrize("setting", ["magnitude(rate=0.9)", "kse", "tic(k=8)", "fixed(keep=0.5)"])
def test_standardised_weights_save_no_arithmetic(setting: str, make_model: Make, make_lab: Callable[..., Lab]) -> None:
    dense = make_model("test_nfnet")
    model = parse(setting)[0].compress(make_model("test_nfnet"), make_lab(size=64))
    found = cost.compare(dense, model, (3, 64, 64), {})
    encoded = {name for name, _, _ in encoded_layers(model)}
    own = [layer for layer in found.layers if layer.name in encoded and "Std" in type_of(dense, layer.name)]
    assert own and all(
        layer.macs == layer.macs_full == layer.macs_dense and layer.bits < layer.bits_dense for layer in own
    )
    assert all("standardised" in layer.reason for layer in own)


def type_of(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name)).__name__


@pytest.mark.parametrize(("merged", "told"), [(4, "depthwise; takes more bits than dense"), (5, "depthwise")])
def test_an_encoding_that_takes_more_bits_than_dense_says_so(merged: int, told: str) -> None:
    """32 filters of one number: each one merged saves 32 bits, and labels take 32 * 5."""
    dense, model = (nn.Sequential(nn.Conv2d(32, 32, 1, groups=32)) for _ in range(2))
    labels = torch.arange(32).clamp(max=31 - merged)
    encode(model[0], SharedFilters(labels, model[0].weight[: 32 - merged].detach(), groups=32))
    (layer,) = compare(dense, model, (32, 4, 4), {"0": "depthwise"}).layers
    assert (layer.bits, layer.bits_dense, layer.reason) == ((32 - merged) * 32 + 32 * 5, 1024, told)
