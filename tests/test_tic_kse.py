"""`tic` and `kse` against literal versions of what their papers say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from bench.encodings import ChannelKernels, ScaledKernels, dihedral
from bench.encodings.base import codebooks_of, encoded_layers
from bench.networks.layers import convolutions
from bench.networks.work import Work
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.system.errors import BenchError
from bench.training.lab import Lab

Make = Callable[..., nn.Module]


def literal_indicator(weight: Tensor, alpha: float = 1.0, neighbours: int = 5) -> list[float]:
    """v_c by loops over channels and kernels; weight [N, C, h, w]."""
    filters, channels = weight.shape[:2]
    sparsity, entropy = [], []
    for c in range(channels):
        kernels = [weight[n, c].flatten().double() for n in range(filters)]
        sparsity.append(sum(kernel.abs().sum().item() for kernel in kernels))
        apart = []
        for n in range(filters):
            others = sorted((kernels[n] - kernels[m]).norm().item() for m in range(filters) if m != n)
            apart.append(sum(others[: min(neighbours, filters - 1)]))
        total = sum(apart)
        entropy.append(-sum(d / total * math.log2(d / total) for d in apart if d > 0) if total else 0.0)

    def normalised(values: list[float]) -> list[float]:
        span = max(values) - min(values)
        return [(value - min(values)) / span if span else 0.0 for value in values]

    pairs = zip(normalised(sparsity), normalised(entropy), strict=True)
    return [math.sqrt(s / (1 + alpha * e)) for s, e in pairs]


def literal_size(v: float, filters: int, G: int, T: int) -> int:
    if math.floor(v * G) == 0:
        return 0
    if math.ceil(v * G) == G:
        return filters
    return math.ceil(filters / 2 ** (G - math.ceil(v * G) + T))


@pytest.mark.parametrize(("kernel", "filters"), [(3, 12), (1, 12), (3, 4), (1, 2), (3, 1)])
def test_the_indicator_is_the_literal_one(kernel: int, filters: int) -> None:
    kse = __import__("bench_methods.kse", fromlist=["kse"])
    torch.manual_seed(0)
    layer = nn.Conv2d(7, filters, kernel, bias=False)
    found = kse.indicator(*[kse.by_input_channel(layer)] * 2, 1.0, 5)
    assert found.tolist() == pytest.approx(literal_indicator(layer.weight.detach()), abs=2e-5)


@pytest.mark.parametrize(("G", "T"), [(2, 0), (4, 0), (4, 1), (5, 0), (6, 2)])
def test_kernels_kept_are_the_literal_ones(G: int, T: int) -> None:
    method = registry.methods()["kse"](G=G, T=T)
    importance = torch.cat([torch.rand(97, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 1.0])])
    expected = [literal_size(v, 48, G, T) for v in importance.tolist()]
    assert method.kernels_kept(importance, 48).tolist() == expected
    assert set(expected) >= {0, 48}


def test_grouped_channels_are_those_of_their_own_group() -> None:
    kse = __import__("bench_methods.kse", fromlist=["kse"])
    layer = nn.Conv2d(6, 8, 3, groups=2)
    kernels = kse.by_input_channel(layer)
    assert kernels.shape == (6, 4, 9)
    assert torch.equal(kernels[4, 1], layer.weight[4 + 1, 4 - 3].flatten())


def test_a_channel_keeps_centroids_all_or_nothing(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    original = {name: layer.weight.clone() for name, layer in convolutions(make_model()).items()}
    model = parse("kse(G=4)")[0].compress(make_model(), make_lab())
    names = [name for name, _, _ in encoded_layers(model)]
    assert names == [name for name in original if name != "conv1"]
    for name, layer, encoding in encoded_layers(model):
        assert isinstance(encoding, ChannelKernels)
        for channel, size in enumerate(encoding.sizes.tolist()):
            kernels = layer.weight[:, channel].flatten(1)
            if size == 0:
                assert not kernels.any()
            elif size == encoding.rows.shape[1]:
                assert torch.equal(kernels, original[name][:, channel].flatten(1))
            else:
                assert len(kernels.unique(dim=0)) == size
                for row in kernels.unique(dim=0):
                    members = (kernels == row).all(1)
                    mean = original[name][:, channel].flatten(1)[members].mean(0)
                    assert torch.allclose(row, mean, atol=1e-6)


def test_depthwise_layers_and_the_first_stay_dense_and_say_so(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(size=64)
    model = parse("kse")[0].compress(make_model("test_efficientnet"), lab)
    depthwise = [name for name, layer in convolutions(model).items() if layer.groups > 1]
    assert depthwise and all(lab.notes[name].startswith("depthwise") for name in depthwise)
    assert not {name for name, _, _ in encoded_layers(model)} & set(depthwise)


def test_every_branch_that_reads_the_image_is_first(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(size=64)
    model = parse("kse(G=4)")[0].compress(make_model("repvgg_a0", size=64), lab)
    first = {name for name, reason in lab.notes.items() if "first" in reason}
    assert first == {"stem.conv_kxk.conv", "stem.conv_1x1.conv"}
    assert first.isdisjoint(name for name, _, _ in encoded_layers(model))


def test_a_level_far_below_the_top_keeps_one_kernel() -> None:
    importance = torch.tensor([0, 0.3, 0.6, 1])
    for setting in ("kse(T=127)", "kse(G=200)"):
        assert parse(setting)[0].stages[0].kernels_kept(importance, 64).tolist() == [0, 1, 1, 64]  # type: ignore[attr-defined]


def test_every_spatial_kernel_is_scale_times_a_turned_centroid(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    original = {name: layer.weight.clone() for name, layer in convolutions(make_model("test_resnet")).items()}
    lab = make_lab(size=64)
    model = parse("tic(k=6, transforms=8)")[0].compress(make_model("test_resnet"), lab)
    books = codebooks_of(model)
    assert len(books) == len({tuple(weight.shape[2:]) for weight in original.values() if weight.shape[2] > 1})
    encoded = dict((name, (layer, encoding)) for name, layer, encoding in encoded_layers(model))
    for name, weight in original.items():
        if weight.shape[2] == 1:
            assert name not in encoded and lab.notes[name]
            continue
        layer, encoding = encoded[name]
        assert isinstance(encoding, ScaledKernels)
        turned = encoding.codebook.centroids.flatten(1)[:, dihedral(*weight.shape[2:], 8)]
        sign = torch.where(weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] < 0, -1.0, 1.0)
        scale = sign * weight.flatten(2).norm(dim=2)
        for o, i in ((0, 0), (1, 0), (weight.shape[0] - 1, weight.shape[1] - 1)):
            unit = weight[o, i].flatten() / scale[o, i]
            best = (turned.flatten(0, 1) - unit).square().sum(1).argmin()
            expected = scale[o, i] * turned.flatten(0, 1)[best]
            assert torch.allclose(layer.weight[o, i].flatten(), expected, atol=2e-3 * scale[o, i].abs().item())


def test_more_transforms_never_reconstruct_worse(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    def error(setting: str) -> float:
        original = convolutions(make_model())
        model = convolutions(parse(setting)[0].compress(make_model(), make_lab()))
        return sum((model[name].weight - original[name].weight).square().sum().item() for name in original)

    errors = [error(f"tic(k=8, transforms={transforms})") for transforms in (1, 2, 4, 8)]
    assert errors == sorted(errors, reverse=True)
    assert error("tic(k=8, codebook=layer)") < errors[-1]


def test_zero_kernels_are_dropped(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    model = make_model()
    layer = convolutions(model)["layer1.0.conv1"]
    with torch.no_grad():
        layer.weight[:4] = 0
    model = parse("tic(k=8)")[0].compress(model, make_lab(epochs=1))
    encoding = dict((name, encoding) for name, _, encoding in encoded_layers(model))["layer1.0.conv1"]
    assert encoding.describe(Work(1, 1, 1))["kernels"] == 12 * 16
    assert not layer.weight[:4].any()


def test_a_codebook_larger_than_the_kernels_there_are(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    with pytest.raises(BenchError, match=r"tic\(k=99999\): k=99999 is larger than the \d+ kernels"):
        parse("tic(k=99999)")[0].compress(make_model(), make_lab())


@pytest.mark.parametrize(("k", "bits", "encoded"), [(43, 13_584, True), (44, 13_872, False), (48, 15_024, False)])
def test_a_codebook_that_would_save_nothing_is_not_made(
    k: int, bits: int, encoded: bool, make_model: Make, make_lab: Callable[..., Lab]
) -> None:
    """48 kernels of 9 numbers in 32 bits take 13,824 bits; with a codebook 288 * k + 48 * (9 + 16)."""
    lab, original = make_lab(), make_model()
    model = parse(f"tic(k={k}, codebook=layer)")[0].compress(make_model(), lab)
    assert bits == 288 * k + 48 * 25
    found = dict((name, encoding) for name, _, encoding in encoded_layers(model))
    assert len(found) == 18 + encoded
    if encoded:
        assert found["conv1"].bits() + found["conv1"].codebooks()[0].bits == bits
    else:
        assert lab.notes["conv1"] == f"a codebook of {k} would save nothing: {bits:,} bits instead of 13,824"
        assert torch.equal(model.conv1.weight, original.conv1.weight)


def test_a_stem_with_fewer_kernels_than_centroids_stays_dense(make_lab: Callable[..., Lab]) -> None:
    body = nn.Sequential(nn.Conv2d(3, 8, 7), nn.ReLU(), nn.Conv2d(8, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    lab = make_lab()
    model = parse("tic(k=256)")[0].compress(nn.Sequential(*body, nn.Linear(64, 3)), lab)
    assert [name for name, _, _ in encoded_layers(model)] == ["2"]
    assert lab.notes["0"] == "a codebook of 24 would save nothing: 38,208 bits instead of 37,632"


def test_stages_of_a_pipeline_share_the_budget(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(epochs=2)
    model = parse("l1(rate=0.5)+tic(k=8)")[0].compress(make_model(), lab)
    assert lab.spent == pytest.approx(2)
    assert convolutions(model)["layer1.0.conv1"].weight.shape[0] == 8
    assert len(list(encoded_layers(model))) == 19


def test_codebooks_by_ranges_of_layers(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    model = parse("tic(codebook='0-0=4,1-10=16')")[0].compress(make_model(), lab)
    layers = [encoding for _, _, encoding in encoded_layers(model)]
    assert [len(encoding.codebook) for encoding in layers] == [4] + [16] * 10  # type: ignore[attr-defined]
    assert len({id(encoding.codebook) for encoding in layers}) == 2  # type: ignore[attr-defined]
    assert Counter(lab.notes.values()) == {"in none of the ranges": 8, "linear: not reached by this method": 1}
    for wrong, told in (
        ("0-19=4", "there is no layer 19, it works on 19, counted from 0"),
        ("0-0=999", "k=999 is larger than the 48 kernels"),
    ):
        with pytest.raises(BenchError, match=told):
            parse(f"tic(codebook='{wrong}')")[0].compress(make_model(), make_lab())
    for wrong in ("0=4", "3-1=4", "0-3=4,3-5=8", "0-1=0", "each"):
        with pytest.raises(BenchError, match="codebook should be network, layer or distinct ranges"):
            parse(f"tic(codebook='{wrong}')")


def released_indicator(weight: Tensor) -> np.ndarray:
    """As the authors' program computes it, step by step with scikit-learn: reshapes, two normalisations."""
    outputs, inputs = weight.shape[:2]
    kernels = weight.detach().double().numpy().transpose(1, 0, 2, 3).reshape(inputs, outputs, -1)
    sparsity = np.abs(kernels).sum((1, 2))
    mixed = kernels.reshape(outputs, inputs, -1).transpose(1, 0, 2)
    score = []
    for points in mixed:
        apart = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points)[0][:, 1:].sum(1)
        share = apart / apart.sum()
        score.append(-(share * np.log2(share)).sum())
    scale = lambda x: (x - x.min()) / (x.max() - x.min())  # noqa: E731
    return scale(np.sqrt(scale(sparsity) / (1 + scale(np.array(score)))))


def test_the_legacy_options_are_what_was_released() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 20, 3)
    kse = __import__("bench_methods.kse", fromlist=["kse"])
    method = registry.methods()["kse"](legacy_entropy=True, legacy_minmax=True)
    found = method._importance(kse.by_input_channel(layer))
    assert np.allclose(found.numpy(), released_indicator(layer.weight), atol=1e-5)
    assert not np.allclose(registry.methods()["kse"]()._importance(kse.by_input_channel(layer)), found, atol=0.05)
