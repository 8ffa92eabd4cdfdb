"""Networks that an installed package registers, and those of torchvision."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
from bench.encodings import artifact
from bench.networks import own, zoo
from bench.system.errors import BadArgument, BenchError

MINE = Path(__file__).with_name("networks_of_mine.py")

Say = Callable[..., Any]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package offers `my-net`, and a broken one `broken-net`."""
    spec = importlib.util.spec_from_file_location("installed_networks", MINE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "installed_networks", module)
    points = [
        EntryPoint("my-net", "installed_networks:Residual", own.GROUP),
        EntryPoint("broken-net", "installed_networks:nothing", own.GROUP),
    ]
    monkeypatch.setattr(own, "entry_points", lambda group: points if group == own.GROUP else [])
    own.registered.cache_clear()
    yield
    own.registered.cache_clear()


@pytest.mark.usefixtures("registered")
def test_a_package_registers_networks(tmp_path: Path, bench_command: Say) -> None:
    assert "my-net  an installed package" in bench_command("list", "models", "--match", "my-net").out
    model, path = zoo.create_model("my-net", 4, 3).eval(), tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, artifact.Architecture("my-net", 4, 3, 32)))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(bench.load(path)(images), model(images))
    with pytest.raises(BadArgument, match="did you mean my-net"):
        zoo.check_name("my-nett")
    with pytest.raises(BadArgument, match="its entry point installed_networks:nothing cannot be imported: Attribute"):
        zoo.create_model("broken-net", 4, 3)


def test_two_packages_cannot_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("net", "one:Net", own.GROUP), EntryPoint("net", "two:Net", own.GROUP)]
    monkeypatch.setattr(own, "entry_points", lambda group: points)
    own.registered.cache_clear()
    with pytest.raises(BenchError, match="two networks are called 'net': one:Net and two:Net"):
        own.registered()
    own.registered.cache_clear()
    monkeypatch.setattr(own, "entry_points", lambda group: [EntryPoint("resnet20", "one:Net", own.GROUP)])
    with pytest.raises(BenchError, match="two networks are called 'resnet20', one of them by one:Net"):
        zoo.check_name("resnet20")
    own.registered.cache_clear()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "googlenet"])
def test_torchvision_has_networks(name: str) -> None:
    model = zoo.create_model(f"torchvision:{name}", 4, 1).eval()
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 4)
    wanted = zoo.preprocessing(model)
    assert wanted.size == (3, 224, 224) and wanted.interpolation == "bilinear" and wanted.crop_share == 224 / 256
    from bench.networks.layers import is_classifier, weighted_layers

    found = [layer for layer in weighted_layers(model).values() if is_classifier(model, layer)]
    assert len(found) == 1 and 4 in (getattr(found[0], "out_features", 0), getattr(found[0], "out_channels", 0))


def test_published_weights_of_torchvision_keep_all_but_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    torch.manual_seed(1)
    source = models.resnet18()
    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", lambda *_, **__: source.state_dict())
    model = zoo.create_model("torchvision:resnet18", 4, 3, pretrained=True)
    mine, theirs = model.state_dict(), source.state_dict()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == ["fc.weight", "fc.bias"]
    assert mine["fc.weight"].shape == (4, 512)
