"""Whole filters shared within a layer: the encoding of filter clustering."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.encodings.base import Encoding, Reader, Writer
from bench.encodings.packing import width_of
from bench.networks.work import Work


class SharedFilters(Encoding):
    """Each of the layer's Co filters is one of k: `labels` int64 [Co], `filters` float [k, Ci / groups, h, w].

    `inertia`, if it is known, is the sum of squared distances between the original and the shared filters.
    """

    kind = "shared-filters"
    quantizable = True
    labels: Tensor

    def __init__(self, labels: Tensor, filters: Tensor, groups: int = 1, inertia: float | None = None) -> None:
        super().__init__()
        self.k, self.groups, self.inertia = len(filters), groups, inertia
        self.shape = (len(labels), *filters.shape[1:])
        self.register_buffer("labels", labels)
        self.initial_filters = filters

    def forward(self, *stored: Tensor) -> Tensor:
        return torch.nn.functional.embedding(self.labels, stored[0].flatten(1)).view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_filters.to(weight)

    def macs(self, work: Work) -> int:
        """k / Co of the dense ones: each filter is computed once, and again in each group, and its output is copied."""
        group = torch.arange(self.groups, device=self.labels.device).repeat_interleave(len(self.labels) // self.groups)
        return round(work.macs * len((group * self.k + self.labels).unique()) / len(self.labels))

    def describe(self, work: Work) -> dict[str, float | int | str]:
        facts: dict[str, float | int | str] = {"filters": len(self.labels), "k": self.k}
        return facts | ({} if self.inertia is None else {"inertia": self.inertia})

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        writer.integers(self.labels, width_of(self.k))
        writer.floats(stored[0])
        return {"k": self.k, "groups": self.groups}

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        labels = reader.integers(width_of(facts["k"]), shape[0])
        return cls(labels, reader.floats(facts["k"], *shape[1:]), facts["groups"])
