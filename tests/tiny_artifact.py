"""The artifact of a tiny network with a layer for each encoding, and how a test changes and reads its manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.encodings import ChannelKernels, Mask, Quantized, ScaledKernels, SharedFilters, SharedWeights, artifact
from bench.encodings.base import Codebook, Encoding, encode
from bench.encodings.manifest import PLAIN_FORMAT, manifest_text
from bench.networks import zoo
from bench.system.errors import BenchError


class Tiny(nn.Module):
    """Five convolutions and a linear layer, one for each encoding; two are quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.three, self.four = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        self.five = nn.Conv2d(4, 4, 3)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.register_buffer("order", torch.arange(3))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.five(self.four(self.three(self.two(self.one(images))))))
        return self.head(maps.mean((2, 3)))


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name 'tiny' builds a `Tiny`."""
    create = zoo.create_model
    monkeypatch.setattr(zoo, "create_model", lambda name, *words, **options: build(name, create, *words, **options))


def build(name: Any, create: Callable[..., nn.Module], *words: Any, **options: Any) -> nn.Module:
    return Tiny() if name == "tiny" else create(name, *words, **options)


def quantized(inner: Encoding, bits: int) -> Quantized:
    return Quantized(inner, bits, [inner.right_inverse(torch.zeros(inner.shape))])


def compressed() -> nn.Module:
    torch.manual_seed(0)
    model = Tiny().eval()
    ones = torch.ones(4, 4)
    labels = torch.tensor([[0, 1, 2, 1]] * 4)
    dropped = ones.clone()
    dropped[0, 0] = 0
    encode(model.one, Mask(torch.rand(4, 3) < 0.6, model.one.weight))
    encode(model.two, ScaledKernels(Codebook(torch.randn(3, 3, 3)), labels, labels * 0, dropped, 8))
    by_channel = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3]])
    encode(model.three, ChannelKernels(torch.tensor([0, 2, 4, 4]), by_channel, torch.randn(10, 3, 3), 1))
    encode(model.four, SharedFilters(torch.tensor([0, 1, 1, 0]), torch.randn(2, 4, 3, 3)))
    encode(model.five, quantized(ScaledKernels(Codebook(torch.randn(2, 3, 3)), labels % 2, labels * 0, ones, 1), 5))
    shared = SharedWeights(torch.arange(8).view(2, 4) % 3, torch.randn(3), torch.rand(2, 4) < 0.6)
    encode(model.head, quantized(shared, 8))
    model.order += 1
    return model


@pytest.fixture
def whole() -> bytes:
    return artifact.dump(compressed(), artifact.Architecture("tiny", 2, 3))


def manifest_of(content: bytes) -> dict[str, Any]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    described: dict[str, Any] = json.loads(manifest_text(header["__metadata__"]))
    return described


def streams_of(content: bytes) -> bytes:
    return content[8 + int.from_bytes(content[:8], "little") :]


def with_manifest(content: bytes, manifest: str | None, form: str = PLAIN_FORMAT) -> bytes:
    """The file with another manifest, by default as text, as earlier versions wrote it."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    del header["__metadata__"]["manifest"]
    header["__metadata__"]["format"] = form
    if manifest is not None:
        header["__metadata__"]["manifest"] = manifest
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_or_refuse(content: bytes, path: Path) -> nn.Module | str:
    path.write_bytes(content)
    try:
        return artifact.load(path)
    except BenchError as error:
        told = str(error)
        assert told.startswith(f"{path}: ") and "\n" not in told and len(told) < len(str(path)) + 500
        return told.removeprefix(f"{path}: ")


def refusal(content: bytes, path: Path) -> str:
    told = load_or_refuse(content, path)
    assert isinstance(told, str), "the file was loaded"
    return told


def changed(content: bytes, place: str, value: Any) -> bytes:
    """The file with another value at a place of its manifest such as `layers/one/shape`."""
    manifest = node = manifest_of(content)
    *parents, last = place.split("/")
    for key in parents:
        node = node[key]
    node[last] = value
    return with_manifest(content, json.dumps(manifest))
