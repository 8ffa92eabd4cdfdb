"""`wcss`: filter clustering with the number of clusters at the elbow of the inertia, layer by layer.

kahsolt: conv2d-kernels-cluster, 2022, https://github.com/kahsolt/conv2d-kernels-cluster. WCSS_k, the within-cluster sum
of squares, is computed for every k between two shares of the layer's filters (`from` and `to` there). The elbow is the
k whose point (k, WCSS_k) is farthest from the straight line between the first and the last point. With a step, the
released code leaves out the last k and measures distances as if the step were 1. Here the last k is never left out, and
distances use the true k.

Published for ResNet-18, measured as in `fixed`: shares from 0.9 to 1: 83.2, from 0.75 to 1: 34.7; first layer alone,
from 0.7 to 0.8: 90.6, from 0.4 to 0.6: 51.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval
from bench_methods._filter_clustering import PAPER, Only, Train, share_filters
from torch import nn

from bench import BenchError, FewPoints, Lab, Method, Strength


@dataclass(frozen=True, kw_only=True)
class WCSS(Method):
    """Clusters each layer's filters, with the number of clusters at the elbow of the within-cluster sum of squares."""

    name = "wcss"
    style = ("brown", "triangle-right")
    paper = PAPER
    tested = ("wcss(lowest=0.9, step=2)", "wcss(lowest=0.9, step=2, train=True)")
    strength = Strength("lowest", 1.0, 0.01)

    lowest: Annotated[float, Interval(gt=0, le=1), "the smallest k to try, over the number of filters"] = 0.75
    highest: Annotated[float, Interval(gt=0, le=1), "the largest k to try, over the number of filters"] = 1.0
    step: Annotated[int, Ge(1), "try every k (1), every second one (2), ...; the largest is always tried"] = 1
    layers: Only = ()
    train: Train = False

    @property
    def trains(self) -> bool:
        return self.train

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lowest > self.highest:
            raise BenchError(f"{self}: lowest={self.lowest} is above highest={self.highest}")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        share_filters(self, model, lab, self.layers, self.choose_k)
        if self.train:
            lab.fit(model)
        return model

    def choose_k(self, filters: FewPoints) -> int:
        """The elbow, over the ks from round(Co * lowest) to round(Co * highest)."""
        first, last = (max(1, round(len(filters) * share)) for share in (self.lowest, self.highest))
        ks = [*range(first, last, self.step), last]
        return elbow(ks, filters.curve(ks))


def elbow(ks: Sequence[int], heights: Sequence[float]) -> int:
    """The k whose point (k, height) is farthest from the line through the first and the last point.

    Of several such ks it is the first. The distances are all multiplied by the length of the line.
    """
    across, down = ks[-1] - ks[0], heights[-1] - heights[0]
    points = zip(ks, heights, strict=True)
    distances = [abs(across * (height - heights[0]) - down * (k - ks[0])) for k, height in points]
    return ks[distances.index(max(distances))]
