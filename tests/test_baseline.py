from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bench.data.dataset import Dataset
from bench.networks.state_dicts import digest
from bench.plugins.registry import open_dataset
from bench.system.errors import BenchError
from bench.trials import baseline
from bench.trials.baseline import Task, cached_path, find_weights, load_task, train_baseline

CPU = torch.device("cpu")


@pytest.fixture
def dataset(image_folder: Path) -> Dataset:
    return open_dataset(f"folder:{image_folder}")


@pytest.fixture
def untrainable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(baseline, "fit", fail)


def test_a_deliberate_baseline_is_kept_described_and_found(
    image_folder: Path, dataset: Dataset, bench_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = bench_command("train", "--models", "resnet20", "--dataset", f"folder:{image_folder}", "--epochs", "4")
    assert said.code == 0, said.err
    path = cached_path("resnet20", dataset)
    about = json.loads(path.with_suffix(".json").read_text())
    assert f"kept as {path}" in said.err
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".json", ".safetensors"]

    tensors = load_file(path)
    assert about["weights_digest"] == digest(tensors)
    assert about["dataset_digest"] == dataset.digest
    assert (about["model"], about["dataset"], about["epochs"], about["params"]) == ("resnet20", "ramps", 4, 269_267)
    assert about["train_images"] == 110 and about["recipe"]["lr"] == dataset.recipe.lr
    assert "torch" in about["versions"] and about["device"].startswith("cpu")

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(baseline, "fit", fail)
    task = load_task("resnet20", dataset, "auto", CPU)
    assert task.weights == path.stem and task.digest == about["weights_digest"]
    assert (about["test_top1"], about["test_loss"]) == pytest.approx(judge(task, image_folder), rel=1e-4)


def judge(task: Task, folder: Path) -> tuple[float, float]:
    """Top-1 and loss, from pictures opened here."""
    right, loss = 0, 0.0
    paths = sorted((folder / "test").glob("*/*.png"))
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (task.dataset.mean, task.dataset.std))
    for path in paths:
        pixels = torch.tensor(list(Image.open(path).tobytes())).view(1, 32, 32, 3).permute(0, 3, 1, 2)
        with torch.no_grad():
            shares = task.model((pixels / 255 - mean) / std).double().softmax(1)[0]
        label = ["down", "flat", "up"].index(path.parent.name)
        right += int(shares.argmax()) == label
        loss -= float(shares[label].log())
    return right / len(paths), loss / len(paths)


def test_auto_trains_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def fit(model: Any, feed: Any, epochs: float, **_: Any) -> None:
        trained.append(epochs)

    monkeypatch.setattr(baseline, "fit", fit)
    first, second = (load_task("resnet20", dataset, "auto", CPU) for _ in range(2))
    assert trained == [dataset.recipe.epochs]
    assert first.digest == second.digest and first.weights == second.weights


