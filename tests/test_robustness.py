"""The attack against a closed form and a plain loop; its figures against hand counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import bench
from bench.data.dataset import Files, Pixels, Recipe
from bench.data.feed import Feed
from bench.measuring import robustness
from bench.measuring.robustness import Attack, Robustness, activation_bytes, measure_robustness, perturb
from bench.networks.zoo import Preprocessing
from bench.plugins.registry import open_dataset
from bench.plugins.setting import parse
from bench.records.store import Store
from bench.trials import run as harness
from bench.trials.baseline import load_task
from bench.trials.run import Plan

CPU = torch.device("cpu")
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.3, 0.25)


def noise(count: int = 6, size: int = 8, seed: int = 0) -> Pixels:
    """Images with the darkest and the lightest pixels among them, of 2 classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(-40, 296, (count, 3, size, size), generator=generator).clamp(0, 255).to(torch.uint8)
    return Pixels(images, torch.arange(count) % 2)


def feed_of(images: Pixels | Files, size: int = 8) -> Feed:
    """`size` is that of files; images in memory keep theirs."""
    size = images.images.shape[2] if isinstance(images, Pixels) else size
    return Feed(images, Preprocessing((3, size, size), MEAN, STD), CPU, Recipe(1))


def linear(size: int = 8) -> nn.Sequential:
    """A linear network of 2 classes, none of whose differences of weights is 0."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 2)).eval()


def attacked(model: nn.Module, images: Pixels, start: Tensor, attack: Attack) -> Tensor:
    return perturb(model, feed_of(images).normalise, images.images.float(), images.labels, start, attack)


@pytest.mark.parametrize("steps", [1, 10, 16])
def test_a_linear_network_is_attacked_along_the_sign_of_its_weights(steps: int) -> None:
    model, images = linear(), noise()
    start = 16 * torch.rand(images.images.shape, generator=torch.Generator().manual_seed(1)) - 8
    found = attacked(model, images, start, Attack(6, steps=steps))
    difference = (model[1].weight[1] - model[1].weight[0]).detach().view(3, 8, 8)
    for image, label, begun, result in zip(images.images, images.labels, start, found, strict=True):
        uphill = difference.sign() * (1 - 2 * label)  # of class 0 the loss rises with the other's score
        pixels = image.float()
        begun = (pixels + begun).clamp(0, 255) - pixels  # a start may lead off the scale, where no way back is needed
        expected = (pixels + (begun + steps * uphill).clamp(-8, 8)).clamp(0, 255).round()
        assert torch.equal(result, expected)
        if steps == 16:  # from anywhere within reach, all the way: the optimum of a linear loss
            assert torch.equal(result, (pixels + 8 * uphill).clamp(0, 255))


def test_the_direction_is_that_of_finite_differences() -> None:
    model, images = linear().double(), noise(1)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))

    def loss(pixels: Tensor) -> float:
        return F.cross_entropy(model(((pixels / 255 - mean) / std)[None]), images.labels).item()

    pixels = images.images[0].clamp(1, 254).double()
    moved = attacked(model.float(), Pixels(pixels[None].byte(), images.labels), torch.zeros(1), Attack(1, steps=1))
    model.double()
    for index in torch.randperm(pixels.numel())[:20]:
        nudge = torch.zeros(pixels.numel(), dtype=torch.float64)
        nudge[index] = 0.1
        slope = loss(pixels + nudge.view_as(pixels)) - loss(pixels - nudge.view_as(pixels))
        assert (moved[0] - pixels).flatten()[index] == np.sign(slope)


def plain_pgd(model: nn.Module, image: Tensor, label: int, start: Tensor) -> Tensor:
    """Written anew: one image at a time, float64, pixels in [0, 1]; uint8 in, uint8 out."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (MEAN, STD))
    clean = image[None].double() / 255
    adversarial = torch.clip(clean + start[None].double() / 255, 0, 1)
    for _ in range(10):
        adversarial = adversarial.clone().requires_grad_(True)
        logits = model((adversarial - mean) / std)
        loss = torch.logsumexp(logits, 1)[0] - logits[0, label]
        loss.backward()
        with torch.no_grad():
            adversarial = adversarial + 1 / 255 * torch.sign(adversarial.grad)
            adversarial = clean + torch.clip(adversarial - clean, -8 / 255, 8 / 255)
            adversarial = torch.clip(adversarial, 0, 1)
    return torch.round(adversarial[0] * 255).to(torch.uint8)


