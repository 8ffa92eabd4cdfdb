"""What trials share, and changes that nothing names: repaired, or seen in the outputs, which ends the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.isolation import snapshot
from bench.isolation.snapshot import SpoiledProcess, require_intact
from bench.plugins import registry
from bench.plugins.setting import Pipeline, parse
from bench.records.record import Record
from bench.records.store import Store
from bench.trials import run as harness
from bench.trials.baseline import load_task
from bench.trials.plan import Plan
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial, run_trial

from .poisoned_trials import Noise, Poison, clean, new_ruler, poison
from .poisoned_trials import intact as intact
from .poisoned_trials import ruler as ruler
from .poisoned_trials import untouched as untouched

CPU = torch.device("cpu")

DENSE: dict[str, Callable[[nn.Module], object]] = {
    "weights": lambda dense: dense.conv1.weight.data.zero_(),  # type: ignore[union-attr,operator]
    "weights through NumPy": lambda dense: dense.conv1.weight.detach().numpy().fill(1),  # type: ignore[union-attr,operator]
    "frozen": lambda dense: dense.requires_grad_(False),
    "a hook": lambda dense: dense.register_forward_hook(lambda *_: None),
    "an attribute": lambda dense: setattr(dense, "forward", lambda images: images),
}


@pytest.mark.parametrize("kind", DENSE)
def test_the_shared_dense_network_is_repaired(
    kind: str, ruler: Ruler, untouched: dict[str, Any], tmp_path: Path
) -> None:
    record = poison(ruler, tmp_path / "poison", lambda *_: DENSE[kind](ruler.dense))
    assert record.status == "failed" and "the dense network changed and put back" in (record.error or "")
    assert clean(ruler, tmp_path / "clean") == untouched


def zero_through_numpy(images: Any) -> None:
    images.images.numpy()[0] = 0


def swap_labels(images: Any) -> None:
    images.labels.data[:2] = images.labels.data[:2].flip(0) + 1


@pytest.mark.parametrize("deed", [zero_through_numpy, swap_labels])
def test_images_and_labels_changed_in_place_end_the_run(deed: Callable[[Any], None], tmp_path: Path) -> None:
    ruler = new_ruler()
    record = poison(ruler, tmp_path / "poison", lambda _, __, lab: deed(lab._feed.images), epochs=1)
    assert "the train images or labels changed for good" in (record.error or "") and record.config["spoiled"]
    with pytest.raises(SpoiledProcess, match="the same command goes on in a new process"):
        clean(ruler, tmp_path / "clean")
    with pytest.raises(SpoiledProcess):
        load_task("resnet20", ruler.task.dataset, "scratch", CPU)


def test_batches_are_a_methods_own(ruler: Ruler, untouched: dict[str, Any], tmp_path: Path) -> None:
    def deed(_: Any, __: Any, lab: Any) -> None:
        for images, labels in (*lab.held_out(), *lab.batches(1)):
            images.zero_()
            labels.zero_()

    assert poison(ruler, tmp_path / "poison", deed, epochs=1).status == "ok"
    assert clean(ruler, tmp_path / "clean") == untouched


class OtherTorch:
    """Stands for the module torch, where all but the rectifiers are torch's."""

    def __getattr__(self, name: str) -> Any:
        return (lambda images: images) if name in ("relu", "relu_") else getattr(torch, name)


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Changes what `F.relu` computes in a way that is not looked for: the module in which it looks for its parts."""
    return lambda: monkeypatch.setattr(F, "torch", OtherTorch())


@pytest.mark.filterwarnings("ignore:noise")
def test_what_nothing_else_finds_shows_in_the_outputs_and_ends_the_run(
    rewritten: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed record is written, nothing else is measured; in a new process the others come first."""
    monkeypatch.setattr(registry, "datasets", lambda: {"noise": Noise})
    monkeypatch.setattr("bench.plugins.setting.methods", lambda: {**METHODS, "poison": Poison})
    Poison.deeds[:] = [lambda *_: rewritten()]
    plan = Plan(
        settings=parse("poison,l1(rate=0.5)"),
        models=["resnet20"], dataset="noise", weights="scratch", epochs=0,
    )  # fmt: skip
    store = Store(tmp_path / "runs")
    with pytest.raises(SpoiledProcess, match="what the dense network computes changed for good") as raised:
        harness.run(plan, store)
    assert "\n" not in str(raised.value)
    assert {record.method: record.status for record in store.records()} == {"poison": "failed"}

    monkeypatch.setattr(F, "torch", torch)
    monkeypatch.setattr(snapshot, "_spoiled", [])
    outcome = harness.run(plan, store)
    assert {record.method: record.status for record in outcome.records} == {"poison": "failed", "l1": "ok"}
    with pytest.raises(SpoiledProcess):
        require_intact()


def another_relu(*_: Any) -> None:
    """Its maps have another sign, so the dense network's predictions differ."""
    F.relu = lambda images, inplace=False: -images.clamp(min=0) + torch.arange(images.shape[1])[:, None, None]


def zeros_in_the_dense_network(ruler: Ruler) -> None:
    ruler.dense.conv1.weight.data.zero_()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("deed", [another_relu, zeros_in_the_dense_network])
def test_what_the_first_trial_measures_of_the_dense_network_is_not_kept(
    deed: Callable[[Ruler], None], untouched: dict[str, Any], tmp_path: Path
) -> None:
    """The change does not raise, so the trial measures the dense network while it computes something else."""
    ruler = new_ruler()
    Poison.deeds[:] = [lambda *_: deed(ruler)]
    setting = Pipeline((Poison(),))
    (tmp_path / "poisoned").mkdir()
    record = run_trial(Trial(ruler.task, setting, 0, 1, CPU), ruler, tmp_path / "poisoned", "")
    assert record.status == "failed" and "changed and put back" in (record.error or "")
    assert clean(ruler, tmp_path / "clean") == untouched


def test_a_check_that_fails_spoils_the_process(ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no version counter")

    monkeypatch.setattr(ruler, "check_shared", fail)
    record = poison(ruler, tmp_path / "poison", lambda *_: None)
    assert record.status == "failed" and record.config["spoiled"] is True
    assert "cannot be checked (RuntimeError: no version counter) changed for good" in (record.error or "")
    with pytest.raises(SpoiledProcess):
        require_intact()


def test_a_spoiled_process_ends_a_run_of_several_models_in_one_line_and_delivers_what_there_is(
    ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[str] = []

    class Post:
        def send(self, record: Record) -> None: ...

        def finish(self) -> None:
            finished.append("yes")

    def spoilt(*_: Any) -> None:
        raise SpoiledProcess("changed for good")

    monkeypatch.setattr("bench.trials.plan.load_task", spoilt)
    plan = Plan(settings=parse("l1"), models=["resnet20", "resnet32"], epochs=0)
    with pytest.raises(SpoiledProcess, match="^changed for good$"):
        harness.run(plan, Store(tmp_path / "runs"), Post())
    assert finished == ["yes"]


METHODS = registry.methods()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_method_of_ours_changes_anything(name: str, ruler: Ruler, tmp_path: Path) -> None:
    setting = METHODS[name].tested[0] if METHODS[name].tested else name
    record = run_trial(Trial(ruler.task, parse(setting)[0], 0, 1, CPU), ruler, tmp_path, "")
    assert record.status == "ok", record.error
