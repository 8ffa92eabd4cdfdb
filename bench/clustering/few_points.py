"""k-means of few points in many dimensions, such as the filters of a layer, for any number of clusters.

Only the distances between the points are needed, [N, N]. They are computed once, and an iteration then costs N * k
operations, whatever the number of dimensions. Lloyd's algorithm is started twice and the better result is kept: from
Ward's clusters (1963, https://doi.org/10.1080/01621459.1963.10500845), where one tree serves every k, and from greedy
k-means++ (Arthur and Vassilvitskii, SODA 2007, https://dl.acm.org/doi/10.5555/1283383.1283494), where the first k seeds
serve every k. `bench.clustering.kmeans` is for many points in few dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

import torch
from torch import Tensor

from bench.clustering.kmeans import MOST_ITERATIONS
from bench.clustering.ward import cut

ROUNDING = 1e-9
SAME = 1e-13
"""Squared distances below this share of the largest are rounding errors of equal points."""


@dataclass(frozen=True)
class Partition:
    """A clustering of N points: `labels` int64 [N] in [0, k), where every cluster has a member, and `inertia`, the sum
    of squared distances of the points to the means of their clusters."""

    labels: Tensor
    inertia: float

    @property
    def k(self) -> int:
        return int(self.labels.max()) + 1

    def means(self, points: Tensor) -> Tensor:
        """The mean of each cluster's `points` [N, ...], as [k, ...]. The mean of one point is exactly that point."""
        labels = self.labels.to(points.device)
        sums = torch.zeros(self.k, *points.shape[1:], dtype=torch.float64, device=points.device)
        sums.index_add_(0, labels, points.double())
        return (sums / torch.bincount(labels).view(-1, *[1] * (points.dim() - 1))).to(points.dtype)


