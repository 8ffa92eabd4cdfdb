"""Linear layers and the classifier: which methods reach them, what they cost, and what is said of those that do not."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.encodings import Mask, artifact
from bench.encodings.base import encode, encoded_layers, encoding_of, stored_tensors
from bench.encodings.streams import StreamReader, StreamWriter
from bench.measuring import cost
from bench.networks.layers import convolutions, fold, is_classifier, weighted_layers
from bench.networks.work import Work, layer_work
from bench.plugins.setting import parse
from bench.pruning.masks import drop_lowest
from bench.pruning.rates import choose_layers, layer_rates
from bench.system.errors import BenchError, MethodFault
from bench.training.lab import Lab
from bench.trials.tables import write_layers

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]

REACHING = ("magnitude(rate=0.8)", "l1(granularity=weight, rate=0.8)", "random(granularity=weight, rate=0.8)")
CONVOLUTIONS_ONLY = ("tic(k=4)", "kse", "fixed(keep=0.5)", "l1(granularity=kernel)", "random(granularity=kernel)")


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    return parse(setting)[0].compress(model, lab).eval()


class Gated(nn.Module):
    """A linear layer between two convolutions, as in a squeeze-and-excitation block, and a classifier."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        found = self.stem(images)
        found = found * self.gate(found.mean((2, 3))).sigmoid()[:, :, None, None]
        return self.head(self.last(found).mean((2, 3)))


def test_a_linear_layer_by_hand() -> None:
    # 3 outputs, 4 inputs, 5 of 12 weights kept; the layer runs on 10 positions.
    weight = torch.arange(1.0, 13.0).view(3, 4)
    kept = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 1], [1, 0, 1, 0]], dtype=torch.bool)
    layer = nn.Linear(4, 3)
    layer.weight.data.copy_(weight)
    encode(layer, Mask(kept, layer.weight))
    encoding = encoding_of(layer)
    assert isinstance(encoding, Mask) and not encoding.drops_kernels_only
    assert layer.weight.tolist() == [[1, 0, 0, 4], [0, 0, 0, 8], [9, 0, 11, 0]]
    assert encoding.bits() == 5 * 32 + 12  # a bit for each position is the shorter way here
    assert encoding.macs(Work(10 * 12, 10, 10)) == 10 * 5 and encoding.params(*stored_tensors(layer)) == 5
    assert encoding.describe(Work(120, 10, 10)) == {"kept": "weights", "density": 5 / 12}
    writer = StreamWriter()
    facts = encoding.store(writer, *stored_tensors(layer))
    again = Mask.restore(StreamReader(writer.tensors(), [], 12), (3, 4), facts)
    assert torch.equal(again(*[again.right_inverse(torch.zeros(3, 4))]), layer.weight)


@pytest.mark.parametrize("setting", REACHING)
@pytest.mark.parametrize("network", ["resnet20", "mobilenetv3_small_050", "test_convnext", "test_vit", "dpn48b"])
def test_single_weights_go_from_every_convolution_linear_layer_and_the_classifier(
    setting: str, network: str, make_model: Make, make_lab: MakeLab
) -> None:
    size = 32 if network == "resnet20" else 64
    shaped = {"size": size} if network == "test_vit" else {}
    lab, dense = make_lab(size=size), make_model(network, **shaped)
    model = compress(setting, make_model(network, **shaped), lab)
    layers = weighted_layers(model)
    assert {name for name, *_ in encoded_layers(model)} == set(layers)
    assert any(is_classifier(model, layer) for layer in layers.values())
    weights = sum(layer.weight.numel() for layer in layers.values())
    kept = sum(int((layer.weight != 0).sum()) for layer in layers.values())
    assert kept == pytest.approx(weights / 5, abs=len(layers))
    found = cost.compare(dense, model, (3, size, size), lab.notes, lab.reachable)
    assert found.params == cost.count_params(dense) - weights + kept
    assert found.reachable_share == weights / cost.count_params(dense)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        dense(torch.zeros(1, 3, size, size))
    work = layer_work(dense, (3, size, size))
    unmasked = found.macs_dense - sum(layer.macs for layer in work.values())  # attention's products of activations
    share = {name: float((layer.weight != 0).double().mean()) for name, layer in layers.items()}
    assert found.macs == unmasked + sum(round(work[name].macs * share[name]) for name in layers)
    if network != "test_vit":  # the second counter knows no fused attention
        assert unmasked == 0 and counter.get_total_flops() / 2 == found.macs_dense


