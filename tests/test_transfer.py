"""Baselines that start from weights for other classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bench.data.dataset import Dataset, Pixels, Recipe
from bench.data.feed import Feed
from bench.networks import zoo
from bench.networks.state_dicts import digest, new_layers
from bench.networks.zoo import Preprocessing
from bench.plugins.registry import open_dataset
from bench.records.store import Store
from bench.system.errors import BadArgument, BenchError
from bench.training.loop import fit
from bench.trials import baseline
from bench.trials.baseline import cached_path, load_task, needs_training, train_baseline
from bench.trials.start import start_of
from bench.trials.task import Subject

from .transfer_images import dataset as dataset
from .transfer_images import photographs as photographs

CPU = torch.device("cpu")
Say = Callable[..., Any]


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """Weights of a ResNet-20 for 10 classes, from which no random start comes."""
    torch.manual_seed(7)
    path = tmp_path / "ten.safetensors"
    save_file(zoo.create_model("resnet20", 10, 3).state_dict(), path)
    return path


def test_everything_but_the_classifier_is_kept(dataset: Dataset, ten: Path) -> None:
    start = start_of(Subject("resnet20", dataset), str(ten))
    given, made = load_file(ten), start.model.state_dict()
    assert start.new == ("fc",) and made["fc.weight"].shape == (3, 64)
    assert all(torch.equal(made[name], value) for name, value in given.items() if not name.startswith("fc."))
    random = Subject("resnet20", dataset).build().state_dict()
    assert torch.equal(made["fc.weight"], random["fc.weight"])
    assert start.origin == {"weights": str(ten), "digest": digest(given), "new_layers": ["fc"]}


def test_what_a_file_lacks_besides_the_classifier_is_no_transfer(dataset: Dataset, ten: Path, tmp_path: Path) -> None:
    model, tensors = Subject("resnet20", dataset).build(), load_file(ten)
    headless = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
    assert new_layers(model, headless) == ["fc"]
    assert new_layers(model, {name: value for name, value in tensors.items() if name != "conv1.weight"}) == []
    assert new_layers(model, tensors | {"conv1.weight": torch.zeros(16, 1, 3, 3)}) == []
    assert new_layers(model, tensors | {"conv1.weight": torch.zeros(8, 3, 3, 3)}) == []
    save_file(tensors | {"conv1.weight": torch.zeros(16, 1, 3, 3)}, tmp_path / "grey.safetensors")
    with pytest.raises(BadArgument, match=r"does not fit the network: conv1\.weight is \(16, 1, 3, 3\)"):
        start_of(Subject("resnet20", dataset), str(tmp_path / "grey.safetensors"))


def test_a_file_for_as_many_classes_keeps_its_classifier(dataset: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(7)
    save_file(zoo.create_model("resnet20", 3, 3).state_dict(), tmp_path / "three.safetensors")
    start = start_of(Subject("resnet20", dataset), str(tmp_path / "three.safetensors"), freeze=True)
    assert digest(start.model.state_dict()) == digest(load_file(tmp_path / "three.safetensors"))
    assert start.new == () and start.frozen == (start.model.get_submodule("fc"),)


def test_only_what_is_asked_for_is_trained_and_no_statistics_move() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2))
    model[0].bias.requires_grad_(False)  # type: ignore[union-attr]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = Pixels(torch.randint(0, 256, (32, 3, 8, 8), dtype=torch.uint8), torch.arange(32) % 2)
    feed = Feed(images, Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3), CPU, Recipe(epochs=1, batch_size=8))
    fit(model, feed, 1, lr=0.1, generator=torch.Generator().manual_seed(0), only=[model[4]])
    after = model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == ["4.weight", "4.bias"]
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["0.bias"]
    assert not any(module.training for module in model.modules())


def test_the_classifier_comes_first_and_the_record_says_where_the_baseline_began(
    dataset: Dataset, image_folder: Path, ten: Path, bench_command: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trainings = []

    def note(model: nn.Module, feed: Feed, epochs: float, **options: Any) -> None:
        trainings.append((epochs, options["lr"], [type(layer).__name__ for layer in options.get("only", ())]))
        fit(model, feed, epochs, **options)

    monkeypatch.setattr(baseline, "fit", note)
    words = ("--models", "resnet20", "--dataset", f"folder:{image_folder}")
    said = bench_command("train", *words, "--weights", ten, "--freeze", "--epochs", "2")
    assert said.code == 0, said.err
    recipe = dataset.recipe
    assert [lr for _, lr, _ in trainings] == [recipe.lr, recipe.finetune_lr]
    assert [epochs for epochs, _, _ in trainings] == pytest.approx([0.4, 1.6])
    assert [only for _, _, only in trainings] == [["Linear"], []]
    assert f"from {ten} with a new classifier (fc), the classifier first: 2 epochs" in said.err
    about = json.loads(cached_path("resnet20", dataset).with_suffix(".json").read_text())
    origin = {"weights": str(ten), "digest": digest(load_file(ten)), "new_layers": ["fc"], "classifier_first": 0.2}
    assert about["start"] == origin and about["command"].endswith(f"--epochs 2 --weights {ten} --freeze")
    assert not list(cached_path("resnet20", dataset).parent.glob("*.snapshot"))

    run = ("run", *words, "--methods", "l1", "--epochs", "0", "--no-tracking", "--store", tmp_path / "runs")
    said = bench_command(*run)
    assert said.code == 0 and f"trained from {ten}" in said.err, said.err
    assert "2 of 2 trials were recorded before" in bench_command(*run, "--weights", ten).err  # by either name
    records = Store(tmp_path / "runs").records()
    assert [record.config["baseline"]["start"] for record in records] == [origin] * 2
    assert len(trainings) == 2


def test_weights_for_other_classes_are_trained_further_before_they_are_measured(
    dataset: Dataset, ten: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[float] = []
    monkeypatch.setattr(baseline, "fit", lambda model, feed, epochs, **options: trained.append(options["lr"]))
    assert needs_training("resnet20", dataset, str(ten))
    task = load_task("resnet20", dataset, str(ten), CPU)
    assert trained == [dataset.recipe.finetune_lr] and "-from-ten-" in task.weights
    assert f"; weights {task.weights}, trained from {ten}" in task.described()
    assert not needs_training("resnet20", dataset, str(ten)) and needs_training("resnet20", dataset, "auto")
    assert load_task("resnet20", dataset, str(ten), CPU).digest == task.digest and len(trained) == 1
    other = {name: value + 1 if value.is_floating_point() else value for name, value in load_file(ten).items()}
    save_file(other, ten)
    assert needs_training("resnet20", dataset, str(ten))  # another file of that name


def test_photographs_begin_from_published_weights(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, built, began = open_dataset(f"folder:{photographs}"), zoo.create_model, list[Any]()

    def create(name: str, *words: Any, pretrained: bool = False, **options: Any) -> nn.Module:
        model = built(name, *words, **options)
        if pretrained:
            nn.init.constant_(model.conv1[0].weight, 0.125)  # type: ignore[index,arg-type,union-attr]
        return model

    monkeypatch.setattr(zoo, "create_model", create)
    monkeypatch.setattr(baseline, "fit", lambda model, *_, **__: began.append(model.conv1[0].weight.mean().item()))
    assert zoo.has_pretrained("test_resnet") and needs_training("test_resnet", dataset, "auto", 32)
    for weights in ("auto", "pretrained"):
        task = load_task("test_resnet", dataset, weights, CPU, 32)
        assert task.weights.endswith("-from-pretrained") and task.baseline["start"]["new_layers"] == ["fc"]
    assert began == [0.125]


def test_published_weights_that_cannot_be_fetched_are_one_line(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, bench_command: Say
) -> None:
    def unreachable(*_: Any, **options: Any) -> nn.Module:
        if options["pretrained"]:
            raise OSError("the hub is not reachable\nand more")
        return nn.Identity()

    monkeypatch.setattr(zoo.load_timm(), "create_model", unreachable)
    words = ("--models", "test_resnet", "--dataset", f"folder:{photographs}", "--methods", "l1", "--no-tracking")
    told = bench_command("run", *words).mistake
    assert told.startswith("--weights pretrained: the weights of 'test_resnet' cannot be fetched (the hub is not")
    assert "`bench train --models test_resnet`" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--freeze"], "--freeze True: random weights cannot be frozen; name weights to start from"),
        (["--weights", "nowhere.pth"], "--weights nowhere.pth: there is no such file"),
        (["--weights", "pretrained"], "--weights pretrained: there are no published weights for 'resnet20'"),
        (["--weights", "auto"], "--weights auto: expected scratch, pretrained or a file"),
        (["--image-size", "0"], "--image-size 0: expected a number from 8 to 4096"),
        (["--image-size", "1000000000"], "--image-size 1000000000: expected a number from 8 to 4096"),
    ],
)
def test_a_mistake_in_training_is_one_line(words: list[str], told: str, image_folder: Path, bench_command: Say) -> None:
    said = bench_command("train", "--models", "resnet20", "--dataset", f"folder:{image_folder}", *words)
    assert said.mistake.startswith(told)


def test_a_dataset_without_training_images_takes_no_other_classes(
    image_folder: Path, tmp_path: Path, ten: Path
) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "test").symlink_to(image_folder / "test")
    with pytest.raises(
        BenchError, match=r"does not fit the network: fc\.weight is \(10, 64\), the network has \(3, 64\)"
    ):
        load_task("resnet20", open_dataset(f"folder:{tmp_path / 'only'}"), str(ten), CPU)


def test_a_network_of_ones_own_may_have_published_weights(dataset: Dataset) -> None:
    mine = Path(__file__).with_name("networks_of_mine.py")
    assert zoo.has_pretrained(f"{mine}:published") and not zoo.has_pretrained(f"{mine}:Residual")
    start = start_of(Subject(f"{mine}:published", dataset), "pretrained")
    assert start.new == ("head",) and start.origin["weights"] == "pretrained"
    assert all((parameter == 0.5).all() for parameter in start.model.parameters())
    with pytest.raises(
        BadArgument, match="there are no published weights for .*:Residual'; expected a file or scratch"
    ):
        start_of(Subject(f"{mine}:Residual", dataset), "pretrained")


def test_a_killed_transfer_continues_where_it_was(
    dataset: Dataset, ten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def counting(*words: Any, **options: Any) -> None:
        fit(*words, after_step=lambda step, of: steps.append(of), **options)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(baseline, "fit", counting)
    whole = train_baseline("resnet20", dataset, 5, CPU, tmp_path / "whole.safetensors", weights=str(ten), freeze=True)
    assert steps == [1] + [4] * 4
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(baseline, "evaluate", killed)
        train_baseline("resnet20", dataset, 5, CPU, tmp_path / "again.safetensors", weights=str(ten), freeze=True)
    steps.clear()
    again = train_baseline("resnet20", dataset, 5, CPU, tmp_path / "again.safetensors", weights=str(ten), freeze=True)
    assert not steps and digest(load_file(again)) == digest(load_file(whole))
