"""Ward's clusters, on a line and elsewhere, against scipy and the definition; what k-means makes of them."""

from __future__ import annotations

import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from bench.clustering.kmeans import kmeans
from bench.clustering.ward import ward


def random_points(batch: int, count: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, count, width, generator=torch.Generator().manual_seed(seed))


def same_partition(ours: Tensor, theirs: Tensor) -> bool:
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    return len(pairs) == len(set(ours.tolist())) == len(set(theirs.tolist()))


@pytest.mark.parametrize("width", [1, 9])
@pytest.mark.parametrize("count", [2, 7, 100])
def test_clusters_are_scipys(width: int, count: int) -> None:
    points = random_points(8, count, width)
    for k in {1, 2, count // 2, count - 1, count} - {0}:
        labels = ward(points, k)
        for some, own in zip(points, labels, strict=True):
            tree = linkage(some.double().numpy(), "ward")
            assert same_partition(own, torch.from_numpy(fcluster(tree, k, "maxclust")))
            assert own.unique().tolist() == list(range(k))


def greedy_inertia(values: list[float], k: int) -> float:
    """By the definition: merge the two clusters whose union adds least, whichever they are."""
    clusters = [[value] for value in values]

    def inertia(members: list[float]) -> float:
        mean = sum(members) / len(members)
        return sum((member - mean) ** 2 for member in members)

    while len(clusters) > k:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
        a, b = min(pairs, key=lambda p: inertia(clusters[p[0]] + clusters[p[1]]) - sum(inertia(clusters[i]) for i in p))
        clusters[a] += clusters[b]
        del clusters[b]
    return sum(inertia(members) for members in clusters)


def test_on_a_line_it_is_the_definition() -> None:
    points = random_points(4, 14, 1, seed=3)
    for k in (2, 5, 9):
        for some, labels in zip(points[:, :, 0].double(), ward(points, k), strict=True):
            found = sum(some[labels == c].var(correction=0) * (labels == c).sum() for c in range(k))
            assert float(found) == pytest.approx(greedy_inertia(some.tolist(), k))


@pytest.mark.parametrize("values", [torch.zeros(5000), torch.arange(4096.0), torch.arange(4096.0) % 5])
def test_equal_numbers_and_equal_gaps_do_not_take_a_round_each(values: Tensor) -> None:
    labels = ward(values[None, :, None], 5)[0]
    assert labels.unique().tolist() == list(range(5))
    if len(values.unique()) == 5:
        assert same_partition(labels, values)


def test_a_single_point_is_a_cluster() -> None:
    for width in (1, 9):
        assert ward(random_points(3, 1, width), 1).tolist() == [[0]] * 3


@pytest.mark.parametrize(("count", "width"), [(64, 9), (64, 1), (200, 1), (32, 25)])
def test_k_means_from_there_is_better_than_the_best_of_ten_starts(count: int, width: int) -> None:
    points = random_points(6, count, width)
    for k in (count // 8, count // 2):
        ours = kmeans(points, k, torch.Generator()).inertia.sum().item()
        theirs = sum(Reference(k, n_init=10, random_state=0).fit(some.numpy()).inertia_ for some in points)
        assert ours < 1.01 * theirs
        if k == count // 2:
            assert ours < theirs
