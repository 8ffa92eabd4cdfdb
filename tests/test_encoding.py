"""Encodings against hand counts and the papers' figures, and what is stored once."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as serialized
from torch import Tensor, nn

from bench.encodings import ChannelKernels, Mask, ScaledKernels, artifact
from bench.encodings.base import Codebook, encode, encoded_layers, stored_tensors
from bench.networks.layers import convolutions, fold
from bench.networks.work import Work
from bench.plugins.setting import parse
from bench.system.errors import BenchError
from bench.training.lab import Lab

from .random_encodings import channels, scaled

Make = Callable[..., nn.Module]


def test_a_sparse_mask_is_stored_by_position_and_a_half_full_one_by_bit() -> None:
    weight, generator = torch.randn(64, 64, 3, 3), torch.Generator().manual_seed(0)
    lots = torch.rand(weight.shape, generator=generator)
    sparse, half = (Mask(lots < share, weight) for share in (0.05, 0.5))
    assert half.bits() == int((lots < 0.5).sum()) * 32 + weight.numel()
    kept = int((lots < 0.05).sum())
    entropy = -weight.numel() * (0.05 * log2(0.05) + 0.95 * log2(0.95))
    assert entropy < sparse.bits() - kept * 32 < 1.15 * entropy


def test_a_dropped_weight_stays_zero_in_training() -> None:
    layer = nn.Conv2d(3, 4, 3, bias=False)
    kept = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) < 0.5
    encode(layer, Mask(kept, layer.weight))
    before = layer.weight.detach().clone()
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        layer(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimiser.step()
    assert not layer.weight[~kept].any() and not torch.equal(layer.weight, before)


def test_scaled_kernels_decode_as_the_formula_says() -> None:
    encoding = scaled(3, 4, 5, 8)
    layer = nn.Conv2d(4, 3, 3)
    encode(layer, encoding)
    (scales,) = stored_tensors(layer)
    turns = [lambda x: x, lambda x: x.flip(1), lambda x: x.flip(0), lambda x: x.flip(0, 1)]
    turns += [lambda x, f=f: f(x).T for f in turns[:4]]
    for output in range(3):
        for channel in range(4):
            label, turn = divmod(int(encoding.labels[output, channel]), 8)
            kernel = encoding.codebook.centroids[label]
            expected = scales[output, channel].half().float() * turns[turn](kernel)
            assert torch.allclose(layer.weight[output, channel], expected)


def test_a_hand_counted_layer() -> None:
    # 6 kernels, 5 + 3 + 16 bits each; one of them dropped, so a bit a kernel says which.
    assert scaled(2, 3, 32, 8).bits() == 6 * (5 + 3 + 16)
    assert scaled(2, 3, 32, 8, dropped=1).bits() == 5 * (5 + 3 + 16) + 6
    # q = 0, 2, 4 of N = 4: (0 + 2 + 4) kernels of 9 floats, labels of 1 bit for one channel; 3 sizes, 2 bits each.
    encoding = channels(torch.tensor([0, 2, 4]), 4)
    assert encoding.formula_bits() == 6 * 9 * 32 + 4 * 1
    assert encoding.bits() == encoding.formula_bits() + 3 * 2
    assert encoding.macs(Work(12_000, 1, 1)) == 6_000


def test_scaled_kernels_count_the_better_of_two_orders() -> None:
    labels = torch.tensor([[0, 0, 0, 1], [2, 2, 2, 2]])
    book = Codebook(torch.randn(3, 3, 3))
    none = torch.zeros_like(labels)
    encoding = ScaledKernels(book, labels, none, torch.ones(2, 4), 1)
    # Row by row 2 + 1 different kernels, column by column 2 each: min(3, 8) of 8.
    assert encoding.macs(Work(8_000, 1, 1)) == 3_000
    # Two filters alike share both kernels of a column, 2 of 4, unless they are in groups of their own.
    alike, zeros = torch.tensor([[0, 1], [0, 1]]), torch.zeros(2, 2, dtype=torch.long)
    assert ScaledKernels(book, alike, zeros, torch.ones(2, 2), 1).macs(Work(8_000, 1, 1)) == 4_000
    assert ScaledKernels(book, alike, zeros, torch.ones(2, 2), 1, groups=2).macs(Work(8_000, 1, 1)) == 8_000


def test_what_the_formulas_ignore_is_counted_by_hand() -> None:
    # 4 outputs, 2 inputs, read at 10 x 10 and written at 5 x 5: 8 kernels of 9 weights, 25 positions.
    work = Work(macs=8 * 9 * 25, inputs=100, outputs=25)
    labels = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1]])
    tic = ScaledKernels(Codebook(torch.randn(2, 3, 3)), labels, torch.zeros_like(labels), torch.ones(4, 2), 1)
    found = tic.describe(work)
    # Add first: one kernel a row, 4 in all, after 8 inputs were scaled and added. Convolve first: 2 a column, 4 in all.
    assert found["macs_add_first"] == 4 * 9 * 25 and found["macs_add_first_full"] == 4 * 9 * 25 + 8 * 100
    assert found["macs_convolve_first"] == 4 * 9 * 25 and found["macs_convolve_first_full"] == 4 * 9 * 25 + 8 * 25
    assert tic.macs(work) == 900 and tic.macs_full(work) == 1_100
    # One channel dense, one with 2 kernels for 4 filters: 6 convolutions, and 4 sums of what is shared.
    kse = ChannelKernels(
        torch.tensor([4, 2]), torch.tensor([[0, 1, 2, 3], [0, 1, 1, 0]]), torch.randn(6, 3, 3), groups=1
    )
    assert kse.macs(work) == 6 * 9 * 25 and kse.macs_full(work) == 6 * 9 * 25 + 4 * 25


@pytest.mark.parametrize(
    ("k", "transforms", "kernels", "ratio"),
    [
        (256, 1, 1_634_496, 11.98),
        (128, 2, 1_634_496, 11.99),
        (64, 4, 1_634_496, 11.99),
        (32, 8, 1_634_496, 12.00),
        (128, 1, 94_256, 12.31),
    ],
)
def test_the_papers_ratio_over_the_clustered_kernels(k: int, transforms: int, kernels: int, ratio: float) -> None:
    encoding = scaled(1, kernels, k, transforms)
    bits = encoding.formula_bits() + encoding.codebook.bits
    assert bits == pytest.approx(kernels * (log2(k) + log2(transforms) + 16) + k * 9 * 32)
    assert kernels * 9 * 32 / bits == pytest.approx(ratio, abs=0.005)


def test_dropped_kernels_stay_dropped_and_scales_round_to_half_in_training() -> None:
    layer = nn.Conv2d(3, 2, 3, bias=False)
    encode(layer, scaled(2, 3, 4, 2, dropped=2))
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.01)
    for _ in range(3):
        layer(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().mean().backward()
        optimiser.step()
    weight = layer.weight.flatten(0, 1)
    assert not weight[:2].any() and weight[2:].any(1).any(1).all()
    (scales,) = stored_tensors(layer)
    assert not torch.equal(scales, scales.half().float())
    before = layer.weight.clone()
    with torch.no_grad():
        scales.copy_(scales.half().float())
    assert torch.equal(layer.weight, before)


def test_folding_leaves_the_original_encoded(make_model: Make) -> None:
    model = make_model()
    layer = convolutions(model)["layer1.0.conv1"]
    encode(layer, scaled(16, 16, 8, 8))
    folded = fold(model)
    assert type(convolutions(folded)["layer1.0.conv1"]) is nn.Conv2d
    assert [name for name, _, _ in encoded_layers(model)] == ["layer1.0.conv1"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(folded(images), model(images))


def test_a_codebook_shared_by_layers_is_stored_once(make_model: Make, tmp_path: Path) -> None:
    sizes = {}
    for shared in (True, False):
        model = make_model()
        first, second = scaled(16, 16, 256, 1), scaled(16, 16, 256, 1)
        if shared:
            second.codebook = first.codebook
        encode(convolutions(model)["layer1.0.conv1"], first)
        encode(convolutions(model)["layer1.0.conv2"], second)
        sizes[shared] = len(artifact.dump(model, artifact.Architecture("resnet20", 4, 3)))
    assert sizes[False] - sizes[True] == pytest.approx(256 * 9 * 4, abs=32)


def test_files_that_are_none_of_ours(tmp_path: Path, make_model: Make) -> None:
    whole = artifact.dump(make_model(), artifact.Architecture("resnet20", 4, 3))
    for content, message in (
        (whole[:-100], "not a whole compressed network"),
        (b"PK\x03\x04 not this", "not a whole compressed network"),
        (serialized({"x": torch.zeros(2)}), "not a compressed network of this program"),
    ):
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        with pytest.raises(BenchError, match=message):
            artifact.load(path)
    with pytest.raises(BenchError, match="there is no such file"):
        artifact.load(tmp_path / "absent.safetensors")


def test_a_replaced_layer_cannot_be_stored_and_says_so(make_model: Make) -> None:
    model = make_model()
    model.layer1 = nn.Sequential(nn.Conv2d(16, 16, 1))
    with pytest.raises(BenchError, match="cannot be rebuilt from a file"):
        artifact.dump(model, artifact.Architecture("resnet20", 4, 3))


class Twice(nn.Module):
    """One convolution under two names, and two that share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.again = self.one
        self.other.weight = self.one.weight
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.other(self.again(self.one(self.stem(images)))).mean((2, 3)))


@pytest.mark.parametrize(
    "setting", ["none", "tic(k=4)", "kse", "fixed(keep=0.5)", "magnitude(rate=0.9)", "l1(tied=true)"]
)
def test_what_stands_in_two_places_is_stored_once(
    setting: str, make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(artifact.zoo, "create_model", lambda *words, **options: Twice())
    torch.manual_seed(0)
    model = parse(setting)[0].compress(Twice(), make_lab(epochs=0.4)).eval()
    content = artifact.dump(model, artifact.Architecture("twice", 4, 3))
    (tmp_path / "model.safetensors").write_bytes(content)
    images = torch.randn(2, 3, 16, 16)
    for folded in (True, False):
        assert torch.equal(artifact.load(tmp_path / "model.safetensors", folded=folded)(images), model(images))
    fresh = Twice()
    weights = sum(layer.weight.numel() * 4 for layer in (fresh.stem, fresh.one, fresh.other))
    assert len(content) < weights + 2_600 and artifact.dense_bytes(fresh) < weights + 2_600
