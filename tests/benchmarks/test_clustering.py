"""How fast clustering is, beside a plain version of the same in one run: `tox -e bench`.

pytest-benchmark prints each group's times as ratios to its fastest; `ratios.py` holds ours against the committed ones.
"""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from bench.clustering import kmeans, transformed
from bench.codebooks import dihedral

CHANNELS, FILTERS, KEPT = 64, 64, 16
KERNELS, CENTROIDS = 30_000, 64


def channel_kernels() -> Tensor:
    """One 3x3 layer of ResNet-20's last stage, as `kse` sees it."""
    return torch.randn(CHANNELS, FILTERS, 9, generator=torch.Generator().manual_seed(0))


def unit_kernels() -> Tensor:
    """As many kernels as ResNet-20 has, as `tic` sees them."""
    kernels = torch.randn(KERNELS, 9, generator=torch.Generator().manual_seed(0))
    return kernels / kernels.norm(dim=1, keepdim=True)


@pytest.mark.benchmark(group="kse: a layer's channels")
def test_channels_all_at_once(benchmark: BenchmarkFixture) -> None:
    points = channel_kernels()
    benchmark.extra_info["ours"] = True
    benchmark.pedantic(lambda: kmeans(points, KEPT, torch.Generator().manual_seed(0)), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="kse: a layer's channels")
def test_channels_one_by_one_with_scikit_learn(benchmark: BenchmarkFixture) -> None:
    points = channel_kernels().numpy()

    def cluster() -> None:
        for cloud in points:
            Reference(KEPT, n_init=1, random_state=0, tol=0, max_iter=4500).fit(cloud)

    benchmark.pedantic(cluster, rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="tic: 30,000 kernels, 64 centroids, 8 transforms")
def test_kernels_with_bounds(benchmark: BenchmarkFixture) -> None:
    points, group = unit_kernels(), dihedral(3, 3, 8)
    benchmark.extra_info["ours"] = True
    benchmark.pedantic(
        lambda: kmeans(points, CENTROIDS, torch.Generator().manual_seed(0), permutations=group), rounds=1
    )


@pytest.mark.benchmark(group="tic: 30,000 kernels, 64 centroids, 8 transforms")
def test_kernels_with_a_full_distance_matrix(benchmark: BenchmarkFixture) -> None:
    points, group = unit_kernels(), dihedral(3, 3, 8)
    benchmark.pedantic(lambda: full_matrix(points, group), rounds=1)


def full_matrix(points: Tensor, group: Tensor) -> Tensor:
    """The same algorithm as one would write it first: every distance, every time."""
    centroids = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:CENTROIDS]]
    inverse, old = group.argsort(1), None
    while True:
        best = torch.cdist(points, transformed(centroids[None], group)[0]).argmin(1)
        if old is not None and torch.equal(best, old):
            return centroids
        back = points.gather(1, inverse[best % len(group)])
        onto = torch.nn.functional.one_hot(best // len(group), CENTROIDS).float()
        centroids, old = onto.T @ back / onto.sum(0).clamp(min=1)[:, None], best
