"""`bench.run` and `bench.compress`, as in a notebook."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bench
from bench.encodings.base import encoded_layers
from bench.networks import zoo
from bench.networks.state_dicts import digest
from bench.plugins.registry import open_dataset
from bench.records.record import FIGURES
from bench.system.errors import BadArgument, BenchError
from bench.trials.trial import _noting

pytestmark = pytest.mark.usefixtures("quick_timing")
MINE = Path(__file__).with_name("networks_of_mine.py")


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(5)
    return zoo.create_model(f"{MINE}:Residual", 3, 3)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accuracy(model: nn.Module, folder: Path) -> float:
    dataset: Any = open_dataset(f"folder:{folder}")
    images = dataset.split("test")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (dataset.mean, dataset.std))
    with torch.no_grad():
        return (model((images.images / 255 - mean) / std).argmax(1) == images.labels).double().mean().item()


def test_a_network_is_compressed_and_measured(net: nn.Module, image_folder: Path, here: Path) -> None:
    before, was_training = digest(net.state_dict()), net.training
    compressed = bench.compress(net, "tic(k=4)", image_folder, epochs=1)
    assert digest(net.state_dict()) == before and net.training == was_training
    layers = [name for name, _, _ in encoded_layers(compressed.model)]
    assert "one" in layers and not compressed.model.training
    assert compressed.figures["top1"] == pytest.approx(accuracy(compressed.model, image_folder))
    assert compressed.figures["top1_dense"] == pytest.approx(accuracy(net.eval(), image_folder))
    assert compressed.figures["artifact_bytes"] == len(compressed.content)
    assert 0 < compressed.figures["epochs_spent"] <= 1 and not (here / "runs").exists()
    assert set(compressed.figures) <= set(FIGURES) and compressed.record.weights == "given"
    assert repr(compressed).startswith("Compressed(Residual, tic(k=4): top1=") and "compression_ratio=" in repr(
        compressed
    )
    path = compressed.save(here / "new" / "net.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(bench.load(path, model=net)(images), compressed.model(images), atol=1e-6)
    with pytest.raises(BenchError, match=r"'Residual' is not a registered network"):
        bench.load(path)


def test_a_dataset_of_ones_own_and_a_name_do_too(image_folder: Path) -> None:
    dataset = open_dataset(f"folder:{image_folder}")
    compressed = bench.compress("resnet20", "l1(rate=0.5)+tic(k=8)", dataset, weights="scratch", epochs=0)
    assert compressed.record.model == "resnet20" and compressed.record.setting == "l1(rate=0.5)+tic(k=8)"
    assert compressed.figures["macs_ratio"] > 1.5


def test_a_setting_that_fails_is_one_line(net: nn.Module, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise BenchError("it does not fit")

    monkeypatch.setattr("bench.trials.trial._compressed", fail)
    with pytest.raises(BenchError, match=r"^tic\(k=4\) on Residual: it does not fit$"):
        bench.compress(net, "tic(k=4)", image_folder)


def test_networks_are_run_and_found_again(net: nn.Module, image_folder: Path) -> None:
    frame = bench.run("l1(rate=0.5)", {"mine": net}, image_folder, epochs=0)
    assert list(frame["setting"]) == ["none", "l1(rate=0.5)"] and set(frame["model"]) == {"mine"}
    assert frame["compression_ratio"].iloc[1] > 1.3 and set(frame["status"]) == {"ok"}
    again = bench.run("l1(rate=0.5)", {"mine": net}, f"folder:{image_folder}", epochs=0)
    assert list(again["started_at"]) == list(frame["started_at"])
    assert list(bench.load_records("runs")["fingerprint"]) != [] and "bench.run(" in frame["config"].iloc[1]["repeat"]

    with torch.no_grad():
        net.head.bias += 1  # type: ignore[union-attr,operator]
    other = bench.run("l1(rate=0.5)", {"mine": net}, image_folder, epochs=0)
    assert not set(other["fingerprint"]) & set(frame["fingerprint"])


CELL = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(F.ACTIVATION(self.conv(x)).mean((2, 3)))
"""


def test_a_class_of_a_notebook_is_another_network_after_an_edit(image_folder: Path) -> None:
    frames = []
    for activation in ("relu", "gelu", "relu"):
        names: dict[str, Any] = {"nn": nn, "torch": torch, "F": F, "__name__": "a_notebook"}
        exec(CELL.replace("ACTIVATION", activation), names)
        frames.append(bench.run("magnitude(rate=0.5)", [names["Net"]()], image_folder, epochs=0))
    first, second, third = (set(frame["fingerprint"]) for frame in frames)
    assert set(frames[0]["model"]) == {"Net"} and frames[0]["top1"].notna().all()
    assert not first & second and first == third


def test_names_are_as_on_the_command_line_and_the_size_counts(image_folder: Path) -> None:
    names = f"{MINE}:Residual,resnet20"
    frame = bench.run("none", names, image_folder, weights="scratch", epochs=0, image_size=24)
    assert list(frame["model"]) == [f"{MINE}:Residual", "resnet20"]
    assert [config["preprocessing"]["size"] for config in frame["config"]] == [[3, 24, 24]] * 2


def test_what_a_notebook_lacks_is_no_note_of_a_result() -> None:
    notes: list[str] = []
    with _noting(notes):
        warnings.warn("IProgress not found. Please update jupyter and ipywidgets.", stacklevel=1)
        warnings.warn("a warning of a method", stacklevel=1)
    assert notes == ["a warning of a method"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"models": 7}, "models=7: expected the name of a network, or a torch.nn.Module"),
        ({"models": []}, "models=[]: expected a list of names of networks"),
        ({"models": [nn.Linear(1, 1), nn.Linear(1, 1)]}, "models='Linear': two networks have this name; give names"),
        ({"models": nn.Linear(32, 3)}, "models='Linear': it gives outputs [2, 3, 32, 3] for 2 images, expected [2, 3]"),
        ({"models": "resnet21"}, "models='resnet21': there is no such network; did you mean"),
        ({"seeds": 0}, "seeds=0: expected a number from 1 to 10000"),
        ({"image_size": 0}, "image_size=0: expected a number from 8 to 4096"),
        ({"image_size": 10**9}, "image_size=1000000000: expected a number from 8 to 4096"),
        ({"image_size": 32.5}, "image_size=32.5: expected a whole number from 8 to 4096"),
        (
            {"weights": "scratch"},
            "weights='scratch': Residual was handed over with its weights; expected auto or a file",
        ),
        ({"dataset": "nowhere"}, "dataset='nowhere': there is no such dataset"),
        ({"epochs": -1}, "epochs=-1: expected a number from 0 to 1000000"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, Any], told: str, net: nn.Module, image_folder: Path) -> None:
    words: dict[str, Any] = {"models": net, "dataset": image_folder, "epochs": 0} | options
    with pytest.raises(BenchError) as caught:
        bench.run("l1", **words)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_what_cannot_be_compressed_is_one_line(net: nn.Module, image_folder: Path) -> None:
    with pytest.raises(BadArgument, match="setting='l1,tic': 2 settings; expected one"):
        bench.compress(net, "l1,tic", image_folder)
    compressed = bench.compress(net, "tic(k=4)", image_folder, epochs=0)
    with pytest.raises(BadArgument, match="model='Residual': it is compressed already, or parametrized"):
        bench.compress(compressed.model, "tic(k=4)", image_folder)
