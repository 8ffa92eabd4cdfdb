"""`inertia`: filter clustering with as few clusters as a limit on the inertia allows, layer by layer.

kahsolt: conv2d-kernels-cluster, 2022, https://github.com/kahsolt/conv2d-kernels-cluster. k decreases from Co - 1 as
long as the inertia of k-means (the sum of squared distances) stays within the limit, but not below Co // 2 + 1. Where
even Co - 1 clusters exceed the limit, the layer stays dense.

The released code runs k-means for every k on the way. Ours skips most of them: Lloyd's iterations can only lower the
inertia of the clusters they start from, so if Ward's clusters meet the limit, k-means does too. The search starts from
the smallest such k. Published for ResNet-18, measured as in `fixed`: limit=1 90.5, 2 85.4, 3 83.5, 5 72.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from bench_methods._filter_clustering import PAPER, Only, Train, share_filters
from torch import nn

from bench import FewPoints, Lab, Method, Strength


@dataclass(frozen=True, kw_only=True)
class Inertia(Method):
    """Clusters each layer's filters into as few clusters as a limit on the sum of squared distances allows."""

    name = "inertia"
    style = ("crimson", "octagon")
    paper = PAPER
    tested = ("inertia", "inertia(train=True)")
    strength = Strength("limit", 0.001, 10_000.0, log=True)

    limit: Annotated[float, Ge(0), "largest sum of squared distances of a layer's filters to their centroids"] = 1.0
    layers: Only = ()
    train: Train = False

    @property
    def trains(self) -> bool:
        return self.train

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        share_filters(self, model, lab, self.layers, self.choose_k)
        if self.train:
            lab.fit(model)
        return model

    def choose_k(self, filters: FewPoints) -> int:
        """The smallest k that meets the limit; Co if none does."""
        least = len(filters) // 2 + 1
        met = (filters.ward_inertia[least:-1] <= self.limit).nonzero()[:, 0].tolist()
        k = least + met[0] if met else len(filters)
        while k > least and filters.kmeans(k - 1).inertia <= self.limit:
            k -= 1
        return k
