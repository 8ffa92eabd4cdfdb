"""`tic`: transform-invariant kernel clustering.

Sanghyun Son, Seungjun Nah, Kyoung Mu Lee: Clustering Convolutional Kernels to Compress Deep Neural Networks, ECCV 2018,
https://doi.org/10.1007/978-3-030-01237-3_14. Every kernel w becomes s * T_t(u_l): a scale, one of a few flips and
rotations, and one of k shared kernels.

Departures: the authors' code divides by zero for an empty cluster; here an empty cluster gets a new seed. Layers whose
codebook, labels and scales would take no fewer bits than the dense weights, such as a 7x7 stem with k=256, stay as they
are. Kernels that are zero, as after `l1(granularity=kernel)`, are not clustered and take no label (the paper's P).

k-means starts once: with many more kernels than centroids, different starts hardly differ, in ResNet-20 by 0.4% of the
inertia for k from 16 to 256.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from pydantic import AfterValidator
from torch import Tensor, nn

from bench import (
    BenchError,
    Codebook,
    Lab,
    Method,
    ScaledKernels,
    Strength,
    dihedral,
    encodable,
    encode,
    kmeans,
    stored_bits,
)

RANGE = re.compile(r"(\d+)-(\d+)=([1-9]\d*)")


def ranges(text: str) -> list[tuple[range, int]]:
    """Layers and number of centroids of each part of a text such as '0-0=64,1-16=256'; ValueError for other text."""
    parts = [(part, RANGE.fullmatch(part)) for part in text.replace(" ", "").split(",")]
    scopes = [(range(int(match[1]), int(match[2]) + 1), int(match[3])) for _, match in parts if match]
    wrong = [part for part, match in parts if not match or int(match[1]) > int(match[2])]
    layers = [layer for several, _ in scopes for layer in several]
    if wrong or len(set(layers)) < len(layers):
        raise ValueError(f"should be network, layer or distinct ranges like '0-0=64,1-16=256', not {text!r}")
    return scopes


def scope_text(text: str) -> str:
    if text not in ("network", "layer"):
        ranges(text)
    return text


@dataclass(frozen=True)
class Scope:
    """Layers of one kernel size that share a codebook of k kernels."""

    k: int
    layers: dict[str, nn.Conv2d]

    @property
    def kernels(self) -> int:
        return sum(len(_kernels(layer)) for layer in self.layers.values())


@dataclass(frozen=True, kw_only=True)
class TIC(Method):
    """Lets spatial kernels share a codebook, up to a scale and a flip or rotation; 1x1 and linear layers stay dense."""

    name = "tic"
    style = ("blue", "circle")
    paper = "Son, Nah, Lee: Clustering Convolutional Kernels to Compress Deep Neural Networks, ECCV 2018"
    tested = ("tic(k=4)",)
    strength = Strength("k", 4096, 1, log=True)

    k: Annotated[int, Ge(1), "kernels in a codebook"] = 64
    transforms: Annotated[
        Literal[1, 2, 4, 8], "1: none, 2: horizontal flip, 4: both flips, 8: flips and quarter turns"
    ] = 8
    codebook: Annotated[
        str,
        AfterValidator(scope_text),
        "what shares one: network (C64), layer (M13), or ranges of the layers it works on, from 0, with k for each",
    ] = "network"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        scopes = self._scopes(self._layers(model, lab), lab)
        for k in {scope.k for scope in scopes}:
            most = max(scope.kernels for scope in scopes if scope.k == k)
            if k > most:
                raise BenchError(f"{self}: k={k} is larger than the {most} kernels that would share a codebook")
        for scope in scopes:
            self._cluster(scope, lab)
        lab.fit(model)
        return model

    def _layers(self, model: nn.Module, lab: Lab) -> dict[str, nn.Conv2d]:
        layers = encodable(model, lab)
        spatial = {name: layer for name, layer in layers.items() if layer.weight[0, 0].numel() > 1}
        for name in layers.keys() - spatial.keys():
            lab.note(name, "1x1: nothing to cluster", reachable=False)
        if not spatial:
            raise BenchError(f"{self}: the network has no convolution larger than 1x1 that could still be clustered")
        return spatial

    def _scopes(self, layers: dict[str, nn.Conv2d], lab: Lab) -> list[Scope]:
        """The layers that share a codebook; kernel sizes are never mixed."""
        scopes: dict[object, Scope] = {}
        parts = [] if self.codebook in ("network", "layer") else ranges(self.codebook)
        if parts and (last := max(part.stop for part, _ in parts)) > len(layers):
            raise BenchError(f"{self}: there is no layer {last - 1}, it works on {len(layers)}, counted from 0")
        for position, (name, layer) in enumerate(layers.items()):
            within = next((index for index, (part, _) in enumerate(parts) if position in part), None)
            if parts and within is None:
                lab.note(name, "in none of the ranges")
                continue
            k = self.k if within is None else parts[within][1]
            owner = name if self.codebook == "layer" else within
            scopes.setdefault((owner, *layer.weight.shape[2:]), Scope(k, {})).layers[name] = layer
        return list(scopes.values())

    def _cluster(self, scope: Scope, lab: Lab) -> None:
        layers = scope.layers
        kernels = torch.cat([_kernels(layer) for layer in layers.values()])
        height, width = next(iter(layers.values())).weight.shape[2:]
        scales = _scales(kernels, height // 2 * width + width // 2)
        alive = scales != 0
        group = dihedral(height, width, self.transforms).to(kernels.device)
        units = kernels[alive] / scales[alive, None]
        if not len(units):
            for name in layers:
                lab.note(name, "all its weights are zero")
            return
        clusters = kmeans(
            units, min(scope.k, len(units)), lab.generator, permutations=group, description="clustering kernels"
        )
        shared = Codebook(clusters.centroids[0].view(-1, height, width))
        labels, transforms = (torch.zeros_like(alive, dtype=torch.long) for _ in range(2))
        labels[alive], transforms[alive] = clusters.labels[0], clusters.transforms[0]
        sizes = [len(_kernels(layer)) for layer in layers.values()]
        encodings = [
            ScaledKernels(shared, *(part.view(layer.weight.shape[:2]) for part in parts), len(group), layer.groups)
            for layer, *parts in zip(
                layers.values(), labels.split(sizes), transforms.split(sizes), scales.split(sizes), strict=True
            )
        ]
        before = sum(stored_bits(layer) for layer in layers.values())
        after = shared.bits + sum(encoding.bits() for encoding in encodings)
        for (name, layer), encoding in zip(layers.items(), encodings, strict=True):
            if after < before:
                encode(layer, encoding)
            else:
                lab.note(name, f"a codebook of {len(shared)} would save nothing: {after:,} bits instead of {before:,}")


def _kernels(layer: nn.Conv2d) -> Tensor:
    """The layer's kernels, float32 [Co * Ci / groups, h * w]."""
    return layer.weight.detach().float().flatten(2).flatten(0, 1)


def _scales(kernels: Tensor, centre: int) -> Tensor:
    """sign(centre element) * ||w||_2, with sign(0) = +1; a zero kernel has scale 0."""
    sign = torch.where(kernels[:, centre] < 0, -1.0, 1.0)
    return sign * kernels.norm(dim=1)
