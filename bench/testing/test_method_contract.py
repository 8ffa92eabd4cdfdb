"""What holds for every installed method, even on networks it was not written for.

The id of each test holds the setting, so `-k half` selects a method. A method may refuse a network, with a BenchError
that says why in one line; the test is then skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import get_type_hints

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
from bench.system.errors import BenchError, BudgetExceeded, Diverged, MethodFault
from bench.training import loop, resuming
from bench.training.lab import Lab

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
DEVIATION = 1.001
"""The papers' formulas round bits up, while a file packs them."""
TABLES = 40_000
"""Bytes of a file besides tensors, at most: the names, shapes and facts of every layer."""

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]


def settings_of(method: type[Method]) -> tuple[str, ...]:
    return method.tested or (method.name,)


SETTINGS = [setting for method in registry.methods().values() for setting in settings_of(method)]
STRUCTURES = [settings_of(method)[0] for method in registry.methods().values()]
"""One setting of each method, for tests without a budget, in which training changes nothing."""

every_setting = pytest.mark.parametrize("setting", SETTINGS)
every_method = pytest.mark.parametrize("setting", STRUCTURES)


def trains(setting: str) -> bool:
    return parse(setting)[0].stages[0].trains


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    torch.manual_seed(0)
    return parse(setting)[0].compress(model, lab).eval()


def compress_or_skip(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    """Compress, or skip the test if a method of another package refuses the network; ours refuse none of these."""
    try:
        return compress(setting, model, lab)
    except (BudgetExceeded, Diverged, MethodFault):
        raise
    except BenchError as error:
        stage = parse(setting)[0].stages[0]
        if type(stage).__module__.startswith("bench_methods."):
            raise
        pytest.skip(f"refused: {error}")


@every_method
@pytest.mark.parametrize("network", NETWORKS + MORE_NETWORKS)
def test_outputs_keep_their_shape_and_the_file_holds_the_same_network(
    setting: str, network: str, make_model: Make, make_lab: MakeLab, tmp_path: Path
) -> None:
    model = compress_or_skip(setting, make_model(network, size=64), make_lab(size=64))
    path = tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, Architecture(network, 4, 3, 64)))
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = model(images)
        assert expected.shape == (3, 4)
        for folded in (True, False):
            assert torch.equal(artifact.load(path, folded=folded)(images), expected)


@every_method
@pytest.mark.parametrize("network", NETWORKS)
def test_the_file_is_as_large_as_the_encodings_say(
    setting: str, network: str, make_model: Make, make_lab: MakeLab
) -> None:
    lab = make_lab(size=64)
    dense = make_model(network)
    model = compress_or_skip(setting, make_model(network), lab)
    figures = cost.compare(dense, model, (3, 64, 64), lab.notes)
    content = artifact.dump(model, Architecture(network, 4, 3))
    assert figures.formula_bits / 8 <= len(content) * DEVIATION
    header = int.from_bytes(content[:8], "little") + 8
    bits = sum(encoding.bits() for _, _, encoding in encoded_layers(model))
    plain = sum(p.numel() for key, p in model.named_parameters() if "parametrizations" not in key) * 4
    buffers = sum(b.numel() for _, b in dense.named_buffers() if b.is_floating_point()) * 4
    assert plain + bits / 8 <= len(content) - header <= plain + bits / 8 + buffers + TABLES
    assert figures.macs_dense >= figures.macs > 0
    assert figures.params_dense >= figures.params > 0


@every_setting
def test_a_seed_gives_the_same_network_twice(setting: str, make_model: Make, make_lab: MakeLab) -> None:
    once, again = (compress(setting, make_model(), make_lab(epochs=1, seed=3)).state_dict() for _ in range(2))
    assert once.keys() == again.keys()
    assert all(torch.equal(once[key], again[key]) for key in once)


@every_setting
def test_a_killed_training_goes_on_to_the_same_network(
    setting: str, make_model: Make, make_lab: MakeLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compress(setting, make_model(), make_lab(epochs=1)).state_dict()
    monkeypatch.setattr(resuming, "SECONDS", 0.0)
    for step in (2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "one_cycle", killed_at(step))
            with suppress(KeyboardInterrupt):
                compress(setting, make_model(), make_lab(epochs=1, checkpoints=tmp_path))
        resumed = compress(setting, make_model(), make_lab(epochs=1, checkpoints=tmp_path)).state_dict()
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def killed_at(step: int) -> Callable[[float], float]:
    """The schedule of the learning rate, with an interrupt before the update of this number."""
    seen = count(1)

    def one_cycle(progress: float) -> float:
        if next(seen) == step:
            raise KeyboardInterrupt
        return schedule(progress)

    schedule = loop.one_cycle
    return one_cycle


@every_setting
def test_the_budget_is_spent_and_never_exceeded(setting: str, make_model: Make, make_lab: MakeLab) -> None:
    lab = make_lab(epochs=1)
    compress(setting, make_model(), lab)
    assert lab.spent == pytest.approx(1 if trains(setting) else 0)


@every_setting
def test_training_changes_what_the_encoding_keeps_trainable(setting: str, make_model: Make, make_lab: MakeLab) -> None:
    untrained = dict(compress(setting, make_model(), make_lab()).named_parameters())
    trained = dict(compress(setting, make_model(), make_lab(epochs=1)).named_parameters())
    same = [key for key in untrained if key in trained and torch.equal(untrained[key], trained[key])]
    assert same == ([] if trains(setting) else list(untrained))


@every_setting
def test_a_setting_reads_back_what_it_prints(setting: str) -> None:
    pipeline = parse(setting)[0]
    assert isinstance(pipeline, Pipeline)
    assert parse(str(pipeline)) == [pipeline]


@every_method
def test_every_option_is_explained(setting: str) -> None:
    method = type(parse(setting)[0].stages[0])
    hints = get_type_hints(method, include_extras=True)
    for field in fields(method):
        described = [item for item in getattr(hints[field.name], "__metadata__", ()) if isinstance(item, str)]
        assert described, f"{method.name}: write {field.name}: Annotated[..., 'what it means']"
    assert method.control or method.paper, f"{method.name} names no paper"
    assert method.__doc__ or sys.modules[method.__module__].__doc__, f"{method.name} has no docstring"


@every_method
def test_a_network_without_convolutions_gets_one_line(setting: str, make_lab: MakeLab) -> None:
    with pytest.raises(BenchError, match="the network has no convolutions"):
        compress(setting, nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), make_lab())
