"""k-means for many small problems at once or one large one, seeded, on any device.

Lloyd's algorithm runs until no label changes. It starts from Ward's clusters where these are cheap: on a line, and for
up to `LARGE` points (`bench.clustering.ward`); for networks' kernels this is 4 to 6% below the best of ten starts of
scikit-learn, and no start is left to chance. Otherwise it starts from greedy k-means++ (Arthur and Vassilvitskii, SODA
2007, https://dl.acm.org/doi/10.5555/1283383.1283494; scikit-learn's variant). Empty clusters get the points farthest
from their centroids. In a large problem, points whose nearest centroid cannot have changed are
skipped (Hamerly, SDM 2010, https://doi.org/10.1137/1.9781611972801.12), which gives the same result with fewer
distances. Distances of all points to all centroids are never held at once.

With a group of coordinate permutations, such as the flips and rotations of a kernel, the distance of a point to a
centroid is the smallest over the group. The inverse permutation is applied to the point before it enters the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from bench.clustering.distances import (
    NUMBERS_AT_ONCE,
    Prepared,
    at_once,
    distances,
    distances_to,
    nearest,
    places,
    transformed,
)
from bench.clustering.ward import ward
from bench.system.progress import Advance, bar

MOST_ITERATIONS = 4500
LARGE = 4096
"""Number of points from which bounds are worth their cost, and Ward's tree of all merges no longer is."""
SEEDING_SAMPLE = 1 << 16


_roughly = ContextVar("roughly", default=False)


@contextmanager
def roughly() -> Iterator[None]:
    """Within this block clusterings start from random points and make one iteration.

    This is for callers who need the numbers of clusters and labels, but not the clusters: for the size of a file, say.
    """
    token = _roughly.set(True)
    try:
        yield
    finally:
        _roughly.reset(token)


@dataclass(frozen=True)
class KMeans:
    """B clusterings of N points each.

    `centroids` [B, k, d]; `labels` int64 [B, N]; `transforms` int64 [B, N], which permutation takes the centroid to the
    point; `inertia` [B], the sum of squared distances; `iterations`, the number made.
    """

    centroids: Tensor
    labels: Tensor
    transforms: Tensor
    inertia: Tensor
    iterations: int


@torch.no_grad()
def kmeans(
    points: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    permutations: Tensor | None = None,
    most_iterations: int = MOST_ITERATIONS,
    description: str | None = None,
) -> KMeans:
    """Cluster each of B sets of N points, `points` [B, N, d] (or [N, d] for one set), into `k` clusters.

    `permutations`, int64 [T, d], must form a group with the identity first. `generator` is a CPU generator; the same
    state gives the same result. A progress bar is shown if there is a `description`. Raises ValueError unless
    1 <= `k` <= N.
    """
    points = points.float() if points.dim() == 3 else points.float().unsqueeze(0)
    if not 1 <= k <= points.shape[1]:
        raise ValueError(f"k must be between 1 and the {points.shape[1]} points, not {k}")
    group = torch.arange(points.shape[2])[None] if permutations is None else permutations
    group = group.to(points.device)
    step = at_once(NUMBERS_AT_ONCE, points.shape[1] * _trials(k), points)
    with bar(description or "clustering", None, hidden=description is None) as advance:
        parts = [_cluster(some, k, group, generator, most_iterations, advance) for some in points.split(step)]
    centroids, best, own, iterations = zip(*parts, strict=True)
    labels, transforms = torch.cat(best) // len(group), torch.cat(best) % len(group)
    return KMeans(torch.cat(centroids), labels, transforms, torch.cat(own).sum(1), max(iterations))


