"""A few kernels for each input channel: the encoding of Li et al., CVPR 2019."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.encodings.base import DENSE_BITS, Encoding, Reader, Writer
from bench.encodings.packing import width_of
from bench.networks.work import Work


class ChannelKernels(Encoding):
    """Each input channel c has its own few kernels: q_c of them for the N filters that read it.

    `sizes` int64 [C] holds q_c, where C = Ci input channels and N = Co / groups. q_c = 0 removes the channel from the
    layer; q_c = N stores it dense. `labels` int64 [C, N] are below q_c. `kernels` [sum q_c, h, w] hold the kernels,
    channel after channel. `kept` bool [C, N] says which kernels were not dropped earlier: a dropped one takes one bit
    and no label, and a channel is dense if q_c is the number of kept ones.
    """

    kind = "channel-kernels"
    quantizable = True
    rows: Tensor
    sizes: Tensor
    kept: Tensor

    def __init__(self, sizes: Tensor, labels: Tensor, kernels: Tensor, groups: int, kept: Tensor | None = None) -> None:
        super().__init__()
        channels, filters = labels.shape
        self.groups = groups
        self.shape = (filters * groups, channels // groups, *kernels.shape[1:])
        kept = torch.ones_like(labels, dtype=torch.bool) if kept is None else kept
        starts = sizes.cumsum(0) - sizes
        self.register_buffer("sizes", sizes)
        self.register_buffer("kept", kept)
        self.register_buffer("rows", torch.where(self._present(), starts[:, None] + labels, 0))
        self.initial_kernels = kernels

    def _present(self) -> Tensor:
        """Which kernels decode to something, bool [C, N]."""
        return self.kept & (self.sizes > 0)[:, None]

    def forward(self, *stored: Tensor) -> Tensor:
        channels, filters = self.rows.shape
        kernels = F.embedding(self.rows, stored[0].flatten(1)) * self._present()[:, :, None]
        grouped = kernels.view(self.groups, channels // self.groups, filters, -1)
        return grouped.transpose(1, 2).reshape(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_kernels.to(weight)

    def step_rows(self, *stored: Tensor) -> list[Tensor]:
        """The kernels of an input channel share one; a channel without kernels has none."""
        alive = self.sizes[self.sizes > 0]
        return [torch.arange(len(alive), device=alive.device).repeat_interleave(alive)]

    @property
    def drops(self) -> bool:
        """Whether any kernel is dropped."""
        return not bool(self.kept.all())

    def _clustered(self) -> Tensor:
        """Channels whose kernels need labels, bool [C]."""
        return (self.sizes > 0) & (self.sizes < self.kept.sum(1))

    def _labelled(self) -> int:
        """Kernels with a label."""
        return int(self.kept[self._clustered()].sum())

    def formula_bits(self) -> float:
        """q_c kernels of 32-bit numbers a channel, and ceil(log2 q_c) bits for each of its kernels, where clustered."""
        values = int(self.sizes.sum()) * self.shape[2] * self.shape[3]
        clustered = self._clustered()
        counts = self.kept.sum(1)[clustered].tolist()
        labels = sum(width_of(q) * count for q, count in zip(self.sizes[clustered].tolist(), counts, strict=True))
        return values * DENSE_BITS + int(labels) + (self.kept.numel() if self.drops else 0)

    def macs(self, work: Work) -> int:
        """sum q_c / (N * C) of the dense ones: each of a channel's kernels is convolved once; additions are ignored."""
        return round(work.macs * int(self.sizes.sum()) / self.rows.numel())

    def macs_full(self, work: Work) -> int:
        """As `macs`; where kernels are shared, each filter also adds up the shared results."""
        return self.macs(work) + self._labelled() * work.outputs

    def describe(self, work: Work) -> dict[str, float | int | str]:
        clustered, removed = int(self._clustered().sum()), int((self.sizes == 0).sum())
        return {
            "channels_removed": removed,
            "channels_clustered": clustered,
            "channels_dense": len(self.sizes) - clustered - removed,
            "kernels": int(self.sizes.sum()),
        }

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        levels = self.sizes.unique()
        writer.integers(torch.searchsorted(levels, self.sizes), width_of(len(levels)))
        if self.drops:
            writer.integers(self.kept, 1)
        labels = self.rows - (self.sizes.cumsum(0) - self.sizes)[:, None]
        for level, members in self._labels_by_level():
            writer.integers(labels[members], width_of(level))
        writer.floats(stored[0])
        return {"levels": levels.tolist(), "groups": self.groups, "drops": self.drops}

    def _labels_by_level(self) -> list[tuple[int, Tensor]]:
        """For each q_c, which kernels [C, N] have labels of its width."""
        clustered = self._clustered()
        levels = self.sizes[clustered].unique().tolist()
        return [(level, self.kept & (clustered & (self.sizes == level))[:, None]) for level in levels]

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        groups, levels = facts["groups"], torch.tensor(facts["levels"])
        channels, filters = shape[1] * groups, shape[0] // groups
        sizes = levels[reader.integers(width_of(len(levels)), channels)]
        kept = torch.ones(channels, filters, dtype=torch.bool)
        if facts["drops"]:
            kept = reader.integers(1, channels, filters).bool()
        labels = (kept.cumsum(1) - 1).clamp(min=0)  # a dense channel's kernels, in order
        blank = cls(sizes, labels, torch.zeros(1, *shape[2:]), groups, kept)
        for level, members in blank._labels_by_level():
            labels[members] = reader.integers(width_of(level), int(members.sum()))
        kernels = reader.floats(int(sizes.sum()), *shape[2:])
        return cls(sizes, labels, kernels, groups, kept)
