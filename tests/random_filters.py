"""Filters at random, and the inertia of clusters of them by its definition and by scikit-learn."""

from __future__ import annotations

import torch
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from bench.clustering.kmeans import MOST_ITERATIONS


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def filters(count: int, width: int, seed: int = 7) -> Tensor:
    """Directions at random, lengths too, as in trained layers."""
    return torch.randn(count, width, generator=generator(seed)) * torch.rand(count, 1, generator=generator(seed + 1))


def inertia_of(points: Tensor, labels: Tensor) -> float:
    members = [points[labels == label].double() for label in labels.unique()]
    return sum((cloud - cloud.mean(0)).square().sum().item() for cloud in members)


def scikit_learns(points: Tensor, k: int, seed: int) -> float:
    found = Reference(k, n_init=1, random_state=seed, tol=0, max_iter=MOST_ITERATIONS).fit(points.numpy())
    return float(found.inertia_)