def test_a_plain_loop_finds_the_same_images(make_model: Callable[..., nn.Module]) -> None:
    model, images = make_model("resnet20", classes=2), noise(4, 16)
    start = 16 * torch.rand(images.images.shape, generator=torch.Generator().manual_seed(1)) - 8
    ours = perturb(model, feed_of(images, 16).normalise, images.images.float(), images.labels, start, Attack(4))
    model.double()
    for index in range(4):
        theirs = plain_pgd(model, images.images[index], int(images.labels[index]), start[index])
        # In single precision a gradient next to zero may take the other sign.
        apart = (ours[index] - theirs.float()).abs()
        assert (apart > 0).double().mean() < 0.01
        assert (theirs.float() - images.images[index].float()).abs().mean() > 4


@settings(deadline=None, max_examples=25)
@given(
    pixels=st.lists(st.integers(0, 255), min_size=12, max_size=12),
    distance=st.integers(0, 20),
    step=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_what_is_found_can_be_stored_and_is_near(pixels: list[int], distance: int, step: int, seed: int) -> None:
    images = Pixels(torch.tensor(pixels, dtype=torch.uint8).view(1, 3, 2, 2), torch.tensor([1]))
    start = distance * (2 * torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) - 1)
    found = attacked(linear(2), images, start, Attack(1, distance=distance, step=step))
    assert torch.equal(found, found.byte().float())  # of whole levels from 0 to 255
    assert (found - images.images.float()).abs().max() <= distance


def test_figures_are_those_of_a_hand_count() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
    clean = torch.tensor([0, 0, 1, 1, 2, 0, 1, 2])  # five are right
    found = torch.tensor([0, 1, 1, 0, 0, 1, 1, 1])  # of them two stay right; a wrong one turns right
    figures = Robustness(labels, clean, found)
    assert figures.clean_top1 == 5 / 8 and figures.robust_top1 == 3 / 8
    assert figures.prediction_change_rate == 5 / 8 and figures.attack_success_rate == 3 / 5


def test_where_nothing_was_right_no_attack_succeeds_or_fails() -> None:
    wrong = Robustness(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 1]))
    assert wrong.attack_success_rate is None
    assert (wrong.clean_top1, wrong.robust_top1, wrong.prediction_change_rate) == (0, 0.5, 0.5)


