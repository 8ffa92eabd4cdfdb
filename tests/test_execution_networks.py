"""The executable form of whole networks against the decoded ones: what is left out, what stays, what is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bench
from bench.encodings import artifact
from bench.encodings.base import encode
from bench.execution.choice import smallest
from bench.execution.executable import execute, require_same
from bench.execution.reduced import Reduced
from bench.measuring.cost import count_macs
from bench.networks.layers import fold
from bench.plugins.setting import parse
from bench.system.errors import BadArgument, BenchError
from bench.training.lab import Lab

from .layers_to_execute import assert_same, shared

Make = Callable[..., nn.Module]
SIDE = 12


@pytest.mark.parametrize(
    ("setting", "name", "structured"),
    [
        ("fixed(keep=0.5)", "resnet20", True),
        ("fixed(keep=0.3)+quantize(bits=8)", "test_byobnet", True),
        ("fixed(keep=0.5)", "mobilenetv3_small_050", True),
        ("kse(G=5)", "resnet20", True),
        ("magnitude(rate=0.95)", "resnet20", True),
        ("magnitude(rate=0.98)", "test_byobnet", True),
        ("l1(granularity=kernel,rate=0.8)", "resnet20", True),
        ("kse(G=5)", "test_convnext", False),
        ("tic(k=4)", "resnet20", False),
        ("tic(k=2,transforms=1)", "resnet20", True),
        ("kse(T=6)", "resnet20", True),
        ("sharing(k=2)", "resnet20", False),
        ("fixed(keep=0.5)", "test_nfnet", True),
    ],
)
def test_networks_give_the_decoded_outputs(
    setting: str, name: str, structured: bool, make_model: Make, make_lab: Callable[..., Lab]
) -> None:
    size = 32 if name == "resnet20" else 64
    model = parse(setting)[0].compress(make_model(name), make_lab(size=size)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = execute(model, images, smallest)
    with torch.no_grad():
        assert_same(found.network(images), fold(model)(images))
    assert found.layers.keys() == bench.weighted_layers(model).keys()
    assert any(form.form != "dense" for form in found.layers.values()) == structured
    standardised = [layer for layer in make_model(name).named_modules() if "StdConv" in type(layer[1]).__name__]
    assert bool(standardised) == (name == "test_nfnet")
    assert all(found.layers[path].form == "dense" for path, _ in standardised)


class Chain(nn.Module):
    """A convolution used twice, and one whose outputs only another reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.again = self.twice
        self.norm, self.last = nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3, stride=2)
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        values = self.again(self.twice(self.stem(images)).relu())
        outputs: Tensor = self.head(self.last(self.norm(values).relu()).mean((2, 3)))
        return outputs


def test_filters_that_nothing_reads_are_not_computed() -> None:
    torch.manual_seed(0)
    model = Chain().eval()
    model.again = nn.Conv2d(16, 16, 3, padding=1)
    model.last.weight.data[:, [1, 4, 5, 7, 8, 9, 10, 11, 15]] = 0  # 7 of 16 are read, kept are 8
    images = torch.randn(2, 3, 16, 16)
    before = count_macs(model, (3, 16, 16))
    found = execute(model, images, smallest)
    assert_same(found.network(images), model(images))
    assert found.layers["again"].form == "8 filters removed"
    assert found.layers["last"].form == "8 inputs removed, 7 inputs"
    saved = 16 * 16 * 8 * 16 * 9 + 7 * 7 * 9 * 32 * 9
    assert before - count_macs(found.network, (3, 16, 16)) == saved


def test_filters_that_something_else_reads_stay() -> None:
    class Skips(Chain):
        def forward(self, images: Tensor) -> Tensor:
            values = self.again(self.stem(images))
            outputs: Tensor = self.head(self.last(values).mean((2, 3)).repeat(1, 1)) + values.mean()
            return outputs

    model = Skips().eval()
    model.again = nn.Conv2d(16, 16, 3, padding=1)
    model.last.weight.data[:, :9] = 0
    images = torch.randn(2, 3, 16, 16)
    found = execute(model, images, smallest)
    assert_same(found.network(images), model(images))
    assert found.layers["again"].form == "dense" and found.layers["last"].form == "7 inputs"


def test_a_layer_in_two_places_is_replaced_in_both() -> None:
    model = Chain().eval()
    encode(model.twice, shared(1, model.twice.weight.detach()))
    images = torch.randn(2, 3, 16, 16)
    found = execute(model, images, smallest).network
    assert isinstance(found.twice, Reduced) and found.again is found.twice
    assert_same(found(images), fold(model)(images))


def test_a_network_that_reads_its_layers_weights_itself_stays_decoded() -> None:
    class Reads(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            outputs: Tensor = super().forward(images.to(self[0].weight.dtype))
            return outputs

    model = Reads(nn.Conv2d(12, 8, 3)).eval()
    encode(model[0], shared(1, model[0].weight.detach()))  # type: ignore[arg-type]
    images = torch.randn(2, 12, SIDE, SIDE)
    found = execute(model, images, smallest)
    assert found.layers["0"].form == "dense" and torch.equal(found.network(images), fold(model)(images))


def test_a_file_becomes_a_fast_network_by_one_call(
    make_model: Make, make_lab: Callable[..., Lab], tmp_path: Path, quick_timing: None
) -> None:
    model = parse("fixed(keep=0.25)")[0].compress(make_model(), make_lab()).eval()
    path = tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, artifact.Architecture("resnet20", 4, 3)))
    images = torch.randn(8, 3, 32, 32)
    before = torch.get_rng_state()
    for folded in (False, True):
        loaded = bench.load(path, folded=folded)
        fast = bench.executable(loaded, images)
        assert_same(fast(images), bench.load(path)(images))
        assert not fast.training and not {*map(id, fast.parameters())} & {*map(id, loaded.parameters())}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(3, 32, 32), "example=.*expected the lab, or images of shape"),
        (torch.zeros(1, 4, 32, 32), r"example_input=.*\(1, 4, 32, 32\) on cpu.*: the network does not take it"),
    ],
)
def test_an_input_that_does_not_fit_is_told(example: Tensor, message: str, make_model: Make) -> None:
    with pytest.raises(BadArgument, match=message):
        bench.executable(make_model(), example)


def test_another_network_is_a_clear_failure(make_model: Make) -> None:
    model, images = make_model(), torch.randn(2, 3, 32, 32)
    other = make_model()
    require_same(other, model, images)
    with torch.no_grad():
        other.conv1.weight *= 1.001  # type: ignore[union-attr,operator]
    with pytest.raises(BenchError, match="computes something else than the network it was made from"):
        require_same(other, model, images)
