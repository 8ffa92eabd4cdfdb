"""The gate against faults planted in the real code: each is found, and by the figure that should find it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

from bench.clustering import kmeans as clustering
from bench.data.dataset import Dataset, Pixels, Recipe
from bench.encodings import artifact, scaled_kernels
from bench.gate.check import Report, check, update
from bench.gate.verdict import Limits, Verdict
from bench.measuring import latency, rounds
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.pruning import filters as removal
from bench.records.store import Store
from bench.trials import run as harness
from bench.trials.run import Plan

ROOT = Path(__file__).parents[1]
IMAGES = 400
LIMITS = Limits(slowdown=0.4)
"""On a machine that runs other tests beside these, ten percent are little."""
PLAN = Plan(
    settings=parse("none,tic(k=16),l1(rate=0.1)"),
    models=["resnet20"],
    dataset="few",
    weights=str(ROOT / "bench" / "weights" / "resnet20-fashion-mnist.safetensors"),
    epochs=0,
)


class Few(Dataset):
    """The first test images of Fashion-MNIST, and none to train on."""

    name: ClassVar[str] = "few"
    title = "few"
    input_shape, mean, std, recipe = (1, 32, 32), (0.2190,), (0.3318,), Recipe(epochs=1)
    parts = ("test",)

    def __init__(self) -> None:
        self.whole = registry.datasets()["fashion-mnist"].open(None, None)
        self.classes = self.whole.classes

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        return cls()

    def load(self, part: str) -> Pixels:
        images = self.whole.load("test")
        assert isinstance(images, Pixels) and part == "test"
        return images.subset(torch.arange(IMAGES))


@dataclass(frozen=True)
class Gate:
    """A baseline, and the store that it was made of."""

    baseline: Path
    store: Store

    def after(self, fault: Callable[[pytest.MonkeyPatch], None], *methods: str) -> Report:
        """What the gate finds where trials of `methods` are run again with a fault."""
        root = self.store.root.with_name("faulty")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.store.root, root)
        for record in Store(root).records():
            if record.method in methods:
                shutil.rmtree(Store(root).folder(record.fingerprint))
        with pytest.MonkeyPatch.context() as patch:
            prepare(patch)
            fault(patch)
            outcome = harness.run(PLAN, Store(root))
        assert outcome.reused == len(PLAN.settings) - len(methods)
        return check(self.baseline, root, LIMITS)


def prepare(patch: pytest.MonkeyPatch) -> None:
    known = {**registry.datasets(), "few": Few}
    patch.setattr(registry, "datasets", lambda: known)
    patch.setattr(rounds, "ROUNDS", 10)
    patch.setattr(rounds, "WARM_UP_ROUNDS", 2)
    patch.setattr(latency, "LARGEST_BATCH", 1)
    patch.setattr(latency.Timing, "noise", [])


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("gate")
    store = Store(folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(folder / "cache"))
        prepare(patch)
        outcome = harness.run(PLAN, store)
    assert not outcome.failed
    assert update(folder / "baseline.json", store.root) is None
    yield Gate(folder / "baseline.json", store)


def failures(report: Report) -> dict[str, list[str]]:
    """Of each setting the figures that fail."""
    found = {row.setting: [finding.figure for finding in row.findings if finding.verdict.fails] for row in report.rows}
    return {setting: figures for setting, figures in found.items() if figures}


def test_without_a_fault_nothing_is_found(gate: Gate) -> None:
    report = gate.after(lambda _: None, "tic", "l1")
    assert not report.failed
    assert {finding.verdict for row in report.rows for finding in row.findings} == {Verdict.SAME}


def test_one_centroid_update_dropped(gate: Gate) -> None:
    """Of thousands of updates one is left out: sizes stay, and k-means may even end better; the outputs tell."""
    calls = 0

    def drop_one(points: Tensor, best: Tensor, centroids: Tensor, *rest: Any) -> Tensor:
        nonlocal calls
        calls += 1
        means = whole(points, best, centroids, *rest)
        if calls == 2:
            means[:, 0] = centroids[:, 0]
        return means

    whole = clustering._update
    report = gate.after(lambda patch: patch.setattr(clustering, "_update", drop_one), "tic")
    assert calls > 10 and "outputs" in failures(report)["tic(k=16)"] and len(failures(report)) == 1


def test_a_mask_off_by_one(gate: Gate) -> None:
    """The neighbours of the filters with the lowest scores are removed: just as small, much worse."""

    def shifted(model: nn.Module, lab: Any, groups: list[Any], chosen: list[list[int]], *rest: Any) -> None:
        pairs = zip(groups, chosen, strict=True)
        whole(model, lab, groups, [[(i + 1) % group.channels for i in some] for group, some in pairs], *rest)

    whole = removal.remove_chosen
    report = gate.after(lambda patch: patch.setattr(removal, "remove_chosen", shifted), "l1")
    assert failures(report) == {"l1(rate=0.1)": ["top-1", "outputs"]}


def test_labels_stored_too_wide(gate: Gate) -> None:
    """One bit more each: the network is the same, the file is not."""
    whole = scaled_kernels.width_of
    report = gate.after(lambda patch: patch.setattr(scaled_kernels, "width_of", lambda count: whole(count) + 1), "tic")
    assert failures(report) == {"tic(k=16)": ["artifact bytes"]}
    kernels = 16 * 1 + 16 * 16 * 6 + 32 * 16 + 32 * 32 * 5 + 64 * 32 + 64 * 64 * 5
    (grown,) = (found for row in report.rows for found in row.findings if found.verdict is Verdict.REGRESSION)
    added = int(grown.text.split("(")[1].rstrip(")").replace(",", ""))
    assert abs(added - kernels / 8) <= 19 + 8, "a bit a kernel; each layer, and the file, padded to whole bytes"


def test_a_layer_left_dense(gate: Gate) -> None:
    """Accuracy gains by it; size, parameters and MACs tell."""
    module = sys.modules[registry.methods()["tic"].__module__]
    encodable = module.encodable

    def all_but_one(model: nn.Module, lab: Any) -> dict[str, nn.Conv2d]:
        return {name: layer for name, layer in encodable(model, lab).items() if name != "layer3.2.conv2"}

    report = gate.after(lambda patch: patch.setattr(module, "encodable", all_but_one), "tic")
    assert {"artifact bytes", "parameters", "MACs"} <= set(failures(report)["tic(k=16)"])


def test_a_sleep_in_a_forward(gate: Gate) -> None:
    """The same figures otherwise: what is reloaded computes the same, only later."""

    def slow(*words: Any, **options: Any) -> nn.Module:
        model = load(*words, **options)
        model.conv1.register_forward_pre_hook(lambda *_: time.sleep(0.15))
        return model

    load = artifact.load
    report = gate.after(lambda patch: patch.setattr(artifact, "load", slow), "l1")
    assert failures(report) == {"l1(rate=0.1)": ["latency"]}
