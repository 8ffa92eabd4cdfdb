"""Everything that is measured of a compressed network, the same way for every method."""

from __future__ import annotations

import copy
import csv
from dataclasses import asdict
from functools import cached_property
from math import isfinite
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from bench.data.feed import Feed
from bench.encodings import artifact
from bench.encodings.artifact import Architecture
from bench.measuring import cost
from bench.measuring.evaluation import Evaluation, agreement, evaluate
from bench.measuring.latency import peak_memory_mb, saturating_batch, time_beside
from bench.measuring.robustness import Attack, measure_robustness
from bench.networks.layers import fold, on_device
from bench.records.record import Record
from bench.records.store import MODEL, PREDICTIONS
from bench.system.errors import BenchError, Diverged
from bench.training.lab import Lab
from bench.trials.baseline import Task, image_size

LAYERS = "layers.csv"
CHECKED_IMAGES = 16


class Ruler:
    """Measures the networks of one task on one device; what concerns the dense network is measured once."""

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device
        self.dense = on_device(copy.deepcopy(task.model), device).eval()

    def fresh_model(self) -> nn.Module:
        """A copy of the dense network on the device, for a method to change."""
        return copy.deepcopy(self.dense)

    def lab(self, epochs: float, seed: int) -> Lab:
        """A trial's laboratory; where no training is asked for, a dataset may have no training images."""
        if epochs == 0 and "train" not in self.task.dataset.parts:
            nothing = self.task.dataset.split("test").subset(torch.arange(0))
            return Lab(self.task.feed(nothing, self.device), epochs=0, seed=seed)
        return Lab(self._training, epochs=epochs, seed=seed, tuning=self._tuning)

    @cached_property
    def _training(self) -> Feed:
        return self.task.feed(self.task.dataset.split("train"), self.device)

    @cached_property
    def _tuning(self) -> Feed:
        return self.task.feed(self.task.dataset.split("tuning"), self.device)

    @cached_property
    def test_feed(self) -> Feed:
        return self.task.feed(self.task.dataset.split("test"), self.device)

    @cached_property
    def dense_evaluation(self) -> Evaluation:
        return evaluate(self.dense, self.test_feed, "testing the dense network")

    @cached_property
    def dense_bytes(self) -> int:
        return artifact.dense_bytes(self.dense)

    @cached_property
    def _batch(self) -> int:
        return saturating_batch(self.dense, self._some_images(1))

    @property
    def architecture(self) -> Architecture:
        dataset = self.task.dataset
        return Architecture(self.task.name, len(dataset.classes), dataset.input_shape[0], image_size(dataset))

    def measure(self, model: nn.Module, reasons: dict[str, str], folder: Path, record: Record) -> None:
        """Write the artifact, reload it, measure what was reloaded, and leave the figures in `record`."""
        path = folder / MODEL
        path.write_bytes(artifact.dump(model, self.architecture))
        reloaded = on_device(artifact.load(path, allow_download=True), self.device)
        self._check_same(model, reloaded)
        record.artifact_bytes, record.dense_bytes = path.stat().st_size, self.dense_bytes
        record.compression_ratio = record.dense_bytes / record.artifact_bytes
        self._measure_cost(model, reasons, folder, record)
        self._measure_accuracy(reloaded, folder, record)
        self._measure_latency(reloaded, record)

    def measure_robustness(self, attack: Attack, folder: Path, record: Record) -> None:
        """Attack the network that the artifact in `folder` holds, and leave the figures in `record`."""
        reloaded = on_device(artifact.load(folder / MODEL, allow_download=True), self.device)
        feed = self.task.feed(attack.choose(self.task.dataset.split("test")), self.device)
        found = measure_robustness(reloaded, feed, attack, record.seed)
        record.attack_distance = attack.distance
        record.attack_images, record.clean_top1, record.robust_top1 = len(feed), found.clean_top1, found.robust_top1
        record.prediction_change_rate = found.prediction_change_rate
        record.attack_success_rate = found.attack_success_rate

    @cached_property
    def _first_images(self) -> Tensor:
        return next(iter(self.test_feed.once(CHECKED_IMAGES)))[0]

    def _some_images(self, count: int) -> Tensor:
        images = self._first_images
        repeats = -(-count // len(images))
        return images.repeat(repeats, 1, 1, 1)[:count].contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _check_same(self, model: nn.Module, reloaded: nn.Module) -> None:
        """The file must hold the model that the method returned."""
        images = self._some_images(CHECKED_IMAGES)
        expected, found = on_device(fold(model), self.device)(images), reloaded(images)
        if not torch.allclose(expected, found, rtol=1e-5, atol=1e-6, equal_nan=True):
            apart = (expected - found).abs().max().item()
            raise BenchError(f"the artifact reloads to another network: its outputs differ by up to {apart:g}")

    def _measure_cost(self, model: nn.Module, reasons: dict[str, str], folder: Path, record: Record) -> None:
        found = cost.compare(self.dense, model, self.task.preprocessing.size, reasons)
        record.params, record.params_dense = found.params, found.params_dense
        record.macs, record.macs_dense = found.macs, found.macs_dense
        record.macs_ratio = found.macs_dense / found.macs if found.macs else None
        record.macs_full = found.macs_full
        record.macs_full_ratio = found.macs_dense / found.macs_full if found.macs_full else None
        record.formula_ratio, record.kernel_ratio = found.formula_ratio, found.kernel_ratio
        write_layers(found.layers, folder / LAYERS)

    def _measure_accuracy(self, reloaded: nn.Module, folder: Path, record: Record) -> None:
        dense = self.dense_evaluation
        found = evaluate(reloaded, self.test_feed, "testing")
        if not isfinite(found.loss):
            raise Diverged(f"on the test images the loss is {found.loss}")
        record.top1, record.top5, record.loss = found.top1, found.top5, found.loss
        record.top1_dense, record.top1_drop = dense.top1, dense.top1 - found.top1
        record.agreement = agreement(found, dense)
        kept = {"predictions": found.predictions, "dense": dense.predictions, "labels": found.labels}
        (folder / PREDICTIONS).write_bytes(save({name: value.int() for name, value in kept.items()}))

    def _measure_latency(self, reloaded: nn.Module, record: Record) -> None:
        one = time_beside(reloaded, self.dense, self._some_images(1))
        record.latency_ms_p50, record.latency_ms_p90, record.latency_ms_p99 = one.p50, one.p90, one.p99
        record.latency_dense_ms_p50, record.latency_speedup = one.dense_p50, one.speedup
        record.latency_speedup_low, record.latency_speedup_high = one.speedup_interval
        images = self._some_images(self._batch)
        many = time_beside(reloaded, self.dense, images)
        record.throughput_batch, record.throughput_ips = many.batch, many.images_per_second
        record.throughput_dense_ips, record.throughput_speedup = many.dense_images_per_second, many.speedup
        record.peak_memory_mb = peak_memory_mb(reloaded, images)


def write_layers(layers: list[cost.LayerCost], path: Path) -> None:
    """One line a convolution; columns that only some encodings have are empty elsewhere."""
    rows = [asdict(layer) | layer.details for layer in layers]
    for row in rows:
        del row["details"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or ["name"], restval="")
        writer.writeheader()
        writer.writerows(rows)
