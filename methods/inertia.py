"""`inertia`: filter clustering with as few centroids as a limit on the inertia allows, layer by layer.

kahsolt, conv2d-kernels-cluster (2022). k goes down from Co - 1 while the inertia of k-means stays within the limit, but
never below Co // 2 + 1; where even Co - 1 exceeds it, the layer stays dense. Theirs runs k-means for every k on the
way. Ours knows without it that every k at which Ward's clusters meet the limit is met, since Lloyd's iterations from
there only lower the inertia, and searches on from the last of them.

Published for ResNet-18 as in `fixed`: limit=1 90.5, 2 85.4, 3 83.5, 5 72.9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from bench_methods._filter_clustering import PAPER, Only, Train, share_filters
from torch import nn

from bench import FewPoints, Lab, Method


@dataclass(frozen=True, kw_only=True)
class Inertia(Method):
    """Clusters each layer's filters into as few as a limit on the sum of squared distances allows."""

    name = "inertia"
    paper = PAPER

    limit: Annotated[float, Ge(0), "largest sum of squared distances of a layer's filters to their centroids"] = 1.0
    layers: Only = ()
    train: Train = False

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        share_filters(self, model, lab, self.layers, self.choose_k)
        if self.train:
            lab.fit(model)
        return model

    def choose_k(self, filters: FewPoints) -> int:
        """Co where no k meets the limit."""
        least = len(filters) // 2 + 1
        met = (filters.ward_inertia[least:-1] <= self.limit).nonzero()[:, 0].tolist()
        k = least + met[0] if met else len(filters)
        while k > least and filters.kmeans(k - 1).inertia <= self.limit:
            k -= 1
        return k
