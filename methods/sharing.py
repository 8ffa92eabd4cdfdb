"""`sharing`: the weights of each layer share a few values.

Han, Mao, Dally: Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
Coding, ICLR 2016, https://arxiv.org/abs/1510.00149. The weights of each layer are clustered into k shared ones by
k-means on a line. Labels stay; the shared weights are trained, each by the sum of the gradients of its weights. Weights
that an earlier stage has set to zero stay zero and are not clustered.

    the paper's pipeline        magnitude(rate=0.8)+sharing(k=32), and +quantize(bits=8) rounds the shared weights
    its convolutions            k=256, 8 bits per label
    its linear layers           k=32, 5 bits per label

Published: AlexNet 240 MB to 6.9 MB, VGG-16 552 MB to 11.3 MB, both without loss of accuracy. This includes Huffman
coding; here `artifact_compressed_bytes` is the size after another entropy coder, beside the size of the file itself.

Departures: a cluster that ends up empty is dropped. Positions of kept weights are stored as in `Mask`, not as
differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from bench import (
    BenchError,
    Lab,
    Mask,
    Method,
    SharedWeights,
    Strength,
    bar,
    encode,
    encoding_of,
    weighted_layers,
)

MOST_ITERATIONS = 1000

Start = Literal["linear", "density", "random"]


@dataclass(frozen=True, kw_only=True)
class Sharing(Method):
    """Clusters the weights of each layer, including linear layers and the classifier, and trains the shared values."""

    name = "sharing"
    style = ("sky", "pentagon")
    paper = "Han, Mao, Dally: Deep Compression, ICLR 2016"
    tested = ("sharing(k=8)", "sharing(k=3, start=density)")
    finishes = True
    strength = Strength("k", 256, 2, log=True)

    k: Annotated[int, Ge(1), "shared weights of a layer"] = 32
    start: Annotated[
        Start, "where k-means starts: values evenly spaced over the range, or over the distribution, or random weights"
    ] = "linear"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        layers = self._layers(model, lab)
        if not layers:
            raise BenchError(f"{self}: an earlier method has encoded every weight in another way than by zeros")
        with bar("clustering weights", len(layers)) as advance:
            for name, layer in layers.items():
                self._share(name, layer, lab)
                advance(1)
        lab.fit(model)
        return model

    def _layers(self, model: nn.Module, lab: Lab) -> dict[str, nn.Conv2d | nn.Linear]:
        """The layers that are dense or masked."""
        layers = {}
        for name, layer in weighted_layers(model).items():
            if isinstance(encoding := encoding_of(layer), Mask | None):
                layers[name] = layer
            else:
                lab.note(name, f"{encoding.kind} of an earlier method stays")
        return layers

    def _share(self, name: str, layer: nn.Conv2d | nn.Linear, lab: Lab) -> None:
        weight, mask = layer.weight.detach(), encoding_of(layer)
        kept = mask.kept if isinstance(mask, Mask) else None
        values = weight.flatten() if kept is None else weight[kept].flatten()
        if not len(values):
            return
        centroids, own = cluster_line(values, first_centroids(values, self.k, self.start, lab.generator))
        labels = own.view_as(weight) if kept is None else torch.zeros_like(weight, dtype=torch.long)
        if kept is not None:
            labels[kept] = own.view_as(weight[kept])
        encode(layer, SharedWeights(labels, centroids, kept))
        lab.note(name, f"{len(values)} weights share {len(centroids)} values")


def first_centroids(values: Tensor, k: int, start: Start, generator: torch.Generator) -> Tensor:
    """Where k-means starts on `values` [n] (section 3.2 of the paper); float64, at most k, in order."""
    values = values.double()
    if start == "random":
        chosen = torch.randperm(len(values), generator=generator)[:k].to(values.device)
        return values[chosen].sort().values
    places = torch.linspace(0, 1, k, dtype=torch.float64, device=values.device)
    if start == "linear":
        return values.min() + places * (values.max() - values.min())
    return values.sort().values[(places * (len(values) - 1)).round().long()]


def cluster_line(values: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Lloyd's k-means of `values` [n] from sorted `centroids` [k], until no label changes.

    On a line a cluster is an interval of the sorted values, so that an iteration takes k searches. Returns the
    centroids of the clusters that are not empty, in order and of the values' type, and the labels int64 [n].
    """
    ordered, places = values.double().sort()
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    ends: Tensor | None = None
    for _ in range(MOST_ITERATIONS):
        middles = (centroids[1:] + centroids[:-1]) / 2
        latest = torch.cat([torch.searchsorted(ordered, middles), places.new_tensor([len(values)])])
        if ends is not None and torch.equal(latest, ends):
            break
        ends = latest
        sizes = ends.diff(prepend=ends.new_zeros(1))
        means = (sums[ends] - sums[ends - sizes]) / sizes.clamp(min=1)
        centroids = torch.where(sizes > 0, means, centroids)
    taken = sizes > 0
    labels = torch.empty_like(places)
    labels[places] = torch.arange(int(taken.sum()), device=places.device).repeat_interleave(sizes[taken])
    return centroids[taken].to(values.dtype), labels
