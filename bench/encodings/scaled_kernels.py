"""Kernels shared across a network, up to a scale and a flip or rotation: the encoding of Son et al., ECCV 2018."""

from __future__ import annotations

from math import log2
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.encodings.base import Codebook, Encoding, Reader, Writer, round_to_half
from bench.encodings.packing import width_of
from bench.networks.work import Work

SCALE_BITS = 16


def dihedral(height: int, width: int, transforms: int) -> Tensor:
    """Where each entry of a flipped or turned kernel comes from, int64 [T, h * w], the identity first.

    1: identity, 2: horizontal flip, 4: both flips, 8: quarter turns too. Transforms that have the same effect are there
    once. A kernel that is not square has no quarter turns, so its T is at most 4. A single row has a T of at most 2. A
    single column, which a horizontal flip does not change, has a T of 1, 1, 2 and 2.
    """
    grid = torch.arange(height * width).view(height, width)
    flips = [grid, grid.flip(1), grid.flip(0), grid.flip(0, 1)]
    turned = [flip.T for flip in flips] if height == width else []
    different = dict.fromkeys(tuple(entry.flatten().tolist()) for entry in (flips + turned)[:transforms])
    return torch.tensor(list(different))


class ScaledKernels(Encoding):
    """Every kernel is one of a codebook, flipped or rotated, times a scale: w = s * T_t(u_l).

    `labels` and `transforms` are int64 [Co, Ci / groups]; `scales` float [Co, Ci / groups]. A kernel whose scale is 0
    is dropped: it takes one bit, no label and no scale, and stays dropped in training. `group` is the number of
    transforms to choose from: the first of `dihedral(h, w, 8)`.
    """

    kind = "scaled-kernels"
    quantizable = True
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
        permutations = dihedral(codebook.centroids.shape[1], codebook.centroids.shape[2], 8)[:group]
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

    @property
    def drops(self) -> bool:
        """Whether any kernel is dropped."""
        return not bool(self.kept.all())

    @property
    def _count(self) -> int:
        return int(self.kept.sum())

    def _mask_bits(self) -> int:
        return self.kept.numel() if self.drops else 0

    def formula_bits(self) -> float:
        """n * (log2 k + log2 |T| + scale bits) for n kept kernels, without the codebook. If any kernel is dropped, one
        bit for every kernel is added."""
        width = log2(len(self.codebook)) + log2(len(self.permutations)) + SCALE_BITS
        return self._count * width + self._mask_bits()

    def params(self, *stored: Tensor) -> int:
        return self._count

    def macs(self, work: Work) -> int:
        """The better of two orders (section 3.3): add the inputs that share a kernel, then convolve; or convolve each
        input once with each kernel it meets, then add. The paper ignores the additions and the scales.
        """
        return min(self._add_first(work), self._convolve_first(work))

    def macs_full(self, work: Work) -> int:
        """Every kept kernel also scales and adds: an input before it is convolved, or an output after."""
        return min(
            self._add_first(work) + self._count * work.inputs, self._convolve_first(work) + self._count * work.outputs
        )

    def _add_first(self, work: Work) -> int:
        return round(work.macs * _distinct(self.labels, self.kept) / self.labels.numel())

    def _convolve_first(self, work: Work) -> int:
        return round(work.macs * _distinct(*map(self._by_input, (self.labels, self.kept))) / self.labels.numel())

    def _by_input(self, values: Tensor) -> Tensor:
        """[Co, Ci / groups] to [Ci, Co / groups]."""
        grouped: Tensor = values.unflatten(0, (self.groups, -1))
        return grouped.transpose(1, 2).flatten(0, 1)

    def describe(self, work: Work) -> dict[str, float | int | str]:
        return {
            "k": len(self.codebook),
            "transforms": len(self.permutations),
            "kernels": self._count,
            "macs_add_first": self._add_first(work),
            "macs_add_first_full": self._add_first(work) + self._count * work.inputs,
            "macs_convolve_first": self._convolve_first(work),
            "macs_convolve_first_full": self._convolve_first(work) + self._count * work.outputs,
        }

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
