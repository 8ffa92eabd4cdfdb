"""Measures the networks of one task, in the same way for every method."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import replace
from functools import cached_property
from math import inf, isfinite
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from bench.data.dataset import Part
from bench.data.feed import Feed
from bench.deploying.memory import peak_memory_mb
from bench.encodings import artifact
from bench.execution.costly_widths import remark_on_widths
from bench.execution.executable import Execution, execute, require_same
from bench.isolation.changes import Changes
from bench.isolation.tensors import Mark, marks_of
from bench.measuring import cost
from bench.measuring.chance import remark_on_chance
from bench.measuring.evaluation import Accuracy, Evaluation, evaluate
from bench.measuring.exclusive import alone
from bench.measuring.latency import Speed, saturating_batch, time_beside
from bench.measuring.robustness import Attack, measure_robustness
from bench.networks.layers import fold, on_device
from bench.records.store import CLASSES, MODEL, PREDICTIONS
from bench.system.errors import BenchError, Diverged
from bench.system.progress import say
from bench.training.lab import Lab
from bench.training.resuming import Checkpoints
from bench.trials.results import Attacked, Measured, Sizes
from bench.trials.tables import LAYERS, TIMINGS, write_classes, write_layers, write_timings
from bench.trials.task import SCRATCH, Task

CHECKED_IMAGES = 16
"""Test images on which a reloaded artifact must give the same outputs as the network that was written."""
REFERENCE_IMAGES = 4
"""Test images on which the dense network must give the same outputs after a trial as before."""

GAINS = ("size", "compressed", "macs")
"""What `Ruler.gain` measures."""
KEPT = ("dense_evaluation", "dense_bytes", "batch")
"""Figures of the dense network that are measured once, in the first trial that needs them."""


class Ruler:
    """Measures compressed networks of one task on one device, and the dense network once for all of them.

    All trials share the dense network and the images, so both are checked after each trial (`check_shared`).
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device
        self._feeds: dict[Part, Feed] = {}
        self._marks: dict[Part, list[Mark]] = {}
        self._announced = False
        self._take_dense()

    def _take_dense(self) -> None:
        self.dense = on_device(copy.deepcopy(self.task.model), self.device).eval()
        self._dense_marks: tuple[Hashable, ...] = marks_of(self.dense)

    def fresh_model(self) -> nn.Module:
        """A copy of the dense network on the device, for a method to change."""
        return copy.deepcopy(self.dense)

    def lab(self, epochs: float, seed: int, checkpoints: Checkpoints | None = None) -> Lab:
        """The lab of one trial. A trial without training needs no training images."""
        if epochs == 0 and "train" not in self.task.dataset.parts:
            nothing = self.task.dataset.split("test").subset(torch.arange(0))
            return Lab(self.task.feed(nothing, self.device), epochs=0, seed=seed)
        tuning = self._feed("tuning")
        return Lab(self._feed("train"), epochs=epochs, seed=seed, tuning=tuning, checkpoints=checkpoints)

    def glancing_lab(self, images: int) -> Lab:
        """A lab without a budget, and with at most `images` of the held-out images."""
        if "train" not in self.task.dataset.parts:
            return self.lab(0, 0)
        held_out = self.task.dataset.split("tuning")
        few = held_out.subset(torch.arange(min(images, len(held_out))))
        return Lab(self._feed("train"), epochs=0, seed=0, tuning=self.task.feed(few, self.device))

    @property
    def steps(self) -> int:
        """Batches in a pass over the training images; 0 for a dataset without any."""
        return self._feed("train").steps if "train" in self.task.dataset.parts else 0

    @property
    def test_feed(self) -> Feed:
        return self._feed("test")

    def _feed(self, part: Part) -> Feed:
        if part not in self._feeds:
            self._feeds[part] = self.task.feed(self.task.dataset.split(part), self.device)
            self._marks[part] = _marks(self._feeds[part])
        return self._feeds[part]

    @cached_property
    def reference(self) -> Tensor:
        """Outputs [N, classes] of the dense network on the first test images. Read this before any method runs."""
        return self._dense_outputs()

    def _dense_outputs(self) -> Tensor:
        images = self._first_images[:REFERENCE_IMAGES]
        with torch.inference_mode():
            outputs: Tensor = self.dense(images)
        return outputs

    def _same_outputs(self) -> bool:
        """Whether the dense network gives the outputs of `reference`, to the last bit."""
        try:
            return torch.equal(self._dense_outputs(), self.reference)
        except Exception:  # the network no longer runs
            return False

    def check_shared(self) -> Changes:
        """Compare the dense network and the images with what they were, and repair the network if necessary.

        Images that were changed cannot be repaired. Nor can the network if a fresh copy still gives other outputs: then
        something else in this process was changed, which no other check finds.
        """
        changes = Changes()
        if marks_of(self.dense) != self._dense_marks or not self._same_outputs():
            self._take_dense()
            same = self._same_outputs()
            changes += Changes.of("the dense network" if same else "what the dense network computes", same)
        for part, feed in self._feeds.items():
            if _marks(feed) != self._marks[part]:
                changes += Changes.of(f"the {part} images or labels", restored=False)
        return changes

    @property
    def kept(self) -> frozenset[str]:
        """Names of the dense network's figures that have been measured so far; later trials reuse them."""
        return frozenset(name for name in KEPT if name in vars(self))

    def forget_all_but(self, known: frozenset[str]) -> None:
        """Forget the figures that were measured since `kept` was `known`, because a trial changed the process."""
        for name in self.kept - known:
            del vars(self)[name]

    @cached_property
    def dense_evaluation(self) -> Evaluation:
        return evaluate(self.dense, self.test_feed, "testing the dense network")

    @cached_property
    def remark(self) -> str | None:
        """A warning that the dense network is near chance, if it is: it concerns all results of this task.

        None if random weights were asked for, or if the network cannot be tested; its trials then say why.
        """
        if self.task.weights == SCRATCH:
            return None
        try:
            return remark_on_chance(self.dense_evaluation)
        except Exception:
            return None

    def announce(self) -> None:
        """Say once, before anything is compressed, how images are prepared, and whether the network is near chance."""
        if not self._announced:
            self._announced = True
            say(self.task.described())
            if self.remark:
                say(f"warning: {self.remark}")

    @cached_property
    def dense_bytes(self) -> int:
        return artifact.dense_bytes(self.dense)

    @cached_property
    def batch(self) -> int:
        return saturating_batch(self.dense, self.some_images(1))

    def _dump(self, model: nn.Module) -> bytes:
        return artifact.dump(model, self.task.architecture, self.task.interface, self.task.unnamed)

    def _load(self, folder: Path) -> nn.Module:
        return on_device(artifact.load(folder / MODEL, model=self.task.unnamed, allow_download=True), self.device)

    def measure(self, model: nn.Module, lab: Lab, folder: Path, *, timed: bool = True) -> Measured:
        """Write the artifact into `folder`, reload it, and measure the network that was reloaded.

        `lab` holds what the method noted about its layers. Also writes the table of layers and the predictions. Raises
        BenchError if the artifact reloads to another network than `model`, and Diverged if the loss is not finite.
        """
        content = self._dump(model)
        (folder / MODEL).write_bytes(content)
        reloaded = self._load(folder)
        self._check_same(model, reloaded)
        sizes = Sizes(len(content), artifact.compressed_bytes(content), self.dense_bytes)
        counted = cost.compare(self.dense, model, self.task.preprocessing.size, lab.notes, lab.reachable)
        accuracy = self.measure_accuracy(reloaded, folder)
        if not timed:
            write_layers(counted.layers, folder / LAYERS, {})
            return Measured(sizes, counted, accuracy, None, [])
        is_dense = same_structure(model, self.dense)
        with alone() as disturbed:
            speed, executed = self._measure_speed(reloaded, is_dense, folder, disturbed)
            remarks = [] if is_dense else self._remarks_on_widths(reloaded)
            memory = peak_memory_mb(executed["executed_batch"].network, "torch", self._timed_images[1])
        write_layers(counted.layers, folder / LAYERS, executed)
        return Measured(sizes, counted, accuracy, replace(speed, peak_memory_mb=memory), remarks)

    def gain(self, model: nn.Module, measure: str) -> float:
        """Dense / compressed by one of `GAINS`: bytes of the file, bytes of the file after zstandard, or MACs."""
        if measure == "macs":
            ratio = cost.compare(self.dense, model, self.task.preprocessing.size, {}).macs_ratio
            return inf if ratio is None else ratio
        content = self._dump(model)
        return self.dense_bytes / (artifact.compressed_bytes(content) if measure == "compressed" else len(content))

    def measure_robustness(self, attack: Attack, folder: Path, seed: int) -> Attacked:
        """Attack the network that the artifact in `folder` holds."""
        reloaded = self._load(folder)
        feed = self.task.feed(attack.choose(self.task.dataset.split("test")), self.device)
        return Attacked(attack, measure_robustness(reloaded, feed, attack, seed))

    @cached_property
    def _first_images(self) -> Tensor:
        return next(iter(self.test_feed.once(CHECKED_IMAGES)))[0]

    def some_images(self, count: int) -> Tensor:
        images = self._first_images
        repeats = -(-count // len(images))
        return images.repeat(repeats, 1, 1, 1)[:count].contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _check_same(self, model: nn.Module, reloaded: nn.Module) -> None:
        """The artifact must hold the model that the method returned."""
        images = self.some_images(CHECKED_IMAGES)
        expected, outputs = on_device(fold(model), self.device)(images), reloaded(images)
        if not torch.allclose(expected, outputs, rtol=1e-5, atol=1e-6, equal_nan=True):
            apart = (expected - outputs).abs().max().item()
            raise BenchError(f"the artifact reloads to another network: its outputs differ by up to {apart:g}")

    def measure_accuracy(self, reloaded: nn.Module, folder: Path) -> Accuracy:
        """Test a network beside the dense one, and write the predictions and the table of classes into `folder`."""
        accuracy = Accuracy(
            evaluate(reloaded, self.test_feed, "testing"), self.dense_evaluation, self.task.dataset.classes
        )
        ours, dense = accuracy.compressed, accuracy.dense
        if not isfinite(ours.loss):
            raise Diverged(f"on the test images the loss is {ours.loss}")
        kept = {"predictions": ours.predictions, "dense": dense.predictions, "labels": ours.labels}
        (folder / PREDICTIONS).write_bytes(save({name: value.int() for name, value in kept.items()}))
        write_classes(accuracy.by_class, folder / CLASSES)
        return accuracy

    def _measure_speed(
        self, reloaded: nn.Module, is_dense: bool, folder: Path, disturbed: str
    ) -> tuple[Speed, dict[str, Execution]]:
        """Time the executable form of the network, while no other process of this program times anything.

        Also writes the raw samples. Returns the speed, and how the layers were executed by the prefix of their columns,
        because the fastest forms for one image and for a batch may differ. A network with the dense structure is as
        fast as the dense one by definition.
        """
        batches = self._timed_images
        chosen = [Execution.as_decoded(reloaded) if is_dense else self._execute(reloaded, images) for images in batches]
        one, many = (
            time_beside(execution.network, self.dense, images, disturbed)
            for execution, images in zip(chosen, batches, strict=True)
        )
        write_timings([one, many], folder / TIMINGS)
        speed = Speed(one, many, None)
        return speed.as_dense() if is_dense else speed, dict(zip(("executed", "executed_batch"), chosen, strict=True))

    @property
    def _timed_images(self) -> list[Tensor]:
        return [self.some_images(1), self.some_images(self.batch)]

    def _remarks_on_widths(self, reloaded: nn.Module) -> list[str]:
        remarks = [remark_on_widths(reloaded, self.dense, images) for images in self._timed_images]
        return [remark for remark in remarks if remark]

    def _execute(self, reloaded: nn.Module, images: Tensor) -> Execution:
        """The executable form for a batch of this size; its outputs must be those of the network that was tested."""
        execution = execute(reloaded, images)
        require_same(execution.network, reloaded, self._first_images)
        return execution


def same_structure(model: nn.Module, dense: nn.Module) -> bool:
    """Whether nothing was encoded or removed: the same tensors by name and shape."""
    ours, theirs = model.state_dict(), dense.state_dict()
    return ours.keys() == theirs.keys() and all(ours[name].shape == theirs[name].shape for name in ours)


def _marks(feed: Feed) -> list[Mark]:
    """Marks of the tensors that all trials share: labels, and pixels if they are in memory."""
    images = feed.images
    return [Mark.of(tensor) for tensor in (images.labels, getattr(images, "images", None)) if tensor is not None]
