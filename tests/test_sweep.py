"""The sweep itself: it finds families, tells what is wrong with a method, and loses nothing."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import BenchError, Encoding, Lab, Method, Work, convolutions, encode, layer_rates, remove_lowest
from bench.plugins.setting import Pipeline, parse


@pytest.fixture(scope="module")
def sweep() -> Any:
    """The script, as `python tests/sweep.py` sees it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield import_module("sweep")
    for name in ("sweep", "sweep_check", "sweep_families", "sweep_table"):
        sys.modules.pop(name, None)


@pytest.fixture
def tiny(sweep: Any) -> Any:
    return sweep.Cell("tiny/resnet", "-", "found", "test_resnet", 64, 470_000)


def test_families_are_named_by_module_and_stem(sweep: Any) -> None:
    found = sweep.candidates()
    assert "resnet18" in found["resnet/resnet"] and "resnext50_32x4d" in found["resnet/resnext"]
    assert "mobilenetv3_small_100" in found["mobilenetv3/mobilenetv3"]
    assert "tf_efficientnetv2_s" in found["efficientnet/efficientnetv2"]
    names = [name for members in found.values() for name in members]
    assert len(names) == len(set(names))
    assert "resnet20" not in names and not any(name.startswith("test_") for name in names)


def test_the_smallest_network_stands_for_its_family(sweep: Any) -> None:
    smallest = sys.modules["sweep_families"].smallest
    assert smallest(["resnet34", "resnet18", "resnet26"]) == ("resnet18", 11_689_512 - 996 * 513, True)
    assert smallest(["vit_tiny_patch16_224"])[2] is False


@dataclass(frozen=True, kw_only=True)
class Silent(Method):
    """Changes nothing and says nothing."""

    name = "silent"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        return model


@dataclass(frozen=True, kw_only=True)
class Exaggerating(Method):
    """Says that it kept fewer filters than it did."""

    name = "exaggerating"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        remove_lowest(model, lab, lambda group: torch.arange(group.channels), layer_rates(model, 0.5))
        lab.note("layer1.0.conv1", "1 of 32 filters kept")
        return model


class Forgetful(Encoding):
    """Its file holds zeros."""

    kind = "forgetful"

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape, self.initial = tuple(weight.shape), weight.detach()

    def forward(self, *stored: Tensor) -> Tensor:
        return stored[0]

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial

    def bits(self) -> int:
        return 32 * self.initial.numel()

    def macs(self, work: Work) -> int:
        return work.macs

    def store(self, writer: Any, *stored: Tensor) -> dict[str, Any]:
        return {}

    @classmethod
    def restore(cls, reader: Any, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        return cls(torch.zeros(shape))


@dataclass(frozen=True, kw_only=True)
class Wrong(Method):
    name = "wrong"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        for layer in convolutions(model).values():
            encode(layer, Forgetful(layer.weight))
        return model


@dataclass(frozen=True, kw_only=True)
class Refusing(Method):
    name = "refusing"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        raise BenchError("the network has\nno wings")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Silent(), "left as it was without a word: conv1.0 and 14 more"),
        (Exaggerating(), "layer1.0.conv1: 1 of 32 filters kept, but it has 16"),
        (Wrong(), "the reloaded network computes something else"),
    ],
)
def test_what_is_wrong_is_told(sweep: Any, tiny: Any, method: Method, message: str) -> None:
    with pytest.raises(AssertionError) as raised:
        sweep.check(tiny, Pipeline((method,)))
    assert message in str(raised.value)


def test_what_is_right_is_counted(sweep: Any, tiny: Any) -> None:
    refused = sweep.check(tiny, Pipeline((Refusing(),)))
    assert (refused.status, refused.reason) == ("refused", "refusing: the network has no wings")
    found = sweep.check(tiny, parse("kse(G=4)")[0])
    assert (found.status, found.mark) == ("partly", f"{found.layers - 1}/{found.layers}")
    assert found.reason == "1x the network's first convolution, which reads the image, stays dense"
    assert sweep.check(tiny, parse("magnitude")[0]).mark == "ok"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_run_survives_what_hangs_or_dies_and_goes_on_where_it_was(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    families = sys.modules["sweep_families"]
    for module in (sweep, families):
        monkeypatch.setattr(module, "candidates", lambda: {"tiny/resnet": ["test_resnet"], "vit": ["test_vit"]})
    honest = sweep.check

    def odd(found: Any, setting: Pipeline) -> Any:
        if setting.name == "tic":
            time.sleep(100)
        if setting.name == "kse":
            raise SystemExit("out of memory")
        return honest(found, setting)

    monkeypatch.setattr(sweep, "check", odd)
    out = tmp_path / "sweep.md"
    methods = "tic(k=4),kse(G=4),magnitude(rate=0.5)"
    words = ["sweep.py", "--methods", methods, "--out", str(out), "--log", str(tmp_path / "log")]
    monkeypatch.setattr(sys, "argv", [*words, "--limit", "8"])
    sweep.main()
    cells = {setting: cell for (_, setting), cell in sweep.read(tmp_path / "sweep.csv").items() if setting != "-"}
    assert cells["tic(k=4)"].reason == "not done within 8 s"
    assert cells["kse(G=4)"].reason == "SystemExit: out of memory"
    assert cells["magnitude(rate=0.5)"].status == "ok"
    text = out.read_text()
    assert "1 convolutional families of timm and pytorchcv, 3 settings: 1 of 3 cells hold (33.3%)" in text
    assert "| tiny/resnet | test_resnet at 64 | FAILED | ok | FAILED |" in text
    assert "Left out, no convolution whose windows overlap, or several outputs: vit." in text
    monkeypatch.setattr(sweep, "check", honest)
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", [*words, "--retry", "FAILED"])
    sweep.main()
    said = capsys.readouterr().out
    assert "[2/2] tiny/resnet: kse(G=4)" in said
    assert "3 of 3 cells hold (100.0%)" in out.read_text()
