"""Batch-norm statistics re-estimated from training batches: the figures, what is charged, and which trials get it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import EvoNorm2dB0, FrozenBatchNormAct2d
from torch import Tensor, nn

from bench.plugins.setting import parse
from bench.system.errors import BenchError, BudgetExceeded
from bench.training.lab import Lab
from bench.training.recalibration import recalibrate, weights_digest, with_statistics

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]


def images(count: int, size: int = 32, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(6, 3, size, size, generator=generator), torch.zeros(6).long()) for _ in range(count)]


def by_hand(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Average mean and unbiased variance of what enters each batch norm, in float64, each normalised by its batch."""
    seen: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def normalise(name: str) -> Callable[..., Tensor]:
        def hook(layer: Any, inputs: tuple[Tensor], outputs: Tensor) -> Tensor:
            rows = inputs[0].transpose(0, 1).flatten(1).double()
            mean, variance = rows.mean(1), rows.var(1, correction=1)
            seen[name].append((mean, variance))
            scale = layer.weight.double() / (rows.var(1, correction=0) + layer.eps).sqrt()
            shape = (1, -1, 1, 1)
            return ((inputs[0].double() - mean.view(shape)) * scale.view(shape) + layer.bias.view(shape)).float()

        return hook

    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    handles = [norm.register_forward_hook(normalise(name)) for name, norm in norms.items()]
    with torch.no_grad():
        for batch, _ in batches:
            model.eval()(batch)
    for handle in handles:
        handle.remove()
    averages = {}
    for name, rows in seen.items():
        means, variances = zip(*rows, strict=True)
        averages[name] = torch.stack(means).mean(0), torch.stack(variances).mean(0)
    return averages


@pytest.mark.parametrize("prepare", ["none", "tic(k=4)", "wcss", "magnitude(rate=0.8)", "l1(rate=0.5)"])
def test_the_statistics_are_those_of_a_pass_by_hand(make_model: Make, make_lab: MakeLab, prepare: str) -> None:
    """Of plain layers, and where weights are decoded from codebooks, shared filters, and masks."""
    model = parse(prepare)[0].compress(make_model(), make_lab())
    batches = images(3)
    expected = by_hand(model, batches)
    recalibrate(model, batches)
    assert len(expected) == 19
    for name, (mean, variance) in expected.items():
        norm: Any = model.get_submodule(name)
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)
        assert norm.num_batches_tracked == 3


def test_it_agrees_with_torchs_own_where_nothing_is_random(make_model: Make) -> None:
    ours, theirs = make_model(), make_model()
    recalibrate(ours, images(4))
    torch.optim.swa_utils.update_bn(images(4), theirs)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", ["test_efficientnet", "test_byobnet", "resnet20"])
@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(make_model: Make, network: str, training: bool) -> None:
    """Weights, modes, momenta, requires_grad, hooks and the global random generator."""
    model = make_model(network, size=64).train(training)
    next(model.children()).train(not training)

    def state() -> tuple[Any, ...]:
        modes = [(module.training, getattr(module, "momentum", None)) for module in model.modules()]
        hooks = [len(module._forward_pre_hooks) for module in model.modules()]
        return weights_digest(model), modes, hooks, [p.requires_grad for p in model.parameters()], torch.rand(1).item()

    torch.manual_seed(5)
    before, statistics = state(), with_statistics(model)[-1].running_var.clone()  # type: ignore[operator,union-attr]
    torch.manual_seed(5)
    recalibrate(model, images(2, 64))
    assert state() == before
    assert not torch.equal(with_statistics(model)[-1].running_var, statistics)  # type: ignore[arg-type]


def test_dropout_is_off_and_torchs_own_leaves_it_on() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3))
    plain = nn.Sequential(nn.BatchNorm2d(3))
    for each in (model, plain):
        recalibrate(each, images(2))
    assert torch.equal(model[1].running_var, plain[0].running_var)  # type: ignore[arg-type]


