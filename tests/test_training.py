"""The one training loop: its schedule, its hooks, and going on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.data.feed import Feed
from bench.system.errors import BudgetExceeded, Diverged
from bench.training.checkpoint import Snapshot
from bench.training.lab import Lab
from bench.training.loop import fit, one_cycle

Make = Callable[..., nn.Module]


def feed_of(lab: Lab) -> Feed:
    return lab._feed


def train(model: nn.Module, feed: Feed, **options: object) -> nn.Module:
    torch.manual_seed(0)
    fit(model, feed, 3, lr=0.05, generator=torch.Generator().manual_seed(0), **options)  # type: ignore[arg-type]
    return model


def test_a_killed_training_goes_on_to_the_same_weights(
    make_model: Make, make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    feed = feed_of(make_lab())
    whole = train(make_model(), feed).state_dict()

    def killed(step: int, steps: int) -> None:
        if step == 2 * feed.steps + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(make_model(), feed, snapshot=Snapshot(tmp_path / "s", "a"), after_step=killed)
    seen: list[int] = []
    resumed = train(
        make_model(), feed, snapshot=Snapshot(tmp_path / "s", "a"), after_step=lambda step, _: seen.append(step)
    ).state_dict()
    assert seen == list(range(2 * feed.steps + 1, 3 * feed.steps + 1))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_snapshot_of_another_training_or_half_a_file_is_not_taken_up(
    make_model: Make, make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    feed = feed_of(make_lab())
    train(make_model(), feed, snapshot=Snapshot(tmp_path / "s", "a"))
    for key, content in (("b", (tmp_path / "s").read_bytes()), ("a", (tmp_path / "s").read_bytes()[:-10])):
        (tmp_path / "s").write_bytes(content)
        model, optimiser = make_model(), torch.optim.SGD(make_model().parameters(), lr=1)
        assert Snapshot(tmp_path / "s", key).restore(model, optimiser, torch.Generator()) == 0


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [one_cycle(step / 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.05) and max(rates) == pytest.approx(1) and rates[-1] < 1e-4
    peak = rates.index(max(rates))
    assert peak == 100 and rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_a_penalty_is_trained_away(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    def weight(model: nn.Module) -> torch.Tensor:
        return sum((p.square().sum() for p in model.parameters()), torch.zeros(()))

    feed = feed_of(make_lab())
    plain, penalised = train(make_model(), feed), train(make_model(), feed, penalty=weight)
    assert weight(penalised) < 0.9 * weight(plain)


def test_a_loss_that_is_no_number_is_an_error(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    with pytest.raises(Diverged, match="the loss is nan at step 9 of 9"):
        train(make_model(), feed_of(make_lab()), penalty=lambda _: torch.tensor(float("nan")))


def test_the_lab_charges_training_and_batches_alike(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(epochs=2)
    assert len(list(lab.batches(3))) == 3 and lab.spent == pytest.approx(1)
    lab.fit(make_model(), 1 / 3)
    assert lab.spent == pytest.approx(4 / 3) and lab.remaining == pytest.approx(2 / 3)
    with pytest.raises(BudgetExceeded, match="1 epochs wanted, 0.666667 of the budget of 2 remain"):
        lab.fit(make_model(), 1)
    with lab.share(0.5):
        assert lab.remaining == pytest.approx(1 / 3)
    lab.fit(make_model())
    assert lab.remaining == pytest.approx(0)


def test_less_than_a_step_is_not_trained(make_model: Make, make_lab: Callable[..., Lab]) -> None:
    lab, model = make_lab(epochs=1), make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(20):
        lab.fit(model, 0.1)
    assert lab.spent == 0 and all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_every_method_sees_the_same_batches_for_a_seed(make_lab: Callable[..., Lab]) -> None:
    once, again, other = (next(iter(make_lab(epochs=1, seed=seed).batches(1)))[0] for seed in (3, 3, 4))
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_held_out_images_are_in_no_training_batch(image_folder: Path) -> None:
    from bench.plugins.registry import open_dataset
    from bench.trials.baseline import load_task
    from bench.trials.ruler import Ruler

    dataset = open_dataset(f"folder:{image_folder}")
    ruler = Ruler(load_task("resnet20", dataset, "scratch", torch.device("cpu")), torch.device("cpu"))
    lab = ruler.lab(1, 0)
    held = torch.cat([images for images, _ in lab.held_out()])
    trained = ruler.task.feed(dataset.split("train"), torch.device("cpu"))
    seen = torch.cat([images for images, _ in trained.once()])
    assert len(held) == len(dataset.split("tuning")) > 0 and lab.spent == 0
    assert not any((image == seen).flatten(1).all(1).any() for image in held)
