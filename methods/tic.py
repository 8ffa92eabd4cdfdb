"""Transform-invariant kernel clustering.

Sanghyun Son, Seungjun Nah, Kyoung Mu Lee, "Clustering Convolutional Kernels to Compress Deep Neural Networks",
ECCV 2018. Every kernel w becomes s * T_t(u_l): a scale, one of a few flips and rotations, one of k shared kernels.

We depart from the authors' code where it divides by zero for an empty cluster: ours is re-seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from bench import BenchError, Codebook, Lab, Method, ScaledKernels, convolutions, dihedral, encode, kmeans

Layers = dict[str, nn.Conv2d]


@dataclass(frozen=True, kw_only=True)
class TIC(Method):
    """Spatial kernels share a codebook, up to a scale and a flip or rotation; 1x1 and linear layers stay dense."""

    name = "tic"
    paper = "Son, Nah, Lee: Clustering Convolutional Kernels to Compress Deep Neural Networks, ECCV 2018"

    k: Annotated[int, Ge(1), "kernels in a codebook"] = 64
    transforms: Annotated[
        Literal[1, 2, 4, 8], "1: none, 2: horizontal flip, 4: both flips, 8: flips and quarter turns"
    ] = 8
    codebook: Annotated[Literal["network", "layer"], "one codebook for the network (C64) or one a layer (M13)"] = (
        "network"
    )

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        scopes = self._scopes(model, lab)
        largest = max((sum(_kernels(layer).shape[0] for layer in scope.values()) for scope in scopes), default=0)
        if self.k > largest:
            raise BenchError(f"{self}: k is larger than the {largest} kernels that would share a codebook")
        for scope in scopes:
            self._cluster(scope, lab)
        lab.fit(model)
        return model

    def _scopes(self, model: nn.Module, lab: Lab) -> list[Layers]:
        """The layers that share a codebook; kernel sizes are never mixed."""
        scopes: dict[object, Layers] = {}
        for name, layer in convolutions(model).items():
            height, width = layer.weight.shape[2:]
            if height * width == 1:
                lab.note(name, "1x1: nothing to cluster")
                continue
            scopes.setdefault((height, width, name if self.codebook == "layer" else ""), {})[name] = layer
        return list(scopes.values())

    def _cluster(self, layers: Layers, lab: Lab) -> None:
        kernels = torch.cat([_kernels(layer) for layer in layers.values()])
        height, width = next(iter(layers.values())).weight.shape[2:]
        scales = _scales(kernels, height // 2 * width + width // 2)
        alive = scales != 0
        group = dihedral(height, width, self.transforms).to(kernels.device)
        units = kernels[alive] / scales[alive, None]
        if not len(units):
            return
        found = kmeans(
            units, min(self.k, len(units)), lab.generator, permutations=group, description="clustering kernels"
        )
        shared = Codebook(found.centroids[0].view(-1, height, width))
        labels, transforms = (torch.zeros_like(alive, dtype=torch.long) for _ in range(2))
        labels[alive], transforms[alive] = found.labels[0], found.transforms[0]
        sizes = [layer.weight.shape[0] * layer.weight.shape[1] for layer in layers.values()]
        for layer, *parts in zip(
            layers.values(), labels.split(sizes), transforms.split(sizes), scales.split(sizes), strict=True
        ):
            shape = layer.weight.shape[:2]
            encode(layer, ScaledKernels(shared, *(part.view(shape) for part in parts), len(group), layer.groups))


def _kernels(layer: nn.Conv2d) -> Tensor:
    """[Co * Ci / groups, h * w]"""
    return layer.weight.detach().float().flatten(2).flatten(0, 1)


def _scales(kernels: Tensor, centre: int) -> Tensor:
    """sign(centre element) * ||w||, sign(0) = +1; a zero kernel has scale 0."""
    sign = torch.where(kernels[:, centre] < 0, -1.0, 1.0)
    return sign * kernels.norm(dim=1)
