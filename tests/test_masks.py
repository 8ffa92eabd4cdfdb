"""Weights and kernels set to zero: which, how many, what it costs, and what may follow in a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import pytest
import torch
from torch import Tensor, nn

from bench.encodings import ChannelKernels, Mask, ScaledKernels, artifact
from bench.encodings.base import encoded_layers, encoding_of
from bench.measuring import cost
from bench.networks.layers import convolutions, fold, weighted_layers
from bench.plugins.setting import parse
from bench.pruning.masks import drop_lowest, keep_highest
from bench.system.errors import BenchError
from bench.training.lab import Lab

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    return parse(setting)[0].compress(model, lab).eval()


def test_the_highest_are_kept_and_of_equals_the_last() -> None:
    assert keep_highest(torch.tensor([[3.0, 1.0], [2.0, 2.0]]), 2).tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("scope", ["layer", "network"])
@pytest.mark.parametrize("granularity", ["kernel", "weight"])
def test_the_smallest_go(granularity: str, scope: str, make_model: Make, make_lab: MakeLab) -> None:
    reached = weighted_layers if granularity == "weight" else convolutions
    original = {name: layer.weight.detach() for name, layer in reached(make_model()).items()}
    setting = f"l1(granularity={granularity}, scope={scope}, rate=0.7)"
    found = {
        name: layer.weight.detach() for name, layer in reached(compress(setting, make_model(), make_lab())).items()
    }

    def measure(weight: Tensor) -> Tensor:
        return (weight.abs().mean((2, 3)) if granularity == "kernel" else weight.abs()).flatten()

    groups = [[name] for name in original] if scope == "layer" else [list(original)]
    for names in groups:
        sizes = torch.cat([measure(original[name]) for name in names])
        left = torch.cat([measure(found[name]) for name in names])
        threshold = sizes.sort().values[len(sizes) - floor(len(sizes) * 0.3 + 1e-9)]
        assert torch.equal(left, torch.where(sizes >= threshold, sizes, 0))


def test_a_layer_keeps_at_least_its_best(make_lab: MakeLab) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with torch.no_grad():
        model[0].weight *= 1e-3
    drop_lowest(model, make_lab(), lambda layer: layer.weight.abs(), {"0": 0.6, "1": 0.6}, overall=True)
    assert int((model[0].weight != 0).sum()) == 1
    assert model[0].weight.abs().max() == model[0].parametrizations.weight.original.abs().max()


def test_other_rates_for_some_layers_need_a_threshold_of_their_own(make_model: Make, make_lab: MakeLab) -> None:
    for granularity in ("filter", "kernel", "weight"):
        with pytest.raises(BenchError, match="goes with one rate"):
            compress(f"l1(granularity={granularity}, scope=network, rates='3=0.2')", make_model(), make_lab())
    model = compress("l1(granularity=weight, scope=network, rate=0.5, skip=('layer2', 1))", make_model(), make_lab())
    dense = [name for name, layer in convolutions(model).items() if encoding_of(layer) is None]
    assert dense == ["conv1"] + [name for name in convolutions(model) if name.startswith("layer2.")]


def test_filters_of_all_layers_together_are_ranked_by_their_mean_magnitude(make_model: Make, make_lab: MakeLab) -> None:
    original = {
        n: layer.weight.detach()
        for n, layer in convolutions(make_model()).items()
        if n.endswith("0.conv1") or "conv1" in n[6:]
    }
    model = convolutions(compress("l1(scope=network, rate=0.4)", make_model(), make_lab()))
    means = torch.cat([weight.abs().mean((1, 2, 3)) for weight in original.values()])
    threshold = means.sort().values[floor(len(means) * 0.4 + 1e-9)]
    for name, weight in original.items():
        assert len(model[name].weight) == int((weight.abs().mean((1, 2, 3)) >= threshold).sum())


def test_the_record_counts_what_a_mask_keeps(make_model: Make, make_lab: MakeLab) -> None:
    dense = make_model()
    model = compress("magnitude(rate=0.75, scope=layer)", make_model(), make_lab())
    found = cost.compare(dense, model, (3, 32, 32), {})
    weights = sum(layer.weight.numel() for layer in weighted_layers(dense).values())
    kept = sum(int((layer.weight != 0).sum()) for layer in weighted_layers(model).values())
    assert kept == pytest.approx(weights / 4, abs=len(weighted_layers(dense)))
    assert found.params == cost.count_params(dense) - weights + kept
    assert found.macs == pytest.approx(found.macs_dense / 4, rel=0.001)


def test_dropped_kernels_cost_no_index_in_what_follows(make_model: Make, make_lab: MakeLab) -> None:
    for second, kind in (("tic(k=16)", ScaledKernels), ("kse(G=4)", ChannelKernels)):
        masked = compress("l1(granularity=kernel, rate=0.5)", make_model(), make_lab())
        model = compress(f"l1(granularity=kernel, rate=0.5)+{second}", make_model(), make_lab())
        kernels = {name: (layer.weight != 0).flatten(2).any(2) for name, layer in convolutions(masked).items()}
        clustered = [item for item in encoded_layers(model) if isinstance(item[2], kind)]
        assert len(clustered) >= 18
        for name, layer, encoding in clustered:
            assert not layer.weight[~kernels[name]].any()
            if isinstance(encoding, ScaledKernels):
                assert encoding.bits() == int(kernels[name].sum()) * (4 + 3 + 16) + kernels[name].numel()
            elif isinstance(encoding, ChannelKernels):
                labelled = [
                    int(kernels[name][:, channel].sum()) * (size - 1).bit_length()
                    for channel, size in enumerate(encoding.sizes.tolist())
                    if 0 < size < kernels[name][:, channel].sum()
                ]
                stored = int(encoding.sizes.sum()) * 9 * 32
                assert encoding.formula_bits() == stored + sum(labelled) + kernels[name].numel()
        path = artifact.dump(model, artifact.Architecture("resnet20", 4, 3))
        assert len(path) < len(artifact.dump(masked, artifact.Architecture("resnet20", 4, 3)))


def test_kse_clusters_only_the_kernels_that_are_left(make_model: Make, make_lab: MakeLab) -> None:
    model = compress("l1(granularity=kernel, rate=0.3)+kse(G=4)", make_model(), make_lab())
    masked = convolutions(compress("l1(granularity=kernel, rate=0.3)", make_model(), make_lab()))
    for name, layer, encoding in encoded_layers(model):
        if not isinstance(encoding, ChannelKernels):
            continue
        for channel, size in enumerate(encoding.sizes.tolist()):
            before, after = masked[name].weight[:, channel].flatten(1), layer.weight[:, channel].flatten(1)
            alive = before.any(1)
            assert len(after[alive].unique(dim=0)) == min(size, int(alive.sum())) or size == 0
            for row in after[alive].unique(dim=0) if size else []:
                assert torch.allclose(row, before[alive & (after == row).all(1)].mean(0), atol=1e-6)


def test_what_cannot_follow_says_so(make_model: Make, make_lab: MakeLab) -> None:
    for setting, told in (
        ("l1(granularity=weight)+tic(k=4)", "no convolution larger than 1x1 that could still be clustered"),
        ("magnitude+kse", "no convolution that could still be clustered"),
        ("l1(granularity=kernel)+l1", "filters are removed before weights are encoded"),
        ("fixed(keep=0.5)+l1(granularity=kernel)", "an earlier method has encoded every convolution, and nothing"),
        ("magnitude+magnitude", "an earlier method has encoded every convolution and linear layer, and nothing"),
        ("magnitude+dynamic(granularity=weight)", "an earlier method has encoded every convolution and linear layer"),
        ("l1(scope=network, greedy=true)", "greedy goes with scope=layer"),
    ):
        with pytest.raises(BenchError, match=told):
            compress(setting, make_model(), make_lab())
    lab = make_lab()
    model = compress("tic(k=4)+magnitude", make_model("test_resnet"), make_lab(size=64))
    for _, layer, encoding in encoded_layers(model):
        assert type(encoding) is (ScaledKernels if layer.weight.shape[2:] == (3, 3) else Mask)
    assert encoding_of(model.fc)
    compress("l1(granularity=weight, skip=1)+l1(granularity=kernel)", make_model(), lab)
    assert lab.notes["layer1.0.conv1"] == "mask of an earlier method stays"


def test_random_drops_as_many_as_l1(make_model: Make, make_lab: MakeLab) -> None:
    for granularity in ("kernel", "weight"):
        counts = [
            [int((layer.weight != 0).sum()) for layer in weighted_layers(fold(model)).values()]
            for method in ("l1", "random")
            for model in [compress(f"{method}(granularity={granularity}, rate=0.6)", make_model(), make_lab())]
        ]
        assert counts[0] == counts[1]


@pytest.mark.parametrize("setting", ["l1(granularity=kernel)", "dynamic(rate=0.8)", "fixed(keep=0.5)", "kse"])
def test_a_classifier_that_is_a_convolution_stays_dense_where_linear_ones_do(
    setting: str, make_model: Make, make_lab: MakeLab
) -> None:
    lab = make_lab(size=64)
    before = make_model("dpn48b").classifier
    after = compress(setting, make_model("dpn48b"), lab).classifier
    assert isinstance(before, nn.Conv2d) and torch.equal(before.weight, after.weight)
    assert lab.notes["classifier"] in (
        "the classifier stays dense",
        "all filters kept: its filters are the network's outputs",
    )
