"""The uncompressed networks: their weights are loaded, or trained once with the dataset's recipe and cached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from bench.data.dataset import Dataset, Files
from bench.data.feed import Feed
from bench.isolation.snapshot import require_intact
from bench.measuring.cost import count_params
from bench.measuring.evaluation import Evaluation, evaluate
from bench.measuring.exclusive import making_way
from bench.networks import zoo
from bench.networks.layers import on_device
from bench.networks.own import Handed
from bench.networks.state_dicts import digest, load_weights, new_layers, read_state_dict, split_key
from bench.system.cache import cache_dir
from bench.system.clock import working_seconds
from bench.system.environment import describe_device, versions
from bench.system.errors import BadArgument
from bench.system.files import write_atomically
from bench.system.progress import say
from bench.training.checkpoint import Snapshot
from bench.training.loop import fit
from bench.trials.lent import Lent
from bench.trials.start import FROZEN_SHARE, PRETRAINED, Start, published, start_of
from bench.trials.task import BASELINE_SEED as BASELINE_SEED
from bench.trials.task import SCRATCH, Subject, handed_task, prepared, preprocessing
from bench.trials.task import Task as Task


@dataclass(frozen=True)
class Source:
    """Where the weights of a task come from: a file, or, without a `path`, published weights that need no training.

    If the file is a baseline that has not been trained yet, `start` names the weights to train it from.
    """

    path: Path | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """The content of the file, if it was read."""
    start: str = ""


def load_task(
    network: str | Handed, dataset: Dataset, weights: str | Lent, device: torch.device, image_size: int | None = None
) -> Task:
    """Build a network for `dataset` and load its weights.

    `weights` is `pretrained` (published ones), `scratch` (random, seeded), the path of a file, `FILE#KEY` for one of
    several state dicts in a file, or `auto`: a baseline of this dataset if there is one, else published weights for a
    dataset of photographs, else a baseline that is trained now. From weights with a classifier for another number of
    classes, a baseline is trained first. `image_size` is in pixels; None for the usual size.

    With `auto`, a network that was passed as a module keeps its own weights. Weights that another process has loaded
    (`Lent`) are taken as they are.

    Raises BadArgument for weights that do not exist, and BenchError for weights that do not fit the network.
    """
    require_intact()
    if dataset.baselines is not dataset:
        return replace(load_task(network, dataset.baselines, weights, device, image_size), dataset=dataset)
    if isinstance(network, Handed):
        assert isinstance(weights, str), "a network that was passed as a module brings its weights"
        return handed_task(network, dataset, weights, image_size)
    zoo.check_name(network)
    subject = Subject(network, dataset, image_size)
    if isinstance(weights, Lent):
        return weights.task(subject)
    if weights == SCRATCH:
        return subject.task(subject.build(), SCRATCH)
    source = _source(subject, weights)
    if source.path is None:
        return subject.task(published(subject), PRETRAINED)
    if source.start:
        train(subject, source.start, dataset.recipe.epochs, device, source.path)
    model = subject.build()
    load_weights(model, source.tensors or read_state_dict(source.path, model.state_dict().keys()), str(source.path))
    return subject.task(model, source.path.stem, _described(source.path))


def needs_training(network: str | Handed, dataset: Dataset, weights: str | Lent, image_size: int | None = None) -> bool:
    """Whether `load_task` would have to train a baseline."""
    if isinstance(network, Handed) or isinstance(weights, Lent) or weights == SCRATCH:
        return False
    return bool(_source(Subject(network, dataset.baselines, image_size), weights).start)


def _source(subject: Subject, weights: str) -> Source:
    dataset = subject.dataset
    if weights == "auto":
        if known := _find(subject):
            return Source(known)
        photographs = isinstance(dataset.load_any(), Files) and "train" in dataset.parts
        if not _judged_as_is(subject) and not (photographs and zoo.has_pretrained(subject.name)):
            return Source(_kept_at(subject), start=SCRATCH)
    if weights in ("auto", PRETRAINED):
        if not zoo.has_pretrained(subject.name):
            problem = f"there are no published weights for '{subject.name}'; expected a file, scratch or auto"
            raise BadArgument("weights", PRETRAINED, problem)
        return Source() if _judged_as_is(subject) else _trained_from(subject, PRETRAINED)
    path, key = split_key(weights)
    model = subject.build()
    tensors = read_state_dict(path, model.state_dict().keys(), key)
    fits = "train" not in dataset.parts or not new_layers(model, tensors)
    return Source(path, tensors) if fits else _trained_from(subject, weights, digest(tensors))


def _judged_as_is(subject: Subject) -> bool:
    """Whether published weights need no training, because the dataset has ImageNet's classes."""
    return subject.dataset.imagenet_classes and zoo.has_pretrained(subject.name, len(subject.dataset.classes))


def _trained_from(subject: Subject, weights: str, known: str = "") -> Source:
    """The baseline that was trained from these weights, or will be; `known` is the weights' digest, if it is known."""
    label = PRETRAINED if weights == PRETRAINED else split_key(weights)[0].stem
    plain = _kept_at(subject)
    own = plain.with_name(f"{plain.stem}-from-{label}{known[:8] and '-' + known[:8]}.safetensors")
    for path in (plain, own):
        start = _described(path).get("start") if path.is_file() else None
        if isinstance(start, dict) and (start.get("digest") == known if known else start.get("weights") == PRETRAINED):
            return Source(path)
    return Source(own, start=weights)


def find_weights(name: str, dataset: Dataset, image_size: int | None = None) -> Path | None:
    """A baseline that was trained on exactly these images, shipped or in the cache; None if there is none."""
    return _find(Subject(name, dataset, image_size))


