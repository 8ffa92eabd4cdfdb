"""The uncompressed networks: found, or trained once by the dataset's recipe and kept."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from bench.data.dataset import Dataset, Images, Pixels
from bench.data.feed import Feed
from bench.isolation.snapshot import require_intact
from bench.measuring.cost import count_params
from bench.measuring.evaluation import evaluate
from bench.networks import zoo
from bench.networks.layers import on_device
from bench.networks.state_dicts import digest, load_weights, read_state_dict, split_key
from bench.networks.zoo import Preprocessing
from bench.system.cache import cache_dir
from bench.system.environment import describe_device, versions
from bench.system.errors import BenchError
from bench.system.files import write_atomically
from bench.system.progress import say
from bench.training.checkpoint import Snapshot
from bench.training.loop import fit

BASELINE_SEED = 0


@dataclass(frozen=True)
class Task:
    """A network with its weights, a dataset, and how its images are prepared.

    `model` is on the CPU and never changed; `weights` says where its weights came from and `digest` which they are.
    """

    name: str
    model: nn.Module
    weights: str
    digest: str
    dataset: Dataset
    preprocessing: Preprocessing
    baseline: dict[str, Any] = field(default_factory=dict)
    """How its weights were made, where that was written beside them."""

    def feed(self, images: Images, device: torch.device) -> Feed:
        return Feed(images, self.preprocessing, device, self.dataset.recipe)


def load_task(name: str, dataset: Dataset, weights: str, device: torch.device) -> Task:
    """Build network `name` for `dataset`; `weights` is auto, pretrained, scratch, a file's path, or
    FILE#KEY for one of several state dicts in a file.
    """
    require_intact()
    zoo.check_name(name)
    found = find_weights(name, dataset) if weights == "auto" else None
    if weights == "pretrained" or (weights == "auto" and not found and _judged_as_is(name, dataset)):
        return _task(name, _pretrained(name, dataset), "pretrained", dataset)
    model = build(name, dataset)
    if weights == "scratch":
        return _task(name, model, "scratch", dataset)
    key = None
    if weights == "auto":
        path = found or train_baseline(name, dataset, dataset.recipe.epochs, device)
    else:
        path, key = split_key(weights)
    load_weights(model, read_state_dict(path, model.state_dict().keys(), key), str(path))
    return _task(name, model, path.stem, dataset, _described(path))


def needs_training(name: str, dataset: Dataset, weights: str) -> bool:
    """Whether `load_task` would train a baseline first."""
    return weights == "auto" and not find_weights(name, dataset) and not _judged_as_is(name, dataset)


def _task(name: str, model: nn.Module, weights: str, dataset: Dataset, baseline: dict[str, Any] | None = None) -> Task:
    return Task(
        name, model, weights, digest(model.state_dict()), dataset, preprocessing(model, dataset), baseline or {}
    )


def build(name: str, dataset: Dataset, *, pretrained: bool = False) -> nn.Module:
    """The network with the dataset's classes and channels, in the seeded random state every baseline starts from.

    With `pretrained`, published weights; what does not fit them, a classifier of other classes, is seeded all the same.
    """
    torch.manual_seed(BASELINE_SEED)
    classes, channels = len(dataset.classes), dataset.input_shape[0]
    return zoo.create_model(name, classes, channels, pretrained=pretrained, image_size=image_size(dataset)).eval()


def image_size(dataset: Dataset) -> int | None:
    """Height of small images; None for large ones, which take the network's own size."""
    return dataset.input_shape[1] if isinstance(dataset.load_any(), Pixels) else None


def preprocessing(model: nn.Module, dataset: Dataset) -> Preprocessing:
    """The dataset's own normalisation for small images, the network's for large ones."""
    if isinstance(dataset.load_any(), Pixels):
        return Preprocessing(dataset.input_shape, dataset.mean, dataset.std)
    return zoo.preprocessing(model)


def find_weights(name: str, dataset: Dataset) -> Path | None:
    """A checkpoint of this very dataset: shipped with the project, else trained here before."""
    shipped = Path(str(resources.files("bench"))) / "weights" / f"{name}-{dataset.title}.safetensors"
    for path in (shipped, cached_path(name, dataset)):
        if path.is_file() and _described(path).get("dataset_digest") == dataset.digest:
            return path
    return None


def _described(weights: Path) -> dict[str, Any]:
    """What lies beside a checkpoint; nothing where that is missing or damaged, so that it is not taken for ours."""
    try:
        described = json.loads(weights.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
    return described if isinstance(described, dict) else {}


def cached_path(name: str, dataset: Dataset) -> Path:
    slug = name.replace("/", "--").replace(":", "--")
    return cache_dir() / "baselines" / f"{slug}-{dataset.title}-{dataset.digest}.safetensors"


def train_baseline(name: str, dataset: Dataset, epochs: float, device: torch.device, out: Path | None = None) -> Path:
    """Train from random weights, measure on the test set once, and keep weights and a description beside them."""
    started = time.monotonic()
    model = on_device(build(name, dataset), device)
    prepared = preprocessing(model, dataset)
    recipe = dataset.recipe
    path = out or cached_path(name, dataset)
    key = f"{digest(model.state_dict())} {dataset.digest} {recipe} {epochs:g}"
    path.parent.mkdir(parents=True, exist_ok=True)
    snapshot = Snapshot(path.with_suffix(".snapshot"), key)
    say(f"training the baseline {name} on {dataset.title}: {epochs:g} epochs on {describe_device(device)}")
    fit(
        model,
        Feed(dataset.split("train"), prepared, device, recipe),
        epochs,
        lr=recipe.lr,
        generator=torch.Generator().manual_seed(BASELINE_SEED),
        snapshot=snapshot,
        description=f"baseline {name}",
    )
    measured = evaluate(model, Feed(dataset.split("test"), prepared, device, recipe), f"testing {name}")
    tensors = {key: value.cpu().clone().contiguous() for key, value in model.state_dict().items()}
    description = {
        "model": name,
        "dataset": dataset.title,
        "dataset_digest": dataset.digest,
        "weights_digest": digest(tensors),
        "params": count_params(model),
        "epochs": epochs,
        "seed": BASELINE_SEED,
        "recipe": asdict(recipe) | {"epochs": epochs},
        "test_top1": measured.top1,
        "test_loss": measured.loss,
        "train_images": len(dataset.split("train")),
        "command": f"bench train --models {name} --dataset {dataset.title} --epochs {epochs:g}",
        "device": describe_device(device),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    write_atomically(path.with_suffix(".json"), (json.dumps(description, indent=2) + "\n").encode())
    write_atomically(path, save(tensors))
    snapshot.forget()
    say(f"{name} on {dataset.title}: top-1 {measured.top1:.4f} on the test images, kept as {path}")
    return path


def _judged_as_is(name: str, dataset: Dataset) -> bool:
    return dataset.imagenet_classes and zoo.has_pretrained(name, len(dataset.classes))


def _pretrained(name: str, dataset: Dataset) -> nn.Module:
    if not zoo.has_pretrained(name):
        raise BenchError(f"--weights pretrained: timm has no published weights for '{name}'; use FILE or scratch")
    if not _judged_as_is(name, dataset):
        warnings.warn(
            f"--weights pretrained: {name}'s classifier was not made for {dataset.title}; a new, untrained one is used",
            stacklevel=2,
        )
    return build(name, dataset, pretrained=True)