class FewPoints:
    """N points to cluster into any number of clusters. Results are cached, so a k always gives the same clusters.

    `generator` is a CPU generator for the seeds of k-means++.
    """

    def __init__(self, points: Tensor, generator: torch.Generator) -> None:
        """`points` [N, ...] may be on any device; each is flattened."""
        self._squares = squared_distances(points.detach().flatten(1))
        self._generator = generator
        self._found: dict[int, Partition] = {}

    def __len__(self) -> int:
        return len(self._squares)

    def kmeans(self, k: int) -> Partition:
        """The better result of Lloyd's algorithm from Ward's clusters and from k-means++.

        Raises ValueError unless 1 <= `k` <= N.
        """
        if not 1 <= k <= len(self):
            raise ValueError(f"k must be between 1 and the {len(self)} points, not {k}")
        if k not in self._found:
            ends = (self._lloyd(start, k) for start in (cut(self._tree, k), self._seeded(k)))
            self._found[k] = min(ends, key=lambda end: end.inertia)
        return self._found[k]

    def curve(self, ks: Sequence[int]) -> list[float]:
        """The inertia of `kmeans` for increasing `ks`; it never increases.

        Where it would increase, Lloyd's algorithm starts from the clusters of the previous k, and the farthest points
        become clusters of their own.
        """
        before = None
        for k in ks:
            partition = self.kmeans(k)
            if before and partition.inertia > before.inertia:
                self._found[k] = self._lloyd(before.labels, k)
            before = self._found[k]
        return [self._found[k].inertia for k in ks]

    @cached_property
    def ward_inertia(self) -> Tensor:
        """Inertia of Ward's clusters for k from 0 to N, [N + 1], rounded up slightly so that `kmeans` meets it."""
        heights = self._tree[:, 2].square() / 2 * (1 + ROUNDING)
        sums = torch.cat([heights.new_zeros(1), heights.cumsum(0)]).flip(0)
        return torch.cat([sums.new_full((1,), float("inf")), sums])

    @cached_property
    def _tree(self) -> Tensor:
        """Ward's merges as in `cut`. A merge adds half the square of its height to the inertia."""
        if len(self) < 2:
            return torch.zeros(0, 4, dtype=torch.float64)
        from scipy.cluster.hierarchy import linkage  # these take a while to import
        from scipy.spatial.distance import squareform

        condensed = squareform(self._squares.sqrt().numpy(), checks=False)
        return torch.from_numpy(linkage(condensed, "ward"))

    def _seeded(self, k: int) -> Tensor:
        """Labels by the nearest of the first k seeds of k-means++."""
        labels = self._from_seeds[:, :k].argmin(1)
        labels[self._seeds[:k]] = torch.arange(k)
        return labels

    @cached_property
    def _from_seeds(self) -> Tensor:
        """Squared distances of all points from the seeds in their order, [N, N]."""
        return self._squares[:, self._seeds]

    @cached_property
    def _seeds(self) -> Tensor:
        """All points in the order of greedy k-means++, int64 [N]."""
        count = len(self)
        luck = torch.rand(count, 2 + int(log(count)), generator=self._generator, dtype=torch.float64)
        seeds = [int(luck[0, 0] * count)]
        nearest = self._squares[seeds[0]]
        for index in range(1, count):
            mass = nearest.cumsum(0)
            candidates = torch.searchsorted(mass, luck[index] * mass[-1], right=True).clamp_(max=count - 1)
            closer = torch.minimum(self._squares[candidates], nearest)
            winner = int(closer.sum(1).argmin())
            seeds.append(int(candidates[winner]))
            nearest = closer[winner]
            if not nearest.any():
                break
        rest = torch.ones(count, dtype=torch.bool).index_fill_(0, torch.tensor(seeds), False)
        return torch.cat([torch.tensor(seeds), rest.nonzero()[:, 0]])

    def _lloyd(self, labels: Tensor, k: int) -> Partition:
        """Lloyd's iterations until no point is nearer to another cluster's mean than to its own.

        With D the squared distances, S_ji = sum of D_im over the n_j members m of cluster j, and W_j its inertia, point
        i is (S_ji - W_j) / n_j from the mean of j, squared, and W_j = sum of S_ji over its members / (2 n_j).
        """
        squares, everyone = self._squares, torch.arange(len(self))
        labels = labels.clone()
        sums = torch.zeros(k, len(self), dtype=torch.float64).index_add_(0, labels, squares)
        apart, rounding = torch.empty_like(sums), SAME * squares.max()
        for _ in range(MOST_ITERATIONS):
            counts = self._fill(labels, sums)
            within = torch.zeros(k, dtype=torch.float64).index_add_(0, labels, sums[labels, everyone]) / (2 * counts)
            torch.sub(sums, within[:, None], out=apart).div_(counts[:, None])
            movers = (apart.amin(0) < apart[labels, everyone] - rounding).nonzero()[:, 0]
            if not len(movers):
                break
            nearest = apart[:, movers].argmin(0)  # min is faster than argmin, and few points move
            sums.index_add_(0, labels[movers], squares[movers], alpha=-1)
            sums.index_add_(0, nearest, squares[movers])
            labels[movers] = nearest
        return Partition(labels, max(0.0, float(within.sum())))

    def _fill(self, labels: Tensor, sums: Tensor) -> Tensor:
        """Give each empty cluster the point farthest from its own mean. Returns the new counts [k]."""
        counts = torch.bincount(labels, minlength=len(sums))
        for empty in (counts == 0).nonzero()[:, 0].tolist():
            own = sums[labels, torch.arange(len(self))]
            within = torch.zeros(len(sums), dtype=torch.float64).index_add_(0, labels, own) / (2 * counts.clamp(min=1))
            apart = (own - within[labels]) / counts[labels]
            far = int(torch.where(counts[labels] > 1, apart, -1.0).argmax())
            sums[labels[far]] -= self._squares[far]
            sums[empty] = self._squares[far]
            counts[labels[far]] -= 1
            counts[empty], labels[far] = 1, empty
        return counts


def squared_distances(points: Tensor) -> Tensor:
    """Squared distances between all points [N, d]: float64 [N, N] on the CPU, symmetric, 0 for equal points."""
    points = points.double()
    points = points - points.mean(0)
    products = points @ points.T
    norms = products.diagonal()
    squares = norms[:, None] + norms[None, :] - products - products.T
    squares[squares < SAME * norms.max()] = 0
    return squares.fill_diagonal_(0).cpu()