def _find(subject: Subject) -> Path | None:
    dataset = subject.dataset
    shipped = Path(str(resources.files("bench"))) / "weights" / f"{subject.file_name}-{dataset.title}.safetensors"
    for path in (shipped, _kept_at(subject)):
        if path.is_file() and _described(path).get("dataset_digest") == dataset.digest:
            return path
    return None


def _described(weights: Path) -> dict[str, Any]:
    """The description beside a file of weights; empty where it is missing or damaged."""
    try:
        described = json.loads(weights.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
    return described if isinstance(described, dict) else {}


def cached_path(name: str, dataset: Dataset, image_size: int | None = None) -> Path:
    return _kept_at(Subject(name, dataset, image_size))


def _kept_at(subject: Subject) -> Path:
    dataset = subject.dataset
    return cache_dir() / "baselines" / f"{subject.file_name}-{dataset.title}-{dataset.digest}.safetensors"


def train_baseline(
    name: str,
    dataset: Dataset,
    epochs: float,
    device: torch.device,
    out: Path | None = None,
    *,
    weights: str = SCRATCH,
    freeze: bool = False,
    image_size: int | None = None,
) -> Path:
    """Train a network, test it once, and write weights and a description; returns the file.

    The training starts from random weights (`scratch`), from `pretrained` ones or from those of a file. If these are
    for another number of classes, the classifier is new. With `freeze` the classifier is trained alone first (see
    `bench.trials.start`). The file is `out`, or one in the cache. If the training is killed, the same call continues
    after the last complete pass.
    """
    subject = Subject(name, dataset.baselines, image_size)
    return train(subject, weights, epochs, device, out or _kept_at(subject), freeze=freeze)


def train(
    subject: Subject, weights: str, epochs: float, device: torch.device, path: Path, *, freeze: bool = False
) -> Path:
    """`train_baseline`, into the file `path`."""
    started = working_seconds()
    start = start_of(subject, weights, freeze=freeze)
    model = on_device(start.model, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    title = f"{subject.name} on {subject.dataset.title}"
    say(f"training the baseline {title}{start.told}: {epochs:g} epochs on {describe_device(device)}")
    say(f"{subject.name}: {prepared(preprocessing(model, subject.dataset, subject.asked_size), subject.dataset)}")
    with making_way():
        evaluation = _train_and_test(start, subject, epochs, device, path)
    tensors = {key: value.cpu().clone().contiguous() for key, value in model.state_dict().items()}
    description = _origin(start, subject, epochs, device) | {
        "weights_digest": digest(tensors),
        "params": count_params(model),
        "test_top1": evaluation.top1,
        "test_loss": evaluation.loss,
        "seconds": round(working_seconds() - started, 1),
    }
    write_atomically(path.with_suffix(".json"), (json.dumps(description, indent=2) + "\n").encode())
    write_atomically(path, save(tensors))
    for snapshot in _snapshots(start, subject, epochs, path):
        snapshot.forget()
    say(f"{title}: top-1 {evaluation.top1:.4f} on the test images, kept as {path}")
    return path


def _snapshots(start: Start, subject: Subject, epochs: float, path: Path) -> list[Snapshot]:
    """One for each training: that of the classifier alone, if there is one, and that of the whole network."""
    dataset = subject.dataset
    size = f" {subject.size}" if subject.size else ""
    key = f"{start.digest} {dataset.digest} {dataset.recipe} {epochs:g}{size}"
    frozen = [Snapshot(path.with_suffix(".classifier.snapshot"), f"{key} classifier")] if start.frozen else []
    return [*frozen, Snapshot(path.with_suffix(".snapshot"), f"{key} frozen" if start.frozen else key)]


def _train_and_test(start: Start, subject: Subject, epochs: float, device: torch.device, path: Path) -> Evaluation:
    model, dataset = start.model, subject.dataset
    wanted, recipe = preprocessing(model, dataset, subject.asked_size), dataset.recipe
    feed = Feed(dataset.split("train"), wanted, device, recipe)
    generator = torch.Generator().manual_seed(BASELINE_SEED)
    *first, last = _snapshots(start, subject, epochs, path)
    name = f"baseline {subject.name}"
    for snapshot in first:
        fit(
            model,
            feed,
            epochs * FROZEN_SHARE,
            lr=recipe.lr,
            generator=generator,
            snapshot=snapshot,
            only=start.frozen,
            description=f"{name}, its classifier",
        )
    whole = epochs * (1 - FROZEN_SHARE) if first else epochs
    lr = recipe.lr if start.weights == SCRATCH else recipe.finetune_lr
    fit(model, feed, whole, lr=lr, generator=generator, snapshot=last, description=name)
    return evaluate(model, Feed(dataset.split("test"), wanted, device, recipe), f"testing {subject.name}")


def _origin(start: Start, subject: Subject, epochs: float, device: torch.device) -> dict[str, Any]:
    """What is needed to train the same baseline again."""
    name, dataset = subject.name, subject.dataset
    command = f"bench train --models {name} --dataset {dataset.title} --epochs {epochs:g}{start.options}"
    return {
        "model": name,
        "dataset": dataset.title,
        "dataset_digest": dataset.digest,
        "epochs": epochs,
        "seed": BASELINE_SEED,
        "recipe": asdict(dataset.recipe) | {"epochs": epochs},
        "start": start.origin,
        "image_size": list(preprocessing(start.model, dataset, subject.asked_size).size[1:]),
        "train_images": len(dataset.split("train")),
        "command": command + (f" --image-size {subject.asked_size}" if subject.asked_size else ""),
        "device": describe_device(device),
        "versions": versions(),
    }
