"""What holds for every method in the registry, on networks it was not written for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.encodings import artifact
from bench.encodings.artifact import Architecture
from bench.encodings.base import encoded_layers
from bench.measuring import cost
from bench.plugins import registry
from bench.plugins.method import Method
from bench.plugins.setting import Pipeline, parse
from bench.system.errors import BenchError
from bench.training.lab import Lab

SMALL = {"tic": "tic(k=4)", "taylor": "taylor(steps=2)"}
NETWORKS = ("resnet20", "test_resnet", "test_efficientnet", "test_convnext", "test_byobnet")
MORE_NETWORKS = (
    "test_coatnet",  # convolutions and attention
    "test_efficientnet_evos",  # batch norm and activation in one
    "test_efficientnet_gn",  # group norm
    "test_mambaout",  # channels last, gates
    "test_nfnet",  # weights standardised, no norm
    "ghostnet_050",  # half of the channels computed from the other half
    "lcnet_035",  # depthwise 5x5, squeeze and excitation
)

Make = Callable[..., nn.Module]


def settings() -> list[str]:
    """Every method as it is, and with training where that is an option."""
    return [
        setting
        for name, method in registry.methods().items()
        for setting in [SMALL.get(name, name), *([f"{name}(train=True)"] if hasattr(method, "train") else [])]
    ]


def trains(setting: str) -> bool:
    """Whether it spends the budget: every method does, unless `train` is an option that is off."""
    return bool(getattr(parse(setting)[0].stages[0], "train", True))


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    torch.manual_seed(0)
    return parse(setting)[0].compress(model, lab).eval()


@pytest.fixture(params=settings())
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("name", NETWORKS + MORE_NETWORKS)
def test_outputs_keep_their_shape_and_the_file_holds_the_same_network(
    setting: str, name: str, make_model: Make, make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    model = compress(setting, make_model(name, size=64), make_lab(size=64))
    path = tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, Architecture(name, 4, 3, 64)))
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        assert expected.shape == (3, 4)
        for folded in (True, False):
            assert torch.equal(artifact.load(path, folded=folded)(images), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_as_large_as_the_encodings_say(
    setting: str, name: str, make_model: Make, make_lab: Callable[..., Lab]
) -> None:
    lab = make_lab(size=64)
    dense = make_model(name)
    model = compress(setting, make_model(name), lab)
    found = cost.compare(dense, model, (3, 64, 64), lab.notes)
    content = artifact.dump(model, Architecture(name, 4, 3))
    buffers = sum(b.numel() for key, b in dense.named_buffers() if b.is_floating_point())
    assert found.formula_bits / 8 <= len(content) * 1.001
    header = int.from_bytes(content[:8], "little") + 8
    bits = sum(encoding.bits() for _, _, encoding in encoded_layers(model))
    plain = sum(p.numel() for key, p in model.named_parameters() if "parametrizations" not in key) * 4
    assert plain + bits / 8 <= len(content) - header <= plain + bits / 8 + 4 * buffers + 40_000
    assert found.macs_dense >= found.macs > 0
    assert found.params_dense >= found.params > 0


def test_a_seed_gives_the_same_network_twice(setting: str, make_model: Make, make_lab: Callable[..., Lab]) -> None:
    once, again = (compress(setting, make_model(), make_lab(epochs=1, seed=3)).state_dict() for _ in range(2))
    assert once.keys() == again.keys()
    assert all(torch.equal(once[key], again[key]) for key in once)


def test_the_budget_is_spent_and_never_exceeded(setting: str, make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(epochs=1)
    compress(setting, make_model(), lab)
    assert lab.spent == pytest.approx(1 if trains(setting) else 0)


def test_training_changes_what_the_encoding_keeps_trainable(
    setting: str, make_model: Make, make_lab: Callable[..., Lab]
) -> None:
    untrained = dict(compress(setting, make_model(), make_lab()).named_parameters())
    trained = dict(compress(setting, make_model(), make_lab(epochs=1)).named_parameters())
    still = [key for key in untrained if torch.equal(untrained[key], trained[key])]
    assert still == ([] if trains(setting) else list(untrained))


def test_a_setting_reads_back_what_it_prints(setting: str) -> None:
    pipeline = parse(setting)[0]
    assert isinstance(pipeline, Pipeline)
    assert parse(str(pipeline)) == [pipeline]


@pytest.mark.parametrize("method", registry.methods().values(), ids=registry.methods())
def test_every_option_is_explained(method: type[Method]) -> None:
    from dataclasses import fields
    from typing import get_type_hints

    hints = get_type_hints(method, include_extras=True)
    for field in fields(method):
        assert any(isinstance(item, str) for item in hints[field.name].__metadata__), field.name
    assert method.control or method.paper


def test_a_network_without_convolutions_gets_one_line(setting: str, make_lab: Callable[..., Lab]) -> None:
    with pytest.raises(BenchError, match="the network has no convolutions"):
        compress(setting, nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), make_lab())
