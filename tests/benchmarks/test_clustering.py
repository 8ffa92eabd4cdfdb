"""How fast clustering is, beside a plain version of the same in one run: `tox -e bench`.

pytest-benchmark prints each group's times as ratios to its fastest; `ratios.py` holds ours against the committed ones.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.cluster import KMeans as Reference
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from bench.clustering import kmeans as clustering
from bench.clustering.distances import transformed
from bench.clustering.kmeans import kmeans
from bench.encodings import dihedral
from bench.networks import zoo
from bench.networks.layers import convolutions
from bench.plugins import registry
from bench.training.lab import Lab

CENTROIDS = 64


@pytest.fixture(autouse=True)
def few_clusters_are_no_trouble() -> None:
    warnings.filterwarnings("ignore", message="Number of distinct clusters")


def resnet56() -> nn.Module:
    """Its random weights: clustering them takes longer than clustering trained ones."""
    torch.manual_seed(0)
    return zoo.create_model("resnet56", 10, 3).eval()


@pytest.mark.benchmark(group="kse on ResNet-56")
def test_kse(benchmark: BenchmarkFixture, make_lab: Callable[..., Lab]) -> None:
    method = registry.methods()["kse"]()
    benchmark.extra_info["ours"] = True
    benchmark.pedantic(lambda: method.compress(resnet56(), make_lab()), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="kse on ResNet-56")
def test_kse_from_greedy_seeds(
    benchmark: BenchmarkFixture, make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as good: Ward's clusters, from which ours starts, may take twice as long for a lower inertia."""
    method = registry.methods()["kse"]()
    monkeypatch.setattr(clustering, "_start", clustering.seed)
    benchmark.pedantic(lambda: method.compress(resnet56(), make_lab()), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="kse on ResNet-56")
def test_kse_channel_by_channel_with_scikit_learn(benchmark: BenchmarkFixture) -> None:
    layers = [layer.weight.detach().flatten(2).numpy() for layer in list(convolutions(resnet56()).values())[1:]]
    benchmark.pedantic(lambda: [plain_kse(weight) for weight in layers], rounds=1)


def plain_kse(weight: np.ndarray, G: int = 4, K: int = 5) -> list[np.ndarray]:
    """A layer's channels in turn, kernel by kernel its neighbours, then its centroids, as the released program does."""
    filters, channels, _ = weight.shape
    sparsity, entropy = np.abs(weight).sum((0, 2)), np.zeros(channels)
    for channel in range(channels):
        points = weight[:, channel]
        search = NearestNeighbors(n_neighbors=K + 1).fit(points)
        near = np.array([search.kneighbors(point[None])[0][0, 1:].sum() for point in points])
        share = near / near.sum()
        entropy[channel] = -(share * np.log2(share)).sum()
    scaled = [(values - values.min()) / np.ptp(values) for values in (sparsity, entropy)]
    levels = np.sqrt(scaled[0] / (1 + scaled[1])) * G
    sizes = np.where(np.ceil(levels) == G, filters, np.ceil(filters / 2.0 ** (G - np.ceil(levels))))
    return [
        Reference(int(size), n_init=1, random_state=0).fit(weight[:, channel]).cluster_centers_
        for channel, size in enumerate(np.where(np.floor(levels) == 0, 0, sizes))
        if 0 < size < filters
    ]


def unit_kernels() -> Tensor:
    """ResNet-56's 94,256 kernels, as `tic` sees them."""
    spatial = [layer for layer in convolutions(resnet56()).values() if layer.kernel_size == (3, 3)]
    kernels = torch.cat([layer.weight.detach().flatten(2).flatten(0, 1) for layer in spatial])
    assert len(kernels) == 94_256
    return kernels / kernels.norm(dim=1, keepdim=True) * torch.where(kernels[:, 4:5] < 0, -1, 1)


@pytest.mark.benchmark(group="tic on ResNet-56: 94,256 kernels, 64 centroids, 8 transforms")
def test_kernels_with_bounds(benchmark: BenchmarkFixture) -> None:
    points, group = unit_kernels(), dihedral(3, 3, 8)
    benchmark.extra_info["ours"] = True
    benchmark.pedantic(
        lambda: kmeans(points, CENTROIDS, torch.Generator().manual_seed(0), permutations=group), rounds=1
    )


@pytest.mark.benchmark(group="tic on ResNet-56: 94,256 kernels, 64 centroids, 8 transforms")
def test_kernels_with_a_full_distance_matrix(benchmark: BenchmarkFixture) -> None:
    points, group = unit_kernels(), dihedral(3, 3, 8)
    benchmark.pedantic(lambda: full_matrix(points, group), rounds=1)


def full_matrix(points: Tensor, group: Tensor) -> Tensor:
    """The same algorithm as one would write it first: every distance, every time, until no label changes."""
    centroids = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:CENTROIDS]]
    inverse, old = group.argsort(1), None
    while True:
        best = torch.cdist(points, transformed(centroids[None], group)[0]).argmin(1)
        if old is not None and torch.equal(best, old):
            return centroids
        back = points.gather(1, inverse[best % len(group)])
        onto = torch.nn.functional.one_hot(best // len(group), CENTROIDS).float()
        centroids, old = onto.T @ back / onto.sum(0).clamp(min=1)[:, None], best


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Iterator[int]:
    benchmark.group = f"k-means of 94,256 points in 9 dimensions, k = 64: {request.param} of threads"
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    with threadpool_limits(request.param):
        yield request.param
    torch.set_num_threads(before)


@pytest.mark.benchmark(timer=time.perf_counter)
class TestOneLargeProblem:
    """Both start once. Ours goes on until no label changes; scikit-learn's stops when centroids hardly move."""

    def test_ours(self, benchmark: BenchmarkFixture, threads: int) -> None:
        points = unit_kernels()
        benchmark.extra_info["ours"] = True
        benchmark.pedantic(lambda: kmeans(points, CENTROIDS, torch.Generator().manual_seed(0)), rounds=3)

    def test_scikit_learn(self, benchmark: BenchmarkFixture, threads: int) -> None:
        """The inertia is compared as a mean over starts: one start differs from another by more than 0.1%."""
        points = unit_kernels()
        cloud = points.numpy()
        benchmark.pedantic(lambda: Reference(CENTROIDS, n_init=1, random_state=0).fit(cloud), rounds=3)
        ours = [kmeans(points, CENTROIDS, torch.Generator().manual_seed(seed)).inertia.item() for seed in range(6)]
        theirs = [Reference(CENTROIDS, n_init=1, random_state=seed).fit(cloud).inertia_ for seed in range(6)]
        assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=1e-3)
