"""Plugins of other people, as their packages install them: a file, and metadata that names it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
from bench.encodings.base import Encoding
from bench.plugins import registry
from bench.system.errors import BenchError

from .installed_packages import TWIN
from .installed_packages import install as install

HALVES = '''\
"""Weights kept as 16-bit floats.

Nobody et al., a throw-away paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch

from bench import Dataset, Encoding, Lab, Method, Pixels, Recipe, Work, convolutions, encode


@dataclass(frozen=True, kw_only=True)
class Halves(Method):
    name = "halves"
    paper = "Nobody et al.: Halves, 2026"

    tuned: Annotated[bool, "train what was rounded"] = True

    def compress(self, model: torch.nn.Module, lab: Lab) -> torch.nn.Module:
        for layer in convolutions(model).values():
            encode(layer, HalfWeight(layer.weight.detach()))
        if self.tuned:
            lab.fit(model)
        return model


class HalfWeight(Encoding):
    kind = "half-weight"

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.initial, self.shape = weight, tuple(weight.shape)

    def forward(self, *stored: torch.Tensor) -> torch.Tensor:
        return stored[0].half().float()

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return self.initial

    def bits(self) -> int:
        return 16 * self.initial.numel()

    def macs(self, work: Work) -> int:
        return work.macs

    def store(self, writer: Any, *stored: torch.Tensor) -> dict[str, Any]:
        writer.halves(stored[0])
        return {}

    @classmethod
    def restore(cls, reader: Any, shape: tuple[int, ...], facts: dict[str, Any]) -> HalfWeight:
        return cls(reader.halves(*shape))


class Noise(Dataset):
    """Images of nothing."""

    name = "noise"
    title = "noise"
    classes = ("one", "other")
    input_shape = (3, 16, 16)
    mean = std = (0.5, 0.5, 0.5)
    recipe = Recipe(epochs=1, batch_size=16)

    @classmethod
    def open(cls, argument: str | None, root: object) -> Noise:
        return cls()

    def load(self, part: Literal["train", "test"]) -> Pixels:
        count = 40 if part == "train" else 20
        images = torch.randint(0, 256, (count, *self.input_shape), generator=torch.Generator().manual_seed(count))
        return Pixels(images.byte(), torch.arange(count) % 2)
'''


def test_a_package_brings_a_method_a_dataset_and_an_encoding(
    install: Callable[..., Path], bench_command: Callable[..., Any], tmp_path: Path
) -> None:
    site = install("halves", {"halves.py": HALVES}, methods="halves", datasets="halves")
    listed = bench_command("list", "methods")
    assert listed.code == 0 and "halves " in listed.out and "tic " in listed.out
    assert "noise    Images of nothing." in bench_command("list", "datasets", "--match", "noise").out
    shown = bench_command("show", "halves").out
    assert "Paper: Nobody et al.: Halves, 2026" in shown
    assert "tuned   bool  True     train what was rounded" in shown

    store = tmp_path / "runs"
    ran = bench_command(
        "run", "--methods", "halves", "--dataset", "noise", "--weights", "scratch", "--no-tracking", "--store", store
    )
    assert ran.code == 0, ran.err
    (folder,) = [path.parent for path in store.glob("records/*/record.json") if '"halves"' in path.read_text()]
    record = json.loads((folder / "record.json").read_text())
    assert 1.9 < record["compression_ratio"] < 2.05 and record["epochs_spent"] == 1

    # In a process that has not met the encoding, the file says which plugin it takes.
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "images.pt")
    code = f"""
import sys, torch, bench
sys.path.insert(0, {str(site)!r})
model = bench.load({str(folder / "model.safetensors")!r})
with torch.no_grad():
    torch.save(model(torch.load({str(tmp_path / "images.pt")!r})), {str(tmp_path / "outputs.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with torch.no_grad():
        expected = bench.load(folder / "model.safetensors")(images)
    torch.testing.assert_close(torch.load(tmp_path / "outputs.pt"), expected)


def test_without_its_plugin_a_file_names_what_it_lacks(install: Callable[..., Path], tmp_path: Path) -> None:
    install("halves", {"halves.py": HALVES}, methods="halves")
    from bench.encodings.artifact import Architecture, dump

    model = Architecture("resnet20", 2, 3).build()
    method: Any = registry.methods()["halves"]
    (tmp_path / "model.safetensors").write_bytes(
        dump(method(tuned=False).compress(model, None), Architecture("resnet20", 2, 3))
    )
    Encoding.kinds.pop("half-weight")
    with pytest.raises(
        BenchError,
        match="encoding 'half-weight' came from package halves version 1.0; the installed version 1.0 has no",
    ):
        bench.load(tmp_path / "model.safetensors")


def test_two_methods_of_one_name_are_both_named(
    install: Callable[..., Path], bench_command: Callable[..., Any]
) -> None:
    install("other", {"other.py": TWIN.format(name="tic")}, methods="other")
    told = bench_command("list", "methods").mistake
    assert told.startswith("two plugins are called 'tic': ")
    assert "bench_methods.tic.TIC" in told and "other.Twin" in told


def test_a_class_named_twice_is_one_method(install: Callable[..., Path]) -> None:
    install("once", {"once/__init__.py": "from once.file import Twin", "once/file.py": TWIN.format(name="once")},
            methods="once")  # fmt: skip
    install("again", {}, methods="once.file:Twin")
    assert registry.methods()["once"].__module__ == "once.file"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(BenchError, match=r"^--x: there is no y 'Tik'; did you mean 'tic'\? There are: kse, tic$"):
        registry.look_up("Tik", {"tic": 1, "kse": 2}, "y", "--x")
