"""The k-means under `fixed`, `wcss` and `inertia` against scikit-learn, scipy and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage

from bench.clustering.few_points import FewPoints
from bench.clustering.ward import cut

from .random_filters import filters, generator, inertia_of, scikit_learns


def partitions(count: int, k: int) -> list[tuple[int, ...]]:
    return [labels for labels in itertools.product(range(k), repeat=count) if len(set(labels)) == k]


@pytest.mark.parametrize(
    ("count", "width", "ks"), [(64, 576, (8, 33, 48, 60)), (96, 9, (5, 40, 90)), (150, 2, (4, 20, 120))]
)
def test_inertia_is_no_worse_than_scikit_learns(count: int, width: int, ks: tuple[int, ...]) -> None:
    points, seeds = filters(count, width), range(5)
    for k in ks:
        ours = sum(FewPoints(points, generator(seed)).kmeans(k).inertia for seed in seeds)
        assert ours <= 1.01 * sum(scikit_learns(points, k, seed) for seed in seeds), k


@pytest.mark.parametrize("k", [1, 3, 20, 39, 40])
def test_result_is_a_fixed_point_and_inertia_is_what_it_says(k: int) -> None:
    points = filters(40, 18)
    found = FewPoints(points, generator()).kmeans(k)
    means = found.means(points)
    assert found.k == k == len(means) and sorted(found.labels.unique().tolist()) == list(range(k))
    apart = torch.cdist(points.double(), means.double()).square()
    own = apart.gather(1, found.labels[:, None])[:, 0]
    assert torch.all(own <= apart.amin(1) + 1e-6)
    assert found.inertia == pytest.approx(inertia_of(points, found.labels), rel=1e-9, abs=1e-12)
    assert found.inertia == pytest.approx(own.sum().item(), rel=1e-5, abs=1e-9)
    alone = torch.bincount(found.labels)[found.labels] == 1
    assert torch.equal(means[found.labels[alone]], points[alone])


def test_few_enough_points_are_clustered_as_well_as_can_be() -> None:
    points = filters(6, 3)
    for k in (3, 4, 5):
        best = min(inertia_of(points, torch.tensor(labels)) for labels in partitions(6, k))
        assert FewPoints(points, generator()).kmeans(k).inertia == pytest.approx(best)


def test_wards_clusters_are_scipys_and_their_inertia_is_the_trees() -> None:
    points = filters(50, 12)
    ours, tree = FewPoints(points, generator()), linkage(points.double().numpy(), "ward")
    for k in (1, 7, 30, 49):
        theirs = torch.from_numpy(fcluster(tree, k, "maxclust").astype(np.int64))
        labels = cut(ours._tree, k)
        pairs = set(zip(labels.tolist(), theirs.tolist(), strict=True))
        assert len(pairs) == k == len(set(labels.tolist()))
        assert ours.ward_inertia[k].item() == pytest.approx(inertia_of(points, labels))
        assert ours.kmeans(k).inertia <= ours.ward_inertia[k].item()
    assert ours.ward_inertia[50] == 0


def test_the_curve_never_rises_and_each_point_is_a_clustering() -> None:
    points = filters(60, 4)
    ours = FewPoints(points, generator())
    ks = range(2, 61)
    heights = ours.curve(ks)
    assert all(before >= after for before, after in itertools.pairwise(heights)) and heights[-1] == 0
    for k, height in zip(ks, heights, strict=True):
        assert inertia_of(points, ours.kmeans(k).labels) == pytest.approx(height, abs=1e-9)


def test_a_curve_that_would_rise_is_mended() -> None:
    points = FewPoints(filters(30, 4), generator())
    good = points.kmeans(10)
    bad = points._lloyd(torch.arange(30) % 11, 11)
    points._found[11] = type(bad)(bad.labels, good.inertia + 1)
    assert points.curve([10, 11])[1] < good.inertia


def test_same_points_are_merged_for_nothing_and_empty_clusters_filled() -> None:
    points = filters(12, 9)[torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 0, 0])]
    ours = FewPoints(points, generator())
    assert ours.kmeans(4).inertia == 0 and ours.kmeans(3).inertia > 0
    assert len(ours.kmeans(7).labels.unique()) == 7
    assert FewPoints(torch.zeros(5, 3), generator()).kmeans(3).inertia == 0
    refilled = ours._lloyd(torch.zeros(12, dtype=torch.long), 4)
    assert len(refilled.labels.unique()) == 4


def test_a_seed_gives_the_same_labels_and_k_out_of_range_is_refused() -> None:
    points = filters(100, 3)
    once, again = (FewPoints(points, generator(3)).kmeans(12) for _ in range(2))
    assert torch.equal(once.labels, again.labels) and once.inertia == again.inertia
    assert not torch.equal(FewPoints(points, generator(4))._seeds, FewPoints(points, generator(3))._seeds)
    with pytest.raises(ValueError, match="between 1 and the 100 points"):
        FewPoints(points, generator()).kmeans(101)
    assert FewPoints(points[:1], generator()).kmeans(1).labels.tolist() == [0]
