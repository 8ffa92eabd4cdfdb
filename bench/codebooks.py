"""Encodings by codebooks: kernels shared across a network, kernels shared within an input channel."""

from __future__ import annotations

from math import log2
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.encoding import DENSE_BITS, Codebook, Encoding, Reader, Writer, round_to_half
from bench.packing import width_of

SCALE_BITS = 16


def dihedral(height: int, width: int, transforms: int) -> Tensor:
    """Where each entry of a flipped or turned kernel comes from, int64 [T, h * w], the identity first.

    1: identity, 2: horizontal flip, 4: both flips, 8: quarter turns too. A kernel that is not square has no quarter
    turns, so that its T is at most 4.
    """
    grid = torch.arange(height * width).view(height, width)
    flips = [grid, grid.flip(1), grid.flip(0), grid.flip(0, 1)]
    turned = [flip.T for flip in flips] if height == width else []
    return torch.stack([entry.flatten() for entry in (flips + turned)[:transforms]])


class ScaledKernels(Encoding):
    """Every kernel is a codebook's, flipped or rotated, times a scale: w = s * T_t(u_l) (Son et al., ECCV 2018).

    `labels` and `transforms` are int64 [Co, Ci / groups]; `scales` float [Co, Ci / groups]. A kernel whose scale is 0
    is dropped: it takes one bit, no label and no scale, and stays dropped in training. `group` is T, how many
    transforms of `dihedral` there are to choose from.
    """

    kind = "scaled-kernels"
    labels: Tensor
    kept: Tensor
    permutations: Tensor

    def __init__(
        self,
        codebook: Codebook,
        labels: Tensor,
        transforms: Tensor,
        scales: Tensor,
        group: int,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.codebook, self.groups = codebook, groups
        self.shape = (*labels.shape, *codebook.centroids.shape[1:])
        permutations = dihedral(codebook.centroids.shape[1], codebook.centroids.shape[2], group)
        self.register_buffer("labels", labels * group + transforms)
        self.register_buffer("kept", scales != 0)
        self.register_buffer("permutations", permutations.to(labels.device))
        self.initial_scales = scales

    def forward(self, *stored: Tensor) -> Tensor:
        entries = self.codebook.centroids.flatten(1)[:, self.permutations].flatten(0, 1)
        kernels = F.embedding(self.labels, entries) * (round_to_half(stored[0]) * self.kept).unsqueeze(2)
        return kernels.view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_scales.to(weight)

    def _bits_per_kernel(self) -> float:
        return log2(len(self.codebook)) + log2(len(self.permutations)) + SCALE_BITS

    @property
    def drops(self) -> bool:
        return not bool(self.kept.all())

    def bits(self) -> int:
        width = width_of(len(self.codebook) * len(self.permutations)) + SCALE_BITS
        return int(self.kept.sum()) * width + (self.kept.numel() if self.drops else 0)

    def formula_bits(self) -> float:
        return int(self.kept.sum()) * self._bits_per_kernel() + (self.kept.numel() if self.drops else 0)

    def macs(self, dense: int) -> int:
        """The better of two orders (section 3.3): add the inputs that share a kernel, then convolve; or convolve each
        input once with each kernel it meets, then add. Additions and scale multiplies are ignored, as the paper does.
        """
        return round(dense * min(self._distinct_per_output(), self._distinct_per_input()) / self.labels.numel())

    def _distinct_per_output(self) -> int:
        return _distinct(self.labels, self.kept)

    def _distinct_per_input(self) -> int:
        return _distinct(self._by_input(self.labels), self._by_input(self.kept))

    def _by_input(self, values: Tensor) -> Tensor:
        """[Co, Ci / groups] to [Ci, Co / groups]."""
        grouped: Tensor = values.unflatten(0, (self.groups, -1))
        return grouped.transpose(1, 2).flatten(0, 1)

    def describe(self) -> dict[str, float | int | str]:
        return {"k": len(self.codebook), "transforms": len(self.permutations), "kernels": int(self.kept.sum())}

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        facts = {"book": writer.codebook(self.codebook), "drops": self.drops, "groups": self.groups}
        if self.drops:
            writer.integers(self.kept, 1)
        writer.integers(self.labels[self.kept], width_of(len(self.codebook) * len(self.permutations)))
        writer.halves(stored[0][self.kept].half())
        return facts | {"group": len(self.permutations)}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        book = reader.codebook(facts["book"])
        group = facts["group"]
        everything = torch.ones(shape[:2], dtype=torch.bool)
        kept = reader.integers(1, *shape[:2]).bool() if facts["drops"] else everything
        labels, scales = torch.zeros(shape[:2], dtype=torch.long), torch.zeros(shape[:2])
        labels[kept] = reader.integers(width_of(len(book) * group), int(kept.sum()))
        scales[kept] = reader.halves(int(kept.sum()))
        encoding = cls(book, labels // group, labels % group, scales, group, facts["groups"])
        encoding.kept.copy_(kept)
        return encoding


def _distinct(labels: Tensor, kept: Tensor) -> int:
    """Number of different labels among the kept entries of each row, summed over rows."""
    ordered = torch.where(kept, labels, -1).sort(1).values
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return int((starts & (ordered >= 0)).sum())


class ChannelKernels(Encoding):
    """Each input channel has its own few kernels (Li et al., CVPR 2019): q_c of them for the N filters that read it.

    `sizes` int64 [C] holds q_c, C = Ci input channels, N = Co / groups: 0 removes the channel from the layer, N
    stores it dense. `labels` int64 [C, N] are below q_c. `kernels` [sum q_c, h, w] hold the channels' kernels in turn.
    """

    kind = "channel-kernels"
    rows: Tensor
    sizes: Tensor
    present: Tensor

    def __init__(self, sizes: Tensor, labels: Tensor, kernels: Tensor, groups: int) -> None:
        super().__init__()
        channels, filters = labels.shape
        self.groups = groups
        self.shape = (filters * groups, channels // groups, *kernels.shape[1:])
        starts = sizes.cumsum(0) - sizes
        self.register_buffer("sizes", sizes)
        self.register_buffer("rows", torch.where(sizes[:, None] > 0, starts[:, None] + labels, 0))
        self.register_buffer("present", sizes > 0)
        self.initial_kernels = kernels

    def forward(self, *stored: Tensor) -> Tensor:
        channels, filters = self.rows.shape
        kernels = F.embedding(self.rows, stored[0].flatten(1)) * self.present[:, None, None]
        grouped = kernels.view(self.groups, channels // self.groups, filters, -1)
        return grouped.transpose(1, 2).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_kernels.to(weight)

    @property
    def filters(self) -> int:
        return self.rows.shape[1]

    def _clustered(self) -> Tensor:
        return (self.sizes > 0) & (self.sizes < self.filters)

    def _label_bits(self) -> int:
        """N * ceil(log2 q_c), summed over the clustered channels."""
        return sum(width_of(q) * self.filters for q in self.sizes[self._clustered()].tolist())

    def bits(self) -> int:
        values = int(self.sizes.sum()) * self.shape[2] * self.shape[3]
        return values * DENSE_BITS + self._label_bits() + len(self.sizes) * width_of(len(self.sizes.unique()))

    def formula_bits(self) -> float:
        values = int(self.sizes.sum()) * self.shape[2] * self.shape[3]
        return values * DENSE_BITS + self._label_bits()

    def macs(self, dense: int) -> int:
        """dense * sum q_c / (N * C): each of a channel's kernels is convolved once; additions are ignored."""
        return round(dense * int(self.sizes.sum()) / self.rows.numel())

    def describe(self) -> dict[str, float | int | str]:
        return {
            "channels_removed": int((self.sizes == 0).sum()),
            "channels_clustered": int(self._clustered().sum()),
            "channels_dense": int((self.sizes == self.filters).sum()),
            "kernels": int(self.sizes.sum()),
        }

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        levels = self.sizes.unique()
        writer.integers(torch.searchsorted(levels, self.sizes), width_of(len(levels)))
        labels = self.rows - (self.sizes.cumsum(0) - self.sizes)[:, None]
        for level in levels[(levels > 0) & (levels < self.filters)].tolist():
            writer.integers(labels[self.sizes == level], width_of(level))
        writer.floats(stored[0])
        return {"levels": levels.tolist(), "groups": self.groups}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        groups, levels = facts["groups"], torch.tensor(facts["levels"])
        channels, filters = shape[1] * groups, shape[0] // groups
        sizes = levels[reader.integers(width_of(len(levels)), channels)]
        labels = torch.arange(filters).repeat(channels, 1)
        for level in levels[(levels > 0) & (levels < filters)].tolist():
            members = sizes == level
            labels[members] = reader.integers(width_of(level), int(members.sum()), filters)
        kernels = reader.floats(int(sizes.sum()), *shape[2:])
        return cls(sizes, labels, kernels, groups)