class Odd(nn.Module):
    """A norm that runs twice in a pass, one that never runs, and kinds that are no `BatchNorm2d`."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.BatchNorm2d(3)
        self.unused = nn.BatchNorm2d(3)
        self.instance = nn.InstanceNorm2d(3, track_running_stats=True)
        self.evolved = EvoNorm2dB0(3)
        self.synchronised = nn.SyncBatchNorm(3)
        self.cumulative = nn.BatchNorm2d(3, momentum=None)
        self.frozen = FrozenBatchNormAct2d(3)
        self.still = nn.BatchNorm2d(3, momentum=0.0)
        self.untracked = nn.BatchNorm2d(3, track_running_stats=False)
        for name in ("unused", "frozen", "still"):
            nn.init.constant_(getattr(self, name).running_mean, 7)
        nn.init.constant_(self.twice.running_var, float("nan"))

    def forward(self, batch: Tensor) -> Tensor:
        self.twice(batch)
        self.twice(3 * batch + 1)
        for name in ("instance", "evolved", "synchronised", "cumulative", "frozen", "still", "untracked"):
            getattr(self, name)(batch)
        return batch


def test_every_kind_of_norm_with_statistics() -> None:
    model, batches = Odd(), images(2)
    recalibrate(model, batches)
    assert len(with_statistics(model)) == 6
    rows = [batch.transpose(0, 1).flatten(1) for batch, _ in batches]
    mean = torch.stack([row.mean(1) for row in rows]).mean(0)
    variance = torch.stack([row.var(1) for row in rows]).mean(0)
    for name in ("synchronised", "cumulative"):
        torch.testing.assert_close(getattr(model, name).running_mean, mean)
        torch.testing.assert_close(getattr(model, name).running_var, variance)
    torch.testing.assert_close(model.evolved.running_var, variance)
    alone = torch.stack([batch.flatten(2).var(2).mean(0) for batch, _ in batches]).mean(0)
    torch.testing.assert_close(model.instance.running_var, alone)
    torch.testing.assert_close(model.twice.running_mean, (mean + 3 * mean + 1) / 2)
    assert all((getattr(model, name).running_mean == 7).all() for name in ("unused", "frozen", "still"))


def test_the_lab_charges_for_it_and_nothing_without_statistics(make_model: Make, make_lab: MakeLab) -> None:
    lab = make_lab(epochs=1)
    assert lab.recalibrate(make_model(), 2) == 19 and lab.spent == pytest.approx(2 / 3)
    assert lab.recalibrate(make_model("test_nfnet", size=64), 3) == 0 and lab.spent == pytest.approx(2 / 3)
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BudgetExceeded, match="0.666667 epochs wanted"):
        lab.recalibrate(model, 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_seed_gives_the_same_statistics_and_another_seed_others(make_model: Make, make_lab: MakeLab) -> None:
    def after(seed: int) -> Tensor:
        model = make_model()
        make_lab(epochs=1, seed=seed).recalibrate(model, 2)
        return torch.cat([layer.running_mean for layer in with_statistics(model)])  # type: ignore[misc]

    assert torch.equal(after(0), after(0)) and not torch.equal(after(0), after(1))


def test_one_image_has_no_variance() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    with pytest.raises(BenchError, match="a batch of 1 image gives one; use more training images"):
        recalibrate(model, [(torch.randn(1, 3, 8, 8), torch.zeros(1))])
    assert model.training and not model[1]._forward_pre_hooks


def test_the_lab_knows_what_was_changed_after_training(make_model: Make, make_lab: MakeLab) -> None:
    lab, model = make_lab(epochs=3), make_model()
    assert not lab.was_trained(model, 1)
    lab.fit(model, 1 / 3)
    lab.fit(model, 2 / 3)
    assert lab.was_trained(model, 3) and not lab.was_trained(model, 4), "two trainings without a change between"
    lab.recalibrate(model, 1)
    assert lab.was_trained(model, 3), "statistics are no weights"
    with torch.no_grad():
        model.get_submodule("layer1.0.conv1").weight[0, 0, 0, 0] += 1e-3  # type: ignore[index,operator]
    assert not lab.was_trained(model, 1)
    lab.fit(model, 1 / 3)
    assert lab.was_trained(model, 1) and not lab.was_trained(model, 2)
