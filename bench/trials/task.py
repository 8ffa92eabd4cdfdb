"""What is measured: a network with its weights, a dataset, and how the images are prepared."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from bench.data.dataset import Dataset, Files, Images, Pixels
from bench.data.feed import Feed
from bench.encodings.artifact import Architecture
from bench.encodings.interface import Interface
from bench.networks import own, zoo
from bench.networks.own import Handed
from bench.networks.state_dicts import digest, load_weights, read_state_dict, split_key
from bench.networks.structure import structure_digest
from bench.networks.zoo import Preprocessing
from bench.system.errors import BadArgument
from bench.system.text import encoded
from bench.trials.sources import network_digest

BASELINE_SEED = 0
SCRATCH = "scratch"
"""The name of random weights."""
LONGEST_NAME = 200
"""Characters of a network's name that an artifact holds, at most; a longer name loses its beginning."""
GIVEN = "given"
"""The name of the weights that a network had when it was passed as a module."""


@dataclass(frozen=True)
class Task:
    """A network with its weights, a dataset, and the preprocessing of its images.

    `model` is on the CPU and is never changed. `weights` names the source of its weights and `digest` identifies them.
    """

    name: str
    model: nn.Module
    weights: str
    digest: str
    dataset: Dataset
    preprocessing: Preprocessing
    baseline: dict[str, Any] = field(default_factory=dict)
    """How the weights were trained, from the file beside them; empty if there is none."""
    source: str = ""
    """Identifies the code and the structure of a user's own network; empty for a network that this program knows."""
    handed: bool = False
    """Whether the network was passed as a module, so that no name builds it."""

    def feed(self, images: Images, device: torch.device) -> Feed:
        return Feed(images, self.preprocessing, device, self.dataset.recipe)

    @cached_property
    def architecture(self) -> Architecture:
        """How the network is built. A network without a registered name is also described by its structure."""
        large, size = isinstance(self.dataset.load_any(), Files), self.preprocessing.size[1]
        usual = large and size == zoo.preprocessing(self.model).size[1]
        counts = (len(self.dataset.classes), self.dataset.input_shape[0], None if usual else size)
        if self.unnamed is None:
            return Architecture(self.name, *counts)
        name = encoded(self.name).decode("ascii", "backslashreplace")[-LONGEST_NAME:]
        return Architecture(name, *counts, structure_digest(self.unnamed))

    @cached_property
    def interface(self) -> Interface:
        """What an artifact says about images and classes. For a dataset of small images, others are resized without a
        crop."""
        small = not isinstance(self.dataset.load_any(), Files)
        prepared = replace(self.preprocessing, crop_mode="squash") if small else self.preprocessing
        return Interface.of(self.dataset.classes, prepared)

    @property
    def unnamed(self) -> nn.Module | None:
        """The network, if an artifact cannot name it; None if it can."""
        return self.model if self.handed or own.is_reference(self.name) else None

    def described(self) -> str:
        """The network, its images and its weights, in one line."""
        origin = self.baseline.get("start")
        trained_from = f", trained from {origin['weights']}" if isinstance(origin, dict) and origin else ""
        images = prepared(self.preprocessing, self.dataset)
        return f"{self.name} on {self.dataset.title}: {images}; weights {self.weights}{trained_from}"


