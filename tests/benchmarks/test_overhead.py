"""What the harness costs beside the loop one would write by hand: `tox -e bench`.

What matters in each group is the ratio: 0.98 means that ours takes 2% longer. The loops by hand use the same images,
optimiser and batches, and nothing else of the harness.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.nn import functional as F

from bench.measuring.evaluation import evaluate
from bench.plugins.registry import open_dataset
from bench.training.lab import Lab
from bench.trials.baseline import load_task
from bench.trials.guard import Guard
from bench.trials.ruler import Ruler

STEPS = 40
TESTED = 4_000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return Ruler(load_task("resnet20", open_dataset("fashion-mnist", None), "auto", CPU), CPU)


@pytest.mark.benchmark(group="training ResNet-20")
def test_fit(benchmark: BenchmarkFixture, ruler: Ruler) -> None:
    benchmark.extra_info["ours"] = True
    feed = ruler._feed("train")

    def fresh() -> tuple[tuple[nn.Module], dict[str, object]]:
        return (ruler.fresh_model(),), {}

    def ours(model: nn.Module) -> None:
        Lab(feed, epochs=STEPS / feed.steps, seed=0).fit(model)

    benchmark.pedantic(ours, setup=fresh, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="training ResNet-20")
def test_training_by_hand(benchmark: BenchmarkFixture, ruler: Ruler) -> None:
    feed = ruler._feed("train")
    images, labels = feed.images.images, feed.images.labels  # type: ignore[attr-defined]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (feed.preprocessing.mean, feed.preprocessing.std))
    recipe = feed.recipe

    def batch(index: Tensor) -> Tensor:
        pixels = F.pad(images[index], (recipe.crop_padding,) * 4)
        rows, columns = torch.randint(2 * recipe.crop_padding + 1, (2, len(index), 1))
        height, width = images.shape[2:]
        rows, columns = rows + torch.arange(height), columns + torch.arange(width)
        here = torch.arange(len(index))[:, None, None]
        pixels = pixels[here, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
        mirrored = torch.rand(len(index)) < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def by_hand(model: nn.Module) -> None:
        optimiser = torch.optim.SGD(
            model.parameters(), recipe.finetune_lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.finetune_lr, STEPS, cycle_momentum=False)
        model.train()
        order = torch.randperm(len(images))
        for step in range(STEPS):
            index = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            optimiser.zero_grad()
            F.cross_entropy(model(batch(index)), labels[index]).backward()
            optimiser.step()
            schedule.step()

    def fresh() -> tuple[tuple[nn.Module], dict[str, object]]:
        return (ruler.fresh_model(),), {}

    benchmark.pedantic(by_hand, setup=fresh, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="evaluating ResNet-20")
def test_evaluate(benchmark: BenchmarkFixture, ruler: Ruler) -> None:
    benchmark.extra_info["ours"] = True
    feed = ruler.task.feed(ruler.task.dataset.split("test").subset(torch.arange(TESTED)), CPU)
    benchmark.pedantic(lambda: evaluate(ruler.dense, feed), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="evaluating ResNet-20")
def test_evaluating_by_hand(benchmark: BenchmarkFixture, ruler: Ruler) -> None:
    feed = ruler.test_feed
    images, labels = feed.images.images[:TESTED], feed.images.labels[:TESTED]  # type: ignore[attr-defined]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (feed.preprocessing.mean, feed.preprocessing.std))

    @torch.inference_mode()
    def by_hand() -> tuple[float, float, float]:
        right, among, loss = 0, 0, 0.0
        for pixels, wanted in zip(images.split(256), labels.split(256), strict=True):
            batch = ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
            logits = ruler.dense(batch)
            right += int((logits.argmax(1) == wanted).sum())
            among += int((logits.topk(5).indices == wanted[:, None]).any(1).sum())
            loss += float(F.cross_entropy(logits, wanted, reduction="sum"))
        return right / len(labels), among / len(labels), loss / len(labels)

    top1, _, loss = benchmark.pedantic(by_hand, rounds=5, warmup_rounds=1)
    ours = evaluate(ruler.dense, ruler.task.feed(ruler.task.dataset.split("test").subset(torch.arange(TESTED)), CPU))
    assert top1 == ours.top1 and loss == pytest.approx(ours.loss)


@pytest.mark.benchmark(group="the guard of a trial, around an evaluation")
def test_evaluation_inside_the_guard(benchmark: BenchmarkFixture, ruler: Ruler) -> None:
    benchmark.extra_info["ours"] = True
    feed = ruler.task.feed(ruler.task.dataset.split("test").subset(torch.arange(TESTED)), CPU)

    def guarded() -> None:
        with Guard(ruler) as guard:
            evaluate(ruler.dense, feed)
        assert not guard.changes

    benchmark.pedantic(guarded, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="the guard of a trial, around an evaluation")
def test_evaluation_without_a_guard(benchmark: BenchmarkFixture, ruler: Ruler) -> None:
    feed = ruler.task.feed(ruler.task.dataset.split("test").subset(torch.arange(TESTED)), CPU)
    benchmark.pedantic(lambda: evaluate(ruler.dense, feed), rounds=5, warmup_rounds=1)
