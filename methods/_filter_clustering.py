"""What `fixed`, `wcss` and `inertia` share: similar filters become one. The methods differ in how many stay.

The Co filters of a layer are points of dimension Ci * h * w. k-means finds k centroids, and every filter is replaced by
its centroid. From kahsolt's conv2d-kernels-cluster, https://github.com/kahsolt/conv2d-kernels-cluster, which measures
the network without further training; the option `train` is ours. The released code starts scikit-learn's k-means once;
ours takes the better of two starts, so its inertia is lower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from torch import nn

from bench import (
    BenchError,
    FewPoints,
    Lab,
    Layers,
    Method,
    SharedFilters,
    bar,
    choose_layers,
    convolutions,
    encodable,
    encode,
)

PAPER = "kahsolt: conv2d-kernels-cluster, 2022 (released code, no paper)"

Only = Annotated[Layers, "only these: 'first', positions (the stem is 1) or patterns of names; all if empty"]
Train = Annotated[bool, "fine-tune the shared filters for the whole budget; their labels stay"]


def share_filters(
    method: Method, model: nn.Module, lab: Lab, only: Layers, choose_k: Callable[[FewPoints], int]
) -> None:
    """In each layer, cluster the filters into `choose_k(filters)` clusters and replace them by the centroids.

    `only` selects layers; if it is empty, all are clustered. A layer that keeps all its filters stays dense. Raises
    BenchError where no convolution can be clustered.
    """
    wanted = choose_layers(model, only) if only else convolutions(model)
    free = encodable(model, lab, dropped_kernels=False)
    layers = {name: layer for name, layer in free.items() if name in wanted}
    if not layers:
        chosen = "none of layers=... is a" if free else "the network has no"
        raise BenchError(f"{method}: {chosen} convolution that could still be clustered")
    for name in free.keys() - layers.keys():
        lab.note(name, "not among layers=...")
    with bar("clustering filters", len(layers)) as advance:
        for name, layer in layers.items():
            points = FewPoints(layer.weight, lab.generator)
            k = choose_k(points)
            if k < len(points):
                _share(layer, points, k)
                if layer.groups > 1:
                    lab.note(name, "grouped: a filter is stored once, but computed in each of its groups")
            else:
                lab.note(name, f"none of its {k} filters is merged")
            advance(1)


def _share(layer: nn.Conv2d, points: FewPoints, k: int) -> None:
    clusters = points.kmeans(k)
    filters = clusters.means(layer.weight.detach())
    encode(layer, SharedFilters(clusters.labels.to(filters.device), filters, layer.groups, clusters.inertia))
