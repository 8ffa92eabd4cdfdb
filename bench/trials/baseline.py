"""The uncompressed networks: their weights are loaded, or trained once with the dataset's recipe and kept."""

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
from bench.measuring.evaluation import Evaluation, evaluate
from bench.networks import zoo
from bench.networks.layers import on_device
from bench.networks.state_dicts import digest, load_weights, read_state_dict, split_key
from bench.networks.zoo import Preprocessing
from bench.system.cache import cache_dir
from bench.system.environment import describe_device, versions
from bench.system.errors import BadArgument
from bench.system.files import write_atomically
from bench.system.progress import say
from bench.training.checkpoint import Snapshot
from bench.training.loop import fit

BASELINE_SEED = 0


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
    """How the weights were trained, from the file beside them; empty where there is none."""

    def feed(self, images: Images, device: torch.device) -> Feed:
        return Feed(images, self.preprocessing, device, self.dataset.recipe)


def load_task(name: str, dataset: Dataset, weights: str, device: torch.device) -> Task:
    """Build network `name` for `dataset` and load its weights.

    `weights` is `pretrained` (published by timm), `scratch` (random, seeded), the path of a file, `FILE#KEY` for one of
    several state dicts in a file, or `auto`: a baseline of this dataset where there is one, published weights for a
    dataset of ImageNet's classes, else a baseline that is trained now.

    Raises BadArgument for weights that do not exist, and BenchError for weights that do not fit the network.
    """
    require_intact()
    zoo.check_name(name)
    known = find_weights(name, dataset) if weights == "auto" else None
    if weights == "pretrained" or (weights == "auto" and not known and _judged_as_is(name, dataset)):
        return _task(name, _pretrained(name, dataset), "pretrained", dataset)
    model = build(name, dataset)
    if weights == "scratch":
        return _task(name, model, "scratch", dataset)
    key = None
    if weights == "auto":
        path = known or train_baseline(name, dataset, dataset.recipe.epochs, device)
    else:
        path, key = split_key(weights)
    load_weights(model, read_state_dict(path, model.state_dict().keys(), key), str(path))
    return _task(name, model, path.stem, dataset, _described(path))


def needs_training(name: str, dataset: Dataset, weights: str) -> bool:
    """Whether `load_task` would have to train a baseline."""
    return weights == "auto" and not find_weights(name, dataset) and not _judged_as_is(name, dataset)


def _task(name: str, model: nn.Module, weights: str, dataset: Dataset, baseline: dict[str, Any] | None = None) -> Task:
    return Task(
        name, model, weights, digest(model.state_dict()), dataset, preprocessing(model, dataset), baseline or {}
    )


def build(name: str, dataset: Dataset, *, pretrained: bool = False) -> nn.Module:
    """The network with the classes and channels of `dataset`, in the seeded random state that baselines start from.

    With `pretrained` it has published weights. Layers that they do not fit, such as a classifier of other classes, stay
    random.
    """
    torch.manual_seed(BASELINE_SEED)
    classes, channels = len(dataset.classes), dataset.input_shape[0]
    return zoo.create_model(name, classes, channels, pretrained=pretrained, image_size=image_size(dataset)).eval()


def image_size(dataset: Dataset) -> int | None:
    """Height of small images in pixels; None for large ones, which are scaled to the network's input size."""
    return dataset.input_shape[1] if isinstance(dataset.load_any(), Pixels) else None


def preprocessing(model: nn.Module, dataset: Dataset) -> Preprocessing:
    """How images are prepared: small ones by the dataset's mean and deviation, large ones as the network expects."""
    if isinstance(dataset.load_any(), Pixels):
        return Preprocessing(dataset.input_shape, dataset.mean, dataset.std)
    return zoo.preprocessing(model)


def find_weights(name: str, dataset: Dataset) -> Path | None:
    """A baseline that was trained on exactly these images, shipped or in the cache; None where there is none."""
    shipped = Path(str(resources.files("bench"))) / "weights" / f"{name}-{dataset.title}.safetensors"
    for path in (shipped, cached_path(name, dataset)):
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


def cached_path(name: str, dataset: Dataset) -> Path:
    slug = name.replace("/", "--").replace(":", "--")
    return cache_dir() / "baselines" / f"{slug}-{dataset.title}-{dataset.digest}.safetensors"


def train_baseline(name: str, dataset: Dataset, epochs: float, device: torch.device, out: Path | None = None) -> Path:
    """Train a network from random weights, test it once, and write weights and a description; returns the file.

    The file is `out`, or one in the cache. After a kill, the same call continues from the last complete pass.
    """
    started = time.monotonic()
    model = on_device(build(name, dataset), device)
    path = out or cached_path(name, dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = f"{digest(model.state_dict())} {dataset.digest} {dataset.recipe} {epochs:g}"
    snapshot = Snapshot(path.with_suffix(".snapshot"), key)
    say(f"training the baseline {name} on {dataset.title}: {epochs:g} epochs on {describe_device(device)}")
    evaluation = _train_and_test(model, name, dataset, epochs, device, snapshot)
    tensors = {key: value.cpu().clone().contiguous() for key, value in model.state_dict().items()}
    description = _origin(name, dataset, epochs, device) | {
        "weights_digest": digest(tensors),
        "params": count_params(model),
        "test_top1": evaluation.top1,
        "test_loss": evaluation.loss,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_atomically(path.with_suffix(".json"), (json.dumps(description, indent=2) + "\n").encode())
    write_atomically(path, save(tensors))
    snapshot.forget()
    say(f"{name} on {dataset.title}: top-1 {evaluation.top1:.4f} on the test images, kept as {path}")
    return path


def _train_and_test(
    model: nn.Module, name: str, dataset: Dataset, epochs: float, device: torch.device, snapshot: Snapshot
) -> Evaluation:
    prepared, recipe = preprocessing(model, dataset), dataset.recipe
    fit(
        model,
        Feed(dataset.split("train"), prepared, device, recipe),
        epochs,
        lr=recipe.lr,
        generator=torch.Generator().manual_seed(BASELINE_SEED),
        snapshot=snapshot,
        description=f"baseline {name}",
    )
    return evaluate(model, Feed(dataset.split("test"), prepared, device, recipe), f"testing {name}")


def _origin(name: str, dataset: Dataset, epochs: float, device: torch.device) -> dict[str, Any]:
    """What is needed to train the same baseline again."""
    return {
        "model": name,
        "dataset": dataset.title,
        "dataset_digest": dataset.digest,
        "epochs": epochs,
        "seed": BASELINE_SEED,
        "recipe": asdict(dataset.recipe) | {"epochs": epochs},
        "train_images": len(dataset.split("train")),
        "command": f"bench train --models {name} --dataset {dataset.title} --epochs {epochs:g}",
        "device": describe_device(device),
        "versions": versions(),
    }


def _judged_as_is(name: str, dataset: Dataset) -> bool:
    return dataset.imagenet_classes and zoo.has_pretrained(name, len(dataset.classes))


def _pretrained(name: str, dataset: Dataset) -> nn.Module:
    if not zoo.has_pretrained(name):
        problem = f"timm has no published weights for '{name}'; expected a file, scratch or auto"
        raise BadArgument("weights", "pretrained", problem)
    if not _judged_as_is(name, dataset):
        warnings.warn(
            f"the published weights of {name} have a classifier for other classes than those of {dataset.title}; "
            "a new, untrained classifier is used",
            stacklevel=2,
        )
    return build(name, dataset, pretrained=True)
