"""What a trial is verified with: its images, its network from the artifact, and the dense network.

Nothing of the submitter's is run. An artifact names a registered network; for another one the user gives its code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.dataset import Dataset
from bench.encodings import artifact
from bench.encodings.manifest import Manifest, one_line, read_file
from bench.encodings.origin import find_encoding
from bench.leaderboard.grouping import DENSE
from bench.networks import zoo
from bench.networks.layers import fold, on_device
from bench.networks.state_dicts import split_key
from bench.networks.zoo import Preprocessing
from bench.plugins.registry import datasets, open_dataset
from bench.records.record import Record
from bench.system.errors import BadArgument, BenchError
from bench.trials.baseline import load_task, needs_training
from bench.trials.ruler import same_structure
from bench.trials.start import PRETRAINED
from bench.trials.task import SCRATCH, Task, preprocessing
from bench.verifying.accuracy import Tested, tested
from bench.verifying.findings import Unavailable
from bench.verifying.submitted import Submitted

PUBLIC = (SCRATCH, PRETRAINED)
"""Names of weights that need no file: seeded random ones and published ones."""


@dataclass(frozen=True)
class Options:
    """What the user who verifies gives: a device, where images are, the code of an unregistered network, files with
    weights of dense networks, and whether configurations of networks may be fetched."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dataset: str | None = None
    data_root: Path | None = None
    model: str | None = None
    weights: tuple[str, ...] = ()
    allow_download: bool = False

    def __post_init__(self) -> None:
        for weights in self.weights:
            if not split_key(weights)[0].is_file():
                raise BadArgument("weights", weights, "there is no such file")


@dataclass(frozen=True)
class Opened:
    """A trial's network with its encodings in place, the network as it was built, and its task without weights."""

    record: Record
    path: Path
    manifest: Manifest
    network: nn.Module
    fresh: nn.Module
    task: Task

    @cached_property
    def is_dense(self) -> bool:
        """Whether its speed-ups are 1 by definition."""
        if "runtime" in self.record.config:
            return self.record.setting.startswith(f"{DENSE} ")
        return same_structure(self.network, self.fresh)

    def on(self, device: torch.device) -> nn.Module:
        """The network with decoded weights, as it is tested."""
        return on_device(fold(self.network), device).eval()