@pytest.mark.parametrize("network", ["test_vit", "mobilenetv3_small_050"])
def test_the_file_holds_the_same_network(network: str, make_model: Make, make_lab: MakeLab, tmp_path: Path) -> None:
    model = compress("magnitude(rate=0.9)", make_model(network, size=64), make_lab(size=64))
    path, images = tmp_path / "model.safetensors", torch.randn(3, 3, 64, 64)
    path.write_bytes(artifact.dump(model, artifact.Architecture(network, 4, 3, 64)))
    with torch.no_grad():
        for folded in (True, False):
            assert torch.equal(artifact.load(path, folded=folded)(images), model(images))
    again = artifact.load(path, folded=False)
    assert [name for name, *_ in encoded_layers(again)] == [name for name, *_ in encoded_layers(model)]


@pytest.mark.parametrize("setting", CONVOLUTIONS_ONLY)
def test_methods_for_convolutions_leave_linear_layers_and_say_so(
    setting: str, make_model: Make, make_lab: MakeLab, tmp_path: Path
) -> None:
    lab, dense = make_lab(), make_model()
    model = compress(setting, make_model(), lab)
    assert torch.equal(model.fc.weight, dense.fc.weight)
    found = cost.compare(dense, model, (3, 32, 32), lab.notes, lab.reachable)
    write_layers(found.layers, tmp_path / "layers.csv", {})
    rows = list(csv.DictReader((tmp_path / "layers.csv").read_text().splitlines()))
    last = rows[-1]
    assert (last["name"], last["shape"], last["encoding"], last["reached"]) == ("fc", "4x64", "dense", "False")
    assert (last["params_dense"], last["macs_dense"], last["macs"]) == ("256", "256", "256")
    assert last["reason"] == "linear: not reached by this method"
    weights = sum(layer.weight.numel() for layer in convolutions(dense).values())
    stem = dense.conv1.weight.numel() if setting == "kse" else 0
    assert found.reachable_share == (weights - stem) / cost.count_params(dense)


def test_what_filter_pruning_reaches(make_lab: MakeLab) -> None:
    torch.manual_seed(0)
    lab, dense = make_lab(), Gated().eval()
    torch.manual_seed(0)
    model = compress("l1(rate=0.5)", Gated(), lab)
    found = {layer.name: layer for layer in cost.compare(dense, model, (3, 32, 32), lab.notes, lab.reachable).layers}
    assert found["head"].shape == "4x3" and found["head"].reached
    assert found["head"].reason == "linear: loses no outputs, only inputs that are removed before it"
    lab = make_lab()
    found_layers = cost.compare(dense, compress("none", Gated(), lab), (3, 32, 32), lab.notes, lab.reachable)
    assert found_layers.reachable_share == 0


def test_a_stage_that_reaches_a_layer_counts_wherever_it_stands(make_lab: MakeLab) -> None:
    weights = {"stem": 8 * 27, "gate": 64, "last": 6 * 72, "head": 24}
    for setting, reached in (
        ("magnitude(skip='*')", weights.keys()),
        ("magnitude(skip='*')+fixed(keep=0.5)", weights.keys()),
        ("fixed(keep=0.5)+magnitude(skip='*')", weights.keys()),
        ("fixed(keep=0.5, layers=first)", {"stem", "last"}),
        ("fixed(keep=0.5)", {"stem", "last"}),
    ):
        lab, dense = make_lab(), Gated()
        found = cost.compare(dense, compress(setting, Gated(), lab), (3, 32, 32), lab.notes, lab.reachable)
        assert {layer.name for layer in found.layers if layer.reached} == set(reached), setting
        assert found.reachable_share == sum(weights[name] for name in reached) / (sum(weights.values()) + 26)


def test_numbers_count_convolutions_and_names_reach_linear_layers(make_lab: MakeLab) -> None:
    model = Gated()
    assert list(weighted_layers(model)) == ["stem", "gate", "last", "head"]
    expected = {"stem": 0.5, "gate": 0.5, "last": 0.0, "head": 0.0}
    assert layer_rates(model, 0.5, skip=(2, "head"), linear=True) == expected
    assert layer_rates(model, 0.5, "1-2=0.2", linear=True) == {"stem": 0.2, "gate": 0.5, "last": 0.2, "head": 0.5}
    assert layer_rates(model, 0.5, skip=(2,)) == {"stem": 0.5, "last": 0.0}
    assert choose_layers(model, ["first", "h*"], linear=True) == ["stem", "head"]
    with pytest.raises(BenchError, match=r"skip=3 matches no layer: the network has 4 convolutions and linear layers"):
        layer_rates(model, 0.5, skip=(3,), linear=True)
    with pytest.raises(BenchError, match=r"skip='head' matches no layer: the network has 2 convolutions"):
        layer_rates(model, 0.5, skip=("head",))
    lab = make_lab()
    compress("l1(granularity=weight, skip=(2, 'head'))", model, lab)
    assert [name for name, *_ in encoded_layers(model)] == ["stem", "gate"]
    assert lab.notes["head"] == lab.notes["last"] == "its rate is 0, or it is skipped"
    assert lab.notes["gate"] == "32 of 64 weights kept"