@dataclass(frozen=True)
class Subject:
    """A network by name, for the classes of a dataset and for images of size `asked_size` (None: the usual one)."""

    name: str
    dataset: Dataset
    asked_size: int | None = None

    def build(self, *, pretrained: bool = False) -> nn.Module:
        """The network in the seeded random state that baselines start from.

        With `pretrained` it has published weights. Layers that these do not fit, such as a classifier for other
        classes, stay random. Raises BadArgument for a network that does not give an output for each class.
        """
        torch.manual_seed(BASELINE_SEED)
        classes, channels, size = len(self.dataset.classes), self.dataset.input_shape[0], input_size(self)
        model = zoo.create_model(self.name, classes, channels, pretrained=pretrained, image_size=size).eval()
        if own.is_own(self.name) or self.asked_size is not None:
            shape = preprocessing(model, self.dataset, self.asked_size).size
            own.check_outputs(model, self.name, shape, classes)
        return model

    @cached_property
    def size(self) -> int | None:
        """The size that was asked for; None if the images have it anyway."""
        if self.asked_size is None:
            return None
        usual = preprocessing(Subject(self.name, self.dataset).build(), self.dataset).size
        return None if usual[1:] == (self.asked_size, self.asked_size) else self.asked_size

    @cached_property
    def source(self) -> str:
        return network_digest(self.build()) if own.is_own(self.name) else ""

    @cached_property
    def file_name(self) -> str:
        """The part of a file name that distinguishes the network and the size of its images."""
        slug = self.name.replace("/", "--").replace(":", "--").replace("\\", "--")
        return "-".join([slug, *filter(None, [self.source[:8], f"{self.size}px" if self.size else ""])])

    def task(self, model: nn.Module, weights: str, baseline: dict[str, Any] | None = None) -> Task:
        """The task with this network, whose weights are loaded."""
        wanted = preprocessing(model, self.dataset, self.asked_size)
        return Task(
            self.name, model, weights, digest(model.state_dict()), self.dataset, wanted, baseline or {}, self.source
        )


def input_size(subject: Subject) -> int | None:
    """The image size in pixels for which a fixed-size network is built; None for the size it was published with.

    Small images decide it themselves; large ones are scaled to the network's size.
    """
    if subject.asked_size is not None:
        return subject.asked_size
    return subject.dataset.input_shape[1] if isinstance(subject.dataset.load_any(), Pixels) else None


def preprocessing(model: nn.Module, dataset: Dataset, image_size: int | None = None) -> Preprocessing:
    """How images are prepared: small ones by the dataset's mean and deviation, large ones as the network expects.

    `image_size` is their height and width in pixels; None for the usual size.
    """
    if isinstance(dataset.load_any(), Pixels):
        usual = Preprocessing(dataset.input_shape, dataset.mean, dataset.std)
    else:
        usual = zoo.preprocessing(model)
    return usual if image_size is None else replace(usual, size=(usual.size[0], image_size, image_size))


def prepared(wanted: Preprocessing, dataset: Dataset) -> str:
    """How the images of a dataset are prepared, in words."""
    height, width = wanted.size[1:]
    scale = f"mean {_numbers(wanted.mean)}, std {_numbers(wanted.std)}"
    if isinstance(dataset.load_any(), Pixels):
        before = dataset.input_shape[1:]
        resized = "" if before == (height, width) else f" resized from {before[0]}x{before[1]} (bilinear)"
        return f"images of {height}x{width} pixels{resized}, {scale}"
    mode = "centre" if wanted.crop_mode == "center" else wanted.crop_mode
    crop = f"{mode} crop of {wanted.crop_share:g} of the side, {wanted.interpolation}"
    return f"photographs at {height}x{width} pixels ({crop}), {scale}"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


def handed_task(handed: Handed, dataset: Dataset, weights: str, image_size: int | None = None) -> Task:
    """The task with a copy of a network that was passed as a module, with its own weights or those of a file.

    Raises BadArgument for a network that cannot be measured.
    """
    if weights in ("scratch", "pretrained"):
        raise BadArgument(
            "weights", weights, f"{handed.name} was handed over with its weights; expected auto or a file"
        )
    if any(parametrize.is_parametrized(module) for module in handed.model.modules()):
        raise BadArgument("model", handed.name, "it is compressed already, or parametrized; expected a plain network")
    classes = len(dataset.classes)
    model = own.with_classes(copy.deepcopy(handed.model).cpu().float().eval(), classes)
    wanted = preprocessing(model, dataset, image_size)
    own.check_outputs(model, handed.name, wanted.size, classes)
    name = GIVEN
    if weights != "auto":
        path, key = split_key(weights)
        load_weights(model, read_state_dict(path, model.state_dict().keys(), key), str(path))
        name = path.stem
    source = network_digest(model)
    return Task(handed.name, model, name, digest(model.state_dict()), dataset, wanted, {}, source, handed=True)