def _cluster(
    points: Tensor, k: int, group: Tensor, generator: torch.Generator, most: int, advance: Advance
) -> tuple[Tensor, Tensor, Tensor, int]:
    """The centroids; the index in `transformed` and the squared distance of each point; and the iterations."""
    if _roughly.get():
        centroids, most = points[:, torch.randperm(points.shape[1], generator=generator)[:k].to(points.device)], 1
    else:
        centroids = _start(points, k, group, generator)
    large = points.shape[0] == 1 and points.shape[1] > LARGE
    run = _run_bounded if large else _run_batched
    centroids, best, iterations = run(points, centroids, group, most, advance)
    return centroids, best, distances(points, centroids, group, best), iterations


def _start(points: Tensor, k: int, group: Tensor, generator: torch.Generator) -> Tensor:
    if len(group) > 1 or (points.shape[1] > LARGE and points.shape[2] > 1):
        return seed(points, k, group, generator)
    centroids = points.new_zeros(len(points), k, points.shape[2])
    labels = ward(points, k)
    return _update(points, labels, centroids, group, _totals(points, labels, k, group))


def seed(points: Tensor, k: int, group: Tensor, generator: torch.Generator) -> Tensor:
    """Initial centroids [B, k, d] by greedy k-means++: each is the best of a few points drawn by squared distance.

    With very many points, a sample is clustered first, so that few iterations on all points are needed.
    """
    count = points.shape[1]
    sample = max(SEEDING_SAMPLE, 16 * k)
    if points.shape[0] == 1 and count > sample:
        chosen = torch.randperm(count, generator=generator)[:sample].to(points.device)
        few = points[:, chosen]
        return _run_bounded(few, seed(few, k, group, generator), group, MOST_ITERATIONS, lambda _: None)[0]
    batch, device = points.shape[0], points.device
    rows = torch.arange(batch, device=device)
    first = (torch.rand(batch, generator=generator) * count).long().to(device)
    centroids = points.new_empty(batch, k, points.shape[2])
    centroids[:, 0] = points[rows, first]
    closest = distances_to(points, centroids[:, :1], group)[:, 0]
    luck = torch.rand(k, batch, _trials(k), generator=generator, dtype=torch.float64).to(device)
    for index in range(1, k):
        mass = closest.cumsum(1, dtype=torch.float64)
        candidates = torch.searchsorted(mass, luck[index] * mass[:, -1:], right=True).clamp(max=count - 1)
        chosen_points = points[rows[:, None], candidates]
        closer = torch.minimum(distances_to(points, chosen_points, group), closest[:, None])
        winner = closer.sum(2).argmin(1)
        centroids[:, index] = chosen_points[rows, winner]
        closest = closer[rows, winner]
    return centroids


def _trials(k: int) -> int:
    """Number of candidates for each next centroid, as in scikit-learn."""
    return 2 + int(log(k))


def _owners(best: Tensor, group: Tensor) -> Tensor:
    """The centroids of entries of `transformed`."""
    return best // len(group) if len(group) > 1 else best


@dataclass
class _Totals:
    """Sums and counts of the members of each cluster, after their inverse permutations.

    `sums` [B, k, d] is float64, so that the order of adding does not matter; `counts` is [B, k].
    """

    sums: Tensor
    counts: Tensor

    def add(self, points: Tensor, best: Tensor, group: Tensor, sign: int = 1) -> None:
        batch, k, width = self.sums.shape
        if len(group) > 1:
            points = points.gather(2, group.argsort(1)[best % len(group)])
        slots = (_owners(best, group) + k * torch.arange(batch, device=best.device)[:, None]).flatten()
        self.sums.view(-1, width).index_add_(0, slots, points.reshape(-1, width).double(), alpha=sign)
        self.counts += sign * torch.bincount(slots, minlength=batch * k).view(batch, k)

    def move(self, points: Tensor, old: Tensor, new: Tensor, group: Tensor) -> None:
        """Move some points from their old clusters to new ones."""
        self.add(points, old, group, sign=-1)
        self.add(points, new, group)


