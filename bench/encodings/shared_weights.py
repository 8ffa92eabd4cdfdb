"""Single weights shared within a layer: the encoding of Han, Mao and Dally, ICLR 2016."""

from __future__ import annotations

from math import log2, prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.encodings.base import DENSE_BITS, Encoding, Reader, Writer
from bench.encodings.mask import read_kept, write_kept
from bench.encodings.packing import width_of
from bench.networks.work import Work


class SharedWeights(Encoding):
    """Each weight is one of k numbers, or zero: `labels` int64 in the weight's shape, `centroids` float [k], trained.

    `kept` says which weights are not zero, as in `Mask`: bool [Co, Ci / groups] for whole kernels, or in the weight's
    shape; None if all are kept. A zero weight has no label in a file.
    """

    kind = "shared-weights"
    quantizable = True
    labels: Tensor

    def __init__(self, labels: Tensor, centroids: Tensor, kept: Tensor | None = None) -> None:
        super().__init__()
        self.shape, self.k = tuple(labels.shape), len(centroids)
        self.register_buffer("labels", labels)
        self.register_buffer("kept", kept)
        self.initial_centroids = centroids.detach()

    def _kept(self) -> Tensor | None:
        """`kept` in the weight's shape."""
        kept: Any = self.kept
        return (
            None if kept is None else kept.view(*kept.shape, *[1] * (len(self.shape) - kept.dim())).expand(self.shape)
        )

    def forward(self, *stored: Tensor) -> Tensor:
        weight = F.embedding(self.labels, stored[0][:, None])[..., 0]
        kept = self._kept()
        return weight if kept is None else weight * kept

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.initial_centroids.to(weight)

    def _count(self) -> int:
        """Weights kept."""
        kept = self._kept()
        return prod(self.shape) if kept is None else int(kept.sum())

    def formula_bits(self) -> float:
        """n * log2 k + k * 32 for n weights (equation 1 of the paper), plus the bits that say which are kept."""
        stored = self._count() * width_of(self.k) + self.k * DENSE_BITS
        return self._count() * log2(self.k) + self.k * DENSE_BITS + self.bits() - stored

    def macs(self, work: Work) -> int:
        """Multiply-adds of the weights that are kept; sharing saves none."""
        return round(work.macs * self._count() / prod(self.shape))

    def describe(self, work: Work) -> dict[str, float | int | str]:
        return {"k": self.k, "density": self._count() / prod(self.shape)}

    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        kept: Any = self.kept
        facts: dict[str, Any] = {"k": self.k}
        if kept is not None:
            facts |= {"kernels": kept.dim() < len(self.shape), "count": write_kept(writer, kept)}
        writer.integers(self.labels if kept is None else self.labels[kept], width_of(self.k))
        writer.floats(stored[0])
        return facts

    @classmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        width, kept = width_of(facts["k"]), None
        if "kernels" in facts:
            kept = read_kept(reader, facts["count"], shape[:2] if facts["kernels"] else shape)
        if kept is None:
            labels = reader.integers(width, *shape)
        else:
            labels = torch.zeros(shape, dtype=torch.long)
            labels[kept] = reader.integers(width, int(kept.sum()), *shape[kept.dim() :])
        return cls(labels, reader.floats(facts["k"]), kept)