@dataclass
class Materials:
    """Opens trials, and keeps datasets and tested dense networks from one trial to the next."""

    options: Options = field(default_factory=Options)
    _datasets: dict[str, Dataset] = field(default_factory=dict)
    _dense: dict[tuple[Any, ...], Tested | str] = field(default_factory=dict)

    def dataset(self, record: Record) -> Dataset:
        """The images that a record names. A folder is never opened because a record names it."""
        if self.options.dataset is not None:
            given = self._opened(self.options.dataset)
            if record.dataset == given.title or record.config.get("dataset_digest") == given.digest:
                return given
        if record.dataset not in datasets() or record.dataset == "folder":
            raise Unavailable(
                f"the images of '{one_line(record.dataset)}' are not here; name their folder or archive as dataset, "
                "as in folder:/data/photos"
            )
        try:
            return self._opened(record.dataset)
        except BenchError as error:
            raise Unavailable(str(error)) from error

    def _opened(self, spec: str) -> Dataset:
        if spec not in self._datasets:
            self._datasets[spec] = open_dataset(spec, self.options.data_root)
        return self._datasets[spec]

    def open(self, trial: Submitted, path: Path, manifest: Manifest) -> Opened:
        """The network in an artifact. BenchError if it holds none, Unavailable if something is missing here."""
        record, how = trial.record, manifest.architecture
        dataset = self.dataset(record)
        self._check_code(manifest)
        built = self._own(manifest) if how.is_unnamed else None
        try:
            network = artifact.load(path, model=built, folded=False, allow_download=self.options.allow_download)
        except BadArgument as error:
            raise Unavailable(f"{self.options.model}: {error.problem}") from error
        fresh = how.build() if built is None else built
        wanted = prepared(fresh, dataset, how.image_size)
        task = Task(record.model, fresh, "", "", dataset, wanted, handed=how.is_unnamed)
        return Opened(record, path, manifest, network, fresh, task)

    def _check_code(self, manifest: Manifest) -> None:
        """Unavailable for a network or an encoding that is not installed."""
        name = manifest.architecture.model
        if zoo.is_remote(name) and not self.options.allow_download:
            raise Unavailable(f"the network '{name}' would have to be fetched; allow_download permits it")
        try:
            if not manifest.architecture.is_unnamed:
                zoo.check_name(name, "artifact")
            for kind, package in manifest.packages.items():
                find_encoding(kind, package)
        except BenchError as error:
            raise Unavailable(str(error)) from error

    def _own(self, manifest: Manifest) -> nn.Module:
        how = manifest.architecture
        if self.options.model is None:
            raise Unavailable(
                f"'{one_line(how.model)}' is not a registered network, and code of a submission is never run; give "
                "the network's code as model, as in nets.py:Net"
            )
        zoo.check_name(self.options.model)
        return zoo.create_model(self.options.model, how.classes, how.channels, image_size=how.image_size)

    def dense(self, opened: Opened) -> Tested | str:
        """The test of the dense network with the record's weights; text that says why there is none."""
        how, record = opened.manifest.architecture, opened.record
        digest = record.config.get("weights_digest")
        key = (how.model, opened.task.dataset.title, how.image_size, record.weights, digest)
        if key not in self._dense:
            task = self._with_weights(opened, digest)
            self._dense[key] = task if isinstance(task, str) else self._tested(task)
        return self._dense[key]

    def _with_weights(self, opened: Opened, digest: object) -> Task | str:
        """The dense network with weights of this digest, from what the user gave or from the usual place."""
        usual = record.weights if (record := opened.record).weights in PUBLIC else "auto"
        why = f"the dense network with the weights '{one_line(record.weights)}' is not here"
        for weights in (*self.options.weights, usual):
            try:
                task = self._dense_task(opened, weights)
            except BenchError as error:
                why = one_line(error)
                continue
            if task is not None and task.digest == digest:
                return task
            if task is not None:
                why = f"the dense network here has other weights ({task.digest}) than the record's ({digest})"
        return why

    def _dense_task(self, opened: Opened, weights: str) -> Task | None:
        """The dense network with these weights; None if it would have to be trained."""
        how, dataset = opened.manifest.architecture, opened.task.dataset
        name = self.options.model if how.is_unnamed else how.model  # never the record's, which may name any code
        usual = prepared(opened.fresh, dataset, None).size[1:] == opened.task.preprocessing.size[1:]
        size = None if usual else how.image_size
        if name is None or needs_training(name, dataset, weights, size):
            return None
        return load_task(name, dataset, weights, self.options.device, size)

    def _tested(self, task: Task) -> Tested:
        model = on_device(task.model, self.options.device).eval()
        feed = task.feed(task.dataset.split("test"), self.options.device)
        return tested(model, feed, "testing the dense network")


def prepared(network: nn.Module, dataset: Dataset, image_size: int | None) -> Preprocessing:
    """How the images are prepared for a network that was built for this size."""
    usual = preprocessing(network, dataset)
    return usual if image_size in (None, usual.size[1]) else preprocessing(network, dataset, image_size)


def check_runs(opened: Opened) -> None:
    """BenchError unless the network gives an output for each class: an artifact may hold layers that do not fit."""
    task = opened.task
    try:
        with torch.inference_mode():
            outputs = opened.network(torch.zeros(1, *task.preprocessing.size))
    except Exception as error:  # an untrusted file can make a network fail in any way
        raise BenchError(f"the network in it does not run ({one_line(error)})") from error
    if not isinstance(outputs, Tensor) or outputs.shape != (1, len(task.dataset.classes)):
        raise BenchError(f"the network in it does not give one output for each of {len(task.dataset.classes)} classes")


def read_manifest(path: Path) -> Manifest:
    """The manifest of an artifact; BenchError if it is damaged."""
    return read_file(path)[1]