def _totals(points: Tensor, best: Tensor, k: int, group: Tensor) -> _Totals:
    sums = torch.zeros(len(points), k, points.shape[2], dtype=torch.float64, device=points.device)
    totals = _Totals(sums, torch.zeros(len(points), k, dtype=torch.long, device=points.device))
    totals.add(points, best, group)
    return totals


def _refill(points: Tensor, best: Tensor, centroids: Tensor, empty: Tensor, group: Tensor) -> Tensor:
    """Move the centroids of empty clusters [B, k] to the points farthest from their own centroids."""
    most = int(empty.sum(1).max())
    far = distances(points, centroids, group, best).topk(most, dim=1)
    rank = (empty.cumsum(1) - 1).clamp(0, most - 1)
    candidates = points.gather(1, far.indices.gather(1, rank)[:, :, None].expand(-1, -1, points.shape[2]))
    useful = empty & (far.values.gather(1, rank) > 0)
    return torch.where(useful[:, :, None], candidates, centroids)


def _run_batched(
    points: Tensor, centroids: Tensor, group: Tensor, most: int, advance: Advance
) -> tuple[Tensor, Tensor, int]:
    """Lloyd's iterations on all sets of points; sets whose labels no longer change are left out."""
    best = nearest(points, transformed(centroids, group))
    active = torch.arange(len(points), device=points.device)
    iteration = 0
    while iteration < most and len(active):
        iteration += 1
        some, old = points[active], best[active]
        means = _update(some, old, centroids[active], group, _totals(some, old, centroids.shape[1], group))
        new = nearest(some, transformed(means, group))
        centroids[active], best[active] = means, new
        active = active[(new != old).any(1)]
        advance(1)
    return centroids, best, iteration


def _run_bounded(
    points: Tensor, centroids: Tensor, group: Tensor, most: int, advance: Advance
) -> tuple[Tensor, Tensor, int]:
    """Lloyd's iterations on one set of points, with Hamerly's bounds.

    `upper` is at least the distance to the point's own centroid, and `lower` at most the distance to any other. A point
    with upper < lower keeps its label. After an update the bounds move by as much as the centroids did.
    """
    flat, prepared = points[0], Prepared(points[0])
    best, upper, lower = prepared.two_nearest(transformed(centroids, group)[0])
    totals = _totals(points, best[None], len(centroids[0]), group)
    iteration, settled = 0, False
    while iteration < most and not settled:
        iteration += 1
        means = _update(points, best[None], centroids, group, totals)
        moved, centroids = (means - centroids)[0].norm(dim=1), means
        entries = transformed(centroids, group)[0]
        upper += moved.index_select(0, _owners(best, group))
        lower -= moved.max()
        unsure = places(upper >= lower)
        own = entries.index_select(0, best.index_select(0, unsure))
        apart = (flat.index_select(0, unsure) - own).norm(dim=1)
        upper.index_copy_(0, unsure, apart)
        unsure = unsure.index_select(0, places(apart >= lower.index_select(0, unsure)))
        new, nearest_apart, second_apart = prepared.two_nearest(entries, unsure)
        upper.index_copy_(0, unsure, nearest_apart)
        lower.index_copy_(0, unsure, second_apart)
        changed = places(new != best.index_select(0, unsure))
        settled = not len(changed)
        movers, new = unsure.index_select(0, changed), new.index_select(0, changed)
        totals.move(points[:, movers], best[None, movers], new[None], group)
        best.index_copy_(0, movers, new)
        advance(1)
    return centroids, best[None], iteration


def _update(points: Tensor, best: Tensor, centroids: Tensor, group: Tensor, totals: _Totals) -> Tensor:
    """The next centroids: the means of their members, or, for empty clusters, the farthest points."""
    means = (totals.sums / totals.counts.clamp(min=1)[:, :, None]).float()
    empty = totals.counts == 0
    if not empty.any():
        return means
    kept = torch.where(empty[:, :, None], centroids, means)
    return _refill(points, best, kept, empty, group)
