"""Squared distances of points to centroids, and the nearest centroid of each point, in parts that fit a cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SCORES_AT_ONCE = 1 << 18
NUMBERS_AT_ONCE = 1 << 20
"""Numbers that fit a processor's cache."""


def at_once(numbers: int, each: int, points: Tensor) -> int:
    """How many rows of `each` numbers to process at a time; many more on a GPU than fit a processor's cache."""
    return max(1, (numbers << 8 if points.is_cuda else numbers) // each)


def transformed(centroids: Tensor, group: Tensor) -> Tensor:
    """Every centroid under every permutation, [B, k * T, d]; entry l * T + t is centroid l under permutation t."""
    return centroids[:, :, group].flatten(1, 2)


def distances(points: Tensor, centroids: Tensor, group: Tensor, best: Tensor) -> Tensor:
    """Squared distance [B, N] of each point to the entry of `transformed` that it is assigned to."""
    entries = transformed(centroids, group)
    return (points - entries.gather(1, best[:, :, None].expand(-1, -1, points.shape[2]))).square().sum(2)


def distances_to(points: Tensor, candidates: Tensor, group: Tensor) -> Tensor:
    """Squared distances [B, L, N] of all points to a few candidates, the smallest over the group."""
    if points.shape[2] == 1:
        return (points.transpose(1, 2) - candidates).square_()
    entries = transformed(candidates, group)
    squares = entries.square().sum(2)[:, :, None] + points.square().sum(2)[:, None, :]
    apart = torch.baddbmm(squares, entries, points.transpose(1, 2), alpha=-2)
    return apart.view(len(points), candidates.shape[1], len(group), -1).amin(2).clamp_(min=0)


def nearest(points: Tensor, entries: Tensor) -> Tensor:
    """Index [B, N] of the nearest of `entries` [B, M, d]."""
    if points.shape[2] == 1:
        return _nearest_on_a_line(points[:, :, 0].contiguous(), entries[:, :, 0])
    half = entries.square().sum(2)[:, None, :] / 2
    step = at_once(SCORES_AT_ONCE, points.shape[1] * entries.shape[1], points)
    parts = [
        torch.baddbmm(half[i : i + step], points[i : i + step], entries[i : i + step].transpose(1, 2), alpha=-1).argmin(
            2
        )
        for i in range(0, len(points), step)
    ]
    return torch.cat(parts)


def _nearest_on_a_line(points: Tensor, entries: Tensor) -> Tensor:
    """`nearest` for d = 1, by the midpoints between sorted centroids."""
    ordered, order = entries.sort(1)
    middles = (ordered[:, 1:] + ordered[:, :-1]).contiguous() / 2
    return order.gather(1, torch.searchsorted(middles, points))


class Prepared:
    """Points [N, d] that are compared with changing entries again and again."""

    def __init__(self, points: Tensor) -> None:
        self._squares = points.square().sum(1)
        self._extended = torch.cat([points, torch.ones_like(points[:, :1])], 1)

    def two_nearest(self, entries: Tensor, chosen: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Index of the nearest of `entries` [M, d], distance to it, and to the second nearest, of all or the chosen
        points; each [N]."""
        squares = self._squares if chosen is None else self._squares.index_select(0, chosen)
        entries = torch.cat([-entries, entries.square().sum(1, keepdim=True) / 2], 1).T.contiguous()
        step = at_once(SCORES_AT_ONCE, entries.shape[1], self._extended)
        index, nearest, second = [], [], []
        for start in range(0, len(squares), step):
            part = slice(start, start + step)
            points = self._extended[part] if chosen is None else self._extended.index_select(0, chosen[part])
            scores = points @ entries
            where, least = _least(scores)
            index.append(where)
            nearest.append(least)
            second.append(scores.scatter_(1, where[:, None], float("inf")).amin(1))
        if not index:
            return squares.new_empty(0, dtype=torch.long), squares, squares
        best = torch.cat(index)
        own = (2 * torch.cat(nearest) + squares).clamp_(min=0).sqrt()
        other = (2 * torch.cat(second) + squares).clamp_(min=0).sqrt()
        return best, own, other


def _least(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Index and value of the least of each row; of equal ones the first. NumPy is more than twice as fast as torch."""
    if scores.is_cuda:
        least, where = scores.min(1)
        return where, least
    where = torch.from_numpy(np.argmin(scores.numpy(), axis=1))
    return where, scores.gather(1, where[:, None])[:, 0]


def places(mask: Tensor) -> Tensor:
    """Where a mask [N] is true. NumPy is several times as fast as torch."""
    return mask.nonzero()[:, 0] if mask.is_cuda else torch.from_numpy(np.flatnonzero(mask.numpy()))
