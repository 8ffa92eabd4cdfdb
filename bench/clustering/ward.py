"""Ward's hierarchical clustering (1963, https://doi.org/10.1080/01621459.1963.10500845), from which k-means starts.

Each point begins as a cluster of its own. Then the two clusters whose union adds least to the inertia are merged, again
and again. On a line, these are always neighbours. Two clusters that are each other's cheapest partner can be merged at
any time (Murtagh 1983, https://doi.org/10.1093/comjnl/26.4.354). So on a line, all such pairs are merged at once, in
all sets of points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

INFINITE = float("inf")


def ward(points: Tensor, k: int) -> Tensor:
    """Labels in [0, k) of Ward's clusters of each of B sets of N points, `points` [B, N, d]: int64 [B, N]."""
    if points.shape[2] == 1:
        return _cut_line(points[:, :, 0].double(), k)
    from scipy.cluster.hierarchy import linkage  # takes a while to import

    sets = points.double().cpu().numpy()
    trees = (torch.from_numpy(linkage(some, "ward")) if len(some) > 1 else torch.zeros(0, 4) for some in sets)
    return torch.stack([cut(tree, k) for tree in trees]).to(points.device)


def cut(tree: Tensor, k: int) -> Tensor:
    """Labels [N] after all merges but the last k - 1.

    `tree` [N - 1, 4] holds the merges in their order: the two clusters (points are numbered first, then merges), the
    height and the size.
    """
    points = len(tree) + 1
    merges = tree[: points - k, :2].long().tolist()
    top = list(range(points + len(merges)))
    for index in reversed(range(len(merges))):
        for part in merges[index]:
            top[part] = top[points + index]
    labels: Tensor = torch.tensor(top[:points]).unique(return_inverse=True)[1]
    return labels


def _cut_line(points: Tensor, k: int) -> Tensor:
    """`ward` of sets of numbers [B, N]: cut at the k - 1 gaps between sorted numbers that are closed last."""
    ordered, order = points.sort(1)
    gaps = _heights(ordered).topk(k - 1, dim=1).indices
    starts = torch.zeros_like(order).scatter_(1, gaps + 1, 1)
    return torch.zeros_like(order).scatter_(1, order, starts.cumsum(1))


def _heights(ordered: Tensor) -> Tensor:
    """What the merge that closes each gap between sorted numbers [B, N] adds to the inertia: [B, N - 1].

    A round works on arrays as wide as the set with the most clusters left; clusters of size 0 fill up the others.
    """
    batch, spare = len(ordered), ordered.shape[1] - 1
    sizes, sums = torch.ones_like(ordered), ordered
    gaps = torch.arange(spare, device=ordered.device).expand(batch, -1)
    heights = ordered.new_zeros(batch, spare + 1)
    while sizes.shape[1] > 1:
        costs = _costs(sizes, sums)
        closed, kept = _cheapest(costs), costs.isfinite()
        heights.scatter_(1, torch.where(closed, gaps, spare), costs)
        kept &= ~closed
        place = pad(kept.cumsum(1), (1, 0))
        width = int(place[:, -1].max()) + 1
        gaps = torch.full((batch, width), spare, device=gaps.device).scatter_(
            1, torch.where(kept, place[:, :-1], width - 1), torch.where(kept, gaps, spare)
        )[:, : width - 1]
        sizes, sums = (old.new_zeros(batch, width).scatter_add_(1, place, old) for old in (sizes, sums))
    return heights[:, :spare]


def _costs(sizes: Tensor, sums: Tensor) -> Tensor:
    """What merging each cluster [B, M] with the next adds to the inertia, [B, M - 1]; infinite where there is none."""
    means = sums / sizes
    left, right = sizes[:, :-1], sizes[:, 1:]
    added = left * right / (left + right) * (means[:, 1:] - means[:, :-1]).square()
    return torch.where(right > 0, added, INFINITE)


def _cheapest(costs: Tensor) -> Tensor:
    """Which gaps cost less than their neighbours; of equal neighbours, the one at an even place counts as cheaper."""
    beside = pad(costs, (1, 1), value=INFINITE)
    least = torch.minimum(beside[:, :-2], beside[:, 2:])
    even = torch.arange(costs.shape[1], device=costs.device) % 2 == 0
    return costs.isfinite() & ((costs < least) | (even & (costs == least)))