@pytest.mark.usefixtures("untrainable")
def test_a_baseline_of_other_images_is_not_taken(image_folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    keep(cached_path("resnet20", dataset), dataset)
    assert find_weights("resnet20", dataset) == cached_path("resnet20", dataset)
    shutil.copytree(image_folder, tmp_path / image_folder.name)
    Image.new("RGB", (32, 32)).save(tmp_path / image_folder.name / "test" / "up" / "0.png")
    other = open_dataset(f"folder:{tmp_path / image_folder.name}")
    assert (other.title, other.classes) == (dataset.title, dataset.classes)
    assert find_weights("resnet20", other) is None
    # Nor one that somebody moved to where ours would be.
    shutil.copytree(cached_path("resnet20", dataset).parent, tmp_path / "moved")
    for file in (tmp_path / "moved").iterdir():
        file.rename(cached_path("resnet20", other).with_suffix(file.suffix))
    with pytest.raises(AssertionError, match="trained again"):
        load_task("resnet20", other, "auto", CPU)


def keep(path: Path, dataset: Dataset) -> None:
    """An untrained baseline, as if it had been trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "fit", lambda *_, **__: None)
        train_baseline("resnet20", dataset, 1, CPU, path)


@pytest.mark.usefixtures("untrainable")
def test_a_baseline_of_another_network_is_not_taken(dataset: Dataset) -> None:
    keep(cached_path("resnet20", dataset), dataset)
    assert find_weights("resnet32", dataset) is None


@pytest.mark.usefixtures("untrainable")
def test_weights_shipped_with_the_project_come_first(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cached_path("resnet20", dataset), dataset)
    monkeypatch.setattr(baseline.resources, "files", lambda package: tmp_path / package)
    shipped = tmp_path / "bench" / "weights" / f"resnet20-{dataset.title}.safetensors"
    keep(shipped, dataset)
    assert find_weights("resnet20", dataset) == shipped
    shipped.with_suffix(".json").write_text(json.dumps({"dataset_digest": "another"}))
    assert find_weights("resnet20", dataset) == cached_path("resnet20", dataset)


@pytest.mark.usefixtures("untrainable")
def test_a_truncated_baseline_is_named(dataset: Dataset) -> None:
    path = cached_path("resnet20", dataset)
    keep(path, dataset)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BenchError, match=f"{path}: not a whole safetensors file"):
        load_task("resnet20", dataset, "auto", CPU)


def test_scratch_is_the_same_whatever_came_before(dataset: Dataset) -> None:
    first = load_task("resnet20", dataset, "scratch", CPU)
    torch.manual_seed(99)
    torch.rand(7)
    again = load_task("resnet20", dataset, "scratch", CPU)
    assert first.digest == again.digest and first.weights == "scratch"
    assert load_task("resnet32", dataset, "scratch", CPU).digest != first.digest
    assert len({parameter.flatten()[0].item() for parameter in first.model.parameters() if parameter.dim() == 4}) > 10


def test_a_file_of_weights_is_taken_as_it_is(dataset: Dataset, tmp_path: Path) -> None:
    keep(tmp_path / "mine.safetensors", dataset)
    task = load_task("resnet20", dataset, str(tmp_path / "mine.safetensors"), CPU)
    assert task.weights == "mine"
    assert task.digest == json.loads((tmp_path / "mine.json").read_text())["weights_digest"]
    torch.save({"state_dict": load_file(tmp_path / "mine.safetensors")}, tmp_path / "other.pth")
    assert load_task("resnet20", dataset, str(tmp_path / "other.pth"), CPU).digest == task.digest


def test_a_file_for_another_network_is_named(dataset: Dataset, tmp_path: Path) -> None:
    keep(tmp_path / "mine.safetensors", dataset)
    with pytest.raises(BenchError, match=r"mine\.safetensors: does not fit the network: missing layer1\.3\."):
        load_task("resnet32", dataset, str(tmp_path / "mine.safetensors"), CPU)


def test_pretrained_needs_somebody_who_publishes(dataset: Dataset) -> None:
    with pytest.raises(
        BenchError, match="there are no published weights for 'resnet20'; expected a file, scratch or auto"
    ):
        load_task("resnet20", dataset, "pretrained", CPU)


def test_out_names_the_file(
    image_folder: Path, dataset: Dataset, tmp_path: Path, bench_command: Callable[..., Any]
) -> None:
    words = ["train", "--models", "resnet20", "--dataset", f"folder:{image_folder}", "--epochs", "0.01"]
    assert bench_command(*words, "--out", tmp_path / "new" / "mine.safetensors").code == 0
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["mine.json", "mine.safetensors"]
    told = "expected a name that ends in .safetensors, and one model"
    assert bench_command(*words, "--out", "mine.pth").mistake == f"--out mine.pth: {told}"
    words[2] = "resnet20,resnet32"
    assert bench_command(*words, "--out", "x.safetensors").mistake == f"--out x.safetensors: {told}"


def test_a_cached_baseline_whose_description_is_damaged_is_not_taken(tmp_path: Path) -> None:
    from bench.trials import baseline

    for text in ("{", "[]", None):
        weights = tmp_path / "some.safetensors"
        weights.with_suffix(".json").unlink(missing_ok=True)
        if text is not None:
            weights.with_suffix(".json").write_text(text)
        assert baseline._described(weights) == {}
