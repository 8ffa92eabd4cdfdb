"""`fixed`: filter clustering with the same share of clusters in every layer.

kahsolt: conv2d-kernels-cluster, 2022, https://github.com/kahsolt/conv2d-kernels-cluster. Published for ResNet-18: top-1
in percent on 1,000 ImageNet validation images, without further training (91.8 before compression):
    keep=0.99 90.5, 0.98 88.3, 0.95 85.3, 0.9 64.9, 0.85 33.1, 0.8 12.8, 0.75 3.3
    first layer alone, fixed(keep=0.95, layers=first): 91.8; keep=0.75 90.2, 0.5 53.2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval
from bench_methods._filter_clustering import PAPER, Only, Train, share_filters
from torch import nn

from bench import FewPoints, Lab, Method, Strength


@dataclass(frozen=True, kw_only=True)
class Fixed(Method):
    """Clusters each layer's filters into a fixed share of their number."""

    name = "fixed"
    style = ("purple", "triangle-left")
    paper = PAPER
    tested = ("fixed", "fixed(train=True)")
    strength = Strength("keep", 1.0, 0.01)

    keep: Annotated[float, Interval(gt=0, le=1), "k over the number of filters"] = 0.9
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
        """k = round(Co * keep), but at least 1."""
        return max(1, round(len(filters) * self.keep))
