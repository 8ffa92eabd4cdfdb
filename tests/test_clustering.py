"""k-means against scikit-learn, and the transform-invariant kind against brute force."""

from __future__ import annotations

import itertools

import pytest
import torch
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from bench.clustering.kmeans import _run_batched, kmeans, seed
from bench.encodings import dihedral


def generator(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def random_points(batch: int, count: int, width: int) -> Tensor:
    return torch.randn(batch, count, width, generator=generator(7))


@pytest.mark.parametrize(
    ("batch", "count", "width", "k"), [(1, 6000, 9, 32), (6, 64, 9, 16), (6, 256, 1, 32), (4, 300, 27, 8)]
)
def test_inertia_is_no_worse_than_scikit_learns(batch: int, count: int, width: int, k: int) -> None:
    points = random_points(batch, count, width)
    seeds = range(10 if batch > 1 else 3)
    ours = sum(kmeans(points, k, generator(s)).inertia.sum().item() for s in seeds)
    theirs = sum(
        Reference(k, n_init=1, random_state=s, tol=0, max_iter=4500).fit(p.numpy()).inertia_
        for p in points
        for s in seeds
    )
    assert ours <= 1.01 * theirs


def test_result_is_a_fixed_point_and_inertia_is_what_it_says() -> None:
    points = random_points(3, 200, 9)
    found = kmeans(points, 10, generator())
    for cloud, centroids, labels, inertia in zip(points, found.centroids, found.labels, found.inertia, strict=True):
        apart = (cloud[:, None] - centroids[None]).square().sum(2)
        assert torch.equal(apart.argmin(1), labels)
        assert inertia.item() == pytest.approx(apart.amin(1).sum().item(), rel=1e-5)
        for k in range(10):
            assert torch.allclose(centroids[k], cloud[labels == k].mean(0), atol=1e-5)


@pytest.mark.parametrize("transforms", [1, 2, 4, 8])
def test_assignment_under_flips_and_turns_is_the_brute_force_one(transforms: int) -> None:
    points = random_points(1, 300, 9)
    group = dihedral(3, 3, transforms)
    found = kmeans(points, 5, generator(), permutations=group)
    for index in range(300):
        costs = {
            (k, t): (points[0, index] - found.centroids[0, k][group[t]]).square().sum().item()
            for k, t in itertools.product(range(5), range(transforms))
        }
        assert costs[found.labels[0, index].item(), found.transforms[0, index].item()] <= min(costs.values()) + 1e-5


def test_turned_copies_of_a_few_kernels_are_found_exactly() -> None:
    kernels = torch.randn(3, 9, generator=generator(1))
    group = dihedral(3, 3, 8)
    copies = kernels[:, group].flatten(0, 1).repeat(5, 1)
    assert kmeans(copies, 3, generator(), permutations=group).inertia.item() < 1e-8
    assert kmeans(copies, 3, generator()).inertia.item() > 1


@pytest.mark.parametrize("transforms", [1, 8])
def test_bounds_change_the_work_not_the_result(transforms: int) -> None:
    points = random_points(1, 5000, 9)
    group = dihedral(3, 3, transforms)
    bounded = kmeans(points, 24, generator(), permutations=group)
    plain, best, iterations = _run_batched(points, seed(points, 24, group, generator()), group, 4500, lambda _: None)
    assert bounded.iterations == iterations
    assert torch.allclose(bounded.centroids, plain, atol=1e-5)


def test_the_transforms_of_a_square_are_its_eight_symmetries() -> None:
    grid = torch.arange(9).view(3, 3)
    turns = [torch.rot90(grid, quarter) for quarter in range(4)]
    symmetries = {tuple(t.flatten().tolist()) for turn in turns for t in (turn, turn.flip(1))}
    assert {tuple(row) for row in dihedral(3, 3, 8).tolist()} == symmetries
    assert dihedral(3, 3, 8)[0].tolist() == list(range(9))
    for transforms in (2, 4):
        rows = {tuple(row) for row in dihedral(3, 3, transforms).tolist()}
        assert {tuple(torch.tensor(a)[torch.tensor(b)].tolist()) for a in rows for b in rows} == rows
    for row_or_column in (dihedral(1, 3, 2), dihedral(1, 3, 8), dihedral(3, 1, 4)):
        assert row_or_column.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert dihedral(3, 1, 2).tolist() == [[0, 1, 2]]
    for shape in [(3, 3), (2, 3), (1, 3), (3, 1)]:  # each set is the beginning of the largest, as encodings read it
        whole = dihedral(*shape, 8)
        for transforms in (1, 2, 4):
            some = dihedral(*shape, transforms)
            assert torch.equal(some, whole[: len(some)])
    assert len(dihedral(2, 3, 8)) == 4


@pytest.mark.parametrize("count", [8, 5000])
def test_more_clusters_than_different_points_is_no_accident(count: int) -> None:
    points = torch.zeros(1, count, 2)
    points[0, 0] = 1
    found = kmeans(points, 4, generator())
    assert found.inertia.item() == 0 and not found.centroids.isnan().any()


def test_empty_clusters_are_seeded_again() -> None:
    points = torch.cat([torch.randn(50, 2, generator=generator()) + shift for shift in (0, 20, 40)])[None]
    far = torch.full((1, 3, 2), 1e3)
    far[0, 0] = points[0, 0]
    centroids, best, _ = _run_batched(points, far, torch.arange(2)[None], 4500, lambda _: None)
    assert sorted(best[0].bincount().tolist()) == [50, 50, 50]


def test_a_seed_gives_the_same_result_and_another_does_not() -> None:
    points = random_points(1, 5000, 9)
    once, again, other = (kmeans(points, 16, generator(s)) for s in (0, 0, 1))
    assert torch.equal(once.centroids, again.centroids) and torch.equal(once.labels, again.labels)
    assert not torch.equal(once.centroids, other.centroids)


def test_k_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the 4 points"):
        kmeans(torch.zeros(4, 2), 5, generator())
    assert kmeans(random_points(1, 4, 2), 4, generator()).inertia.item() == pytest.approx(0, abs=1e-10)