def test_scores_of_linear_layers_are_checked(make_lab: MakeLab) -> None:
    def by_output(layer: nn.Module) -> Tensor:
        return layer.weight.abs().sum(1) if isinstance(layer, nn.Linear) else layer.weight.abs()

    with pytest.raises(MethodFault, match=r"the scores of 'gate' should be shape \[8, 8\], one for each weight, not"):
        drop_lowest(Gated(), make_lab(), by_output, 0.5, linear=True)
    with pytest.raises(MethodFault, match="rates names 'body', and the network has no convolution or linear layer of"):
        drop_lowest(Gated(), make_lab(), lambda layer: layer.weight.abs(), {"body": 0.5}, linear=True)


class Tied(nn.Module):
    """An embedding whose weight is the classifier's, and a linear layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.words = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Embedding(4, 8)
        self.again = self.mix
        self.head = nn.Linear(8, 4, bias=False)
        self.head.weight = self.words.weight

    def forward(self, images: Tensor) -> Tensor:
        found = self.again(self.mix(self.stem(images).mean((2, 3))))
        return self.head(found + self.words(torch.zeros(len(images), dtype=torch.long)))


def test_weights_that_stand_in_two_places(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(artifact.zoo, "create_model", lambda *words, **options: Tied())
    torch.manual_seed(0)
    dense = Tied().eval()
    torch.manual_seed(0)
    lab = make_lab()
    model = compress("magnitude(rate=0.5, scope=layer)", Tied(), lab)
    assert [name for name, *_ in encoded_layers(model)] == ["stem", "mix", "head"]
    assert torch.equal(model.words.weight, dense.words.weight), "an embedding is not masked with the classifier"
    path, images = tmp_path / "model.safetensors", torch.randn(2, 3, 16, 16)
    path.write_bytes(artifact.dump(model, artifact.Architecture("tied", 4, 3)))
    for folded in (True, False):
        assert torch.equal(artifact.load(path, folded=folded)(images), model(images))
    found = cost.compare(dense, model, (3, 16, 16), lab.notes, lab.reachable)
    assert found.params_dense == (8 * 27 + 8) + (64 + 8) + 32
    # The classifier is its own now: half of its weights are stored beside the embedding.
    assert found.params == (4 * 27 + 8) + (32 + 8) + 32 + 16
    assert {layer.name: layer.macs for layer in found.layers} == {"stem": 14 * 14 * 108, "mix": 2 * 32, "head": 16}
    assert found.reachable_share == (8 * 27 + 64 + 32) / found.params_dense


class Attentive(nn.Module):
    """torch's own attention, which reads the weight of its output projection outside the layer's forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(self.stem(images).flatten(2).transpose(1, 2)).mean(1))


def test_torchs_attention(make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(artifact.zoo, "create_model", lambda *words, **options: Attentive())
    torch.manual_seed(0)
    dense = Attentive().eval()
    torch.manual_seed(0)
    lab, images = make_lab(), torch.randn(2, 3, 16, 16)
    model = compress("magnitude(rate=0.5, scope=layer)", Attentive(), lab)
    assert isinstance(encoding_of(model.block.self_attn.out_proj), Mask)
    path = tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, artifact.Architecture("attentive", 4, 3)))
    with torch.no_grad():
        assert torch.equal(fold(model)(images), model(images))
        for folded in (True, False):
            assert torch.equal(artifact.load(path, folded=folded)(images), model(images))
        without = fold(model)
        without.block.self_attn.out_proj.weight.zero_()
        assert not torch.equal(without(images), model(images)), "the projection is not read"
    found = cost.compare(dense, model, (3, 16, 16), lab.notes, lab.reachable)
    tokens = 16
    projections, products = tokens * (8 * 24 + 8 * 8), 2 * tokens**2 * 8
    rest = tokens * 8 * 48 + tokens * 2 * 8 * 16 + 8 * 4
    assert found.macs_dense == rest + projections + products
    assert found.macs == rest // 2 + projections + products
    (projection,) = [layer for layer in found.layers if layer.name.endswith("out_proj")]
    assert projection.reason == "32 of 64 weights kept; its forward does not run: its arithmetic is counted as dense"
    encoded = 8 * 48 + 8 * 8 + 2 * 8 * 16 + 8 * 4  # the projection of the inputs belongs to no linear layer
    assert found.reachable_share == encoded / cost.count_params(dense)
