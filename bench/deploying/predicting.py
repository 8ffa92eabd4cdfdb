"""Classifying images with a network that was loaded from an artifact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.deploying.images import read_files
from bench.networks.zoo import Preprocessing, synset_meanings
from bench.system.errors import BenchError

AT_ONCE = 16
"""Images in memory at the same time."""


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image: names with their probabilities, the likeliest first."""

    path: Path
    classes: tuple[tuple[str, float], ...]


def predict(network: nn.Module, paths: Sequence[Path], most: int = 5) -> Iterator[Prediction]:
    """Classify images with a network from `bench.load`. Gives the `most` likeliest classes, or all if there are fewer.

    BenchError for a network whose file does not say how images are prepared, and for an image that cannot be read.
    """
    wanted, names = preprocessing_of(network), class_names_of(network)
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        with torch.inference_mode():
            shares = network(read_files(part, wanted)).softmax(1)
        best = shares.topk(min(most, shares.shape[1]))
        for path, values, places in zip(part, best.values.tolist(), best.indices.tolist(), strict=True):
            named = tuple((_name(names, place), value) for place, value in zip(places, values, strict=True))
            yield Prediction(path, named)


def preprocessing_of(network: Any) -> Preprocessing:
    """How the network's images are prepared; BenchError where its file did not say."""
    known = getattr(network, "preprocessing", None)
    if not isinstance(known, Preprocessing):
        raise BenchError(
            "the artifact does not say how images are prepared: it is from an earlier version; run its trial again, or "
            "load it, set `preprocessing` and `class_names`, and `bench.save` it"
        )
    return known


def class_names_of(network: Any) -> tuple[str, ...]:
    """The names of the classes, with the meaning of each synset of ImageNet; empty where the file did not say."""
    names = tuple(getattr(network, "class_names", None) or ())
    meanings = synset_meanings(names)
    return tuple(f"{name} {meanings[name]}" if name in meanings else name for name in names)


def _name(names: tuple[str, ...], place: int) -> str:
    return names[place] if names else f"class {place}"