def test_the_network_is_left_as_it_was(make_model: Callable[..., nn.Module]) -> None:
    model = make_model("resnet20", classes=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_robustness(model, feed_of(noise(4, 16), 16), Attack(4), seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_an_attack_that_may_move_nothing_changes_nothing(make_model: Callable[..., nn.Module]) -> None:
    found = measure_robustness(make_model("resnet20"), feed_of(noise(9, 16), 16), Attack(9, distance=0), seed=0)
    assert torch.equal(found.clean, found.attacked)


@pytest.mark.parametrize("most", [1, 4, 7])
def test_batches_have_no_say(most: int, make_model: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    original = robustness.perturb

    def watch(*arguments: Any) -> Tensor:
        seen.append(arguments[4])
        return original(*arguments)

    monkeypatch.setattr(robustness, "perturb", watch)
    model, feed = make_model("resnet20", classes=2), feed_of(noise(7, 16), 16)
    whole = measure_robustness(model, feed, Attack(7), seed=5)
    monkeypatch.setattr(robustness, "MOST_IMAGES", most)
    parts = measure_robustness(model, feed, Attack(7), seed=5)
    assert torch.equal(seen[0], torch.cat(seen[1:])) and len(seen) == 1 + -(-7 // most)
    assert seen[0].abs().max() <= 8 and seen[0].abs().max() > 7.9 and abs(seen[0].mean()) < 0.5
    assert torch.equal(whole.attacked, parts.attacked) and torch.equal(whole.labels, torch.arange(7) % 2)
    measure_robustness(model, feed, Attack(7), seed=6)
    assert not torch.equal(seen[0][0], seen[-1][0]), "another seed starts elsewhere"


def test_memory_is_what_a_gradient_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2)).eval()
    # The image (for the convolution), what the ReLU gave (for itself and the linear layer), once each.
    assert activation_bytes(model, torch.zeros(1, 3, 8, 8)) == 4 * (3 * 64 + 4 * 64)
    feed = feed_of(noise(50))
    assert robustness.affordable_batch(model, feed) == 256
    monkeypatch.setattr(robustness, "HOST_BYTES", 10 * 4 * (3 * 64 + 4 * 64) + 7)
    assert robustness.affordable_batch(model, feed) == 10
    monkeypatch.setattr(robustness, "HOST_BYTES", 100)
    assert robustness.affordable_batch(model, feed) == 1


def test_the_sample_is_fixed_and_a_larger_one_holds_the_smaller() -> None:
    images = Pixels(torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1), torch.arange(100))
    few, many = (Attack(count).choose(images).labels for count in (10, 30))
    assert torch.equal(few, Attack(10).choose(images).labels) and torch.equal(few, many[:10])
    assert len(few.unique()) == 10 and not torch.equal(few.sort().values, torch.arange(10))


def test_pixels_are_had_back_from_small_and_large_images(tmp_path: Path) -> None:
    small = noise(4)
    assert torch.equal(feed_of(small).levels(next(feed_of(small).once())[0]), small.images.float())
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    feed = feed_of(Pixels(every, torch.zeros(1, dtype=torch.int64)), 16)
    assert torch.equal(feed.levels(next(feed.once())[0]), every.float())
    generator = np.random.default_rng(0)
    for index in range(3):
        content = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(content).save(tmp_path / f"{index}.png")
    paths = tuple(tmp_path / f"{index}.png" for index in range(3))
    feed = feed_of(Files(paths, torch.arange(3)), 16)
    expected = np.stack([np.asarray(Image.open(path)) for path in paths])
    assert torch.equal(feed.levels(next(feed.once())[0]), torch.tensor(expected).permute(0, 3, 1, 2).float())


def test_the_shipped_network_gives_way_the_farther_pixels_move() -> None:
    dataset = open_dataset("fashion-mnist")
    task = load_task("resnet20", dataset, "auto", CPU)
    right = []
    for distance in (0, 2, 8):
        attack = Attack(48, distance=distance)
        feed = task.feed(attack.choose(dataset.split("test")), CPU)
        right.append(measure_robustness(task.model, feed, attack, seed=0).robust_top1)
    assert 0.85 < right[0] and right[2] < 0.1 < right[1] < right[0]


@pytest.fixture
def plan(image_folder: Path) -> Plan:
    return Plan(
        settings=parse("none,tic(k=4)"),
        models=["resnet20"],
        dataset=f"folder:{image_folder}",
        weights="scratch",
        epochs=1,
        attack=12,
    )


@pytest.mark.usefixtures("quick_timing")
def test_a_record_holds_the_figures_of_the_file(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    records = harness.run(plan, store).records
    dataset = open_dataset(plan.dataset)
    images = Attack(12).choose(dataset.split("test"))
    feed = load_task("resnet20", dataset, "scratch", CPU).feed(images, CPU)
    for record in records:
        model = bench.load(store.folder(record.fingerprint) / "model.safetensors")
        found = measure_robustness(model, feed, Attack(12), seed=0)
        assert record.attack_images == 12
        assert record.clean_top1 == found.clean_top1 and record.robust_top1 == found.robust_top1
        assert record.attack_success_rate == found.attack_success_rate
        assert record.prediction_change_rate == found.prediction_change_rate
        assert record.config["attack"] == {"images": 12, "distance": 8, "step": 1, "steps": 10}
        with torch.no_grad():
            right = model(next(feed.once())[0]).argmax(1) == images.labels
        assert record.clean_top1 == right.double().mean()
    assert {record.method for record in records} == {"none", "tic"}
    assert json.loads((store.folder(records[0].fingerprint) / "record.json").read_text())["robust_top1"] is not None


@pytest.mark.usefixtures("quick_timing")
def test_an_attack_makes_another_trial_and_none_leaves_it_as_it_was(plan: Plan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    several = [replace(plan, settings=parse("tic(k=4)"), attack=count) for count in (0, 5, 30, 1000)]
    prints = [
        harness.run(each, store, runner=lambda trial, ruler, folder, command: trial.blank(command)).records[0]
        for each in several
    ]
    assert "attack" not in prints[0].config and prints[0].robust_top1 is None
    assert prints[2].fingerprint == prints[3].fingerprint, "there are 30 test images"
    assert len({record.fingerprint for record in prints}) == 3


def test_the_record_says_how_far_an_attack_went(bench_command: Any, image_folder: Path, tmp_path: Path) -> None:
    words = ["--methods", "none", "--dataset", f"folder:{image_folder}", "--weights", "scratch", "--epochs", 0]
    for distance in (1, 3):
        attack = ["--attack", 10, "--attack-distance", distance, "--store", tmp_path / str(distance)]
        assert bench_command("run", *words, *attack, "--no-timing", "--no-tracking").code == 0
        record = Store(tmp_path / str(distance)).records()[0]
        assert (record.attack_images, record.attack_distance) == (10, distance)
    told = bench_command("run", "--methods", "none", "--attack", 5, "--attack-distance", 300).mistake
    assert told == "--attack-distance 300: expected a number from 1 to 255"
