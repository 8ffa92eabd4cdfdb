"""`kse`: kernel sparsity and entropy.

Yuchao Li, Shaohui Lin, Baochang Zhang, Jianzhuang Liu, David Doermann, Yongjian Wu, Feiyue Huang, Rongrong Ji:
Exploiting Kernel Sparsity and Entropy for Interpretable CNN Compression, CVPR 2019, https://arxiv.org/abs/1812.04368.
The more important an input channel is, the more kernels it keeps: none, a few centroids, or all of them.

The released code normalises the indicator twice and computes the entropy from mixed channels. The published table fits
neither, so both are only options here. The released code takes the best of ten starts of scikit-learn's k-means. Ours
starts once, from Ward's clusters, and its inertia is lower: by 4% over all layers of the trained ResNet-20, and by 6%
for a ResNet-56.
Kernels that are zero, as after `l1(granularity=kernel)`, are not clustered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from bench import (
    BenchError,
    ChannelKernels,
    Lab,
    Method,
    Strength,
    bar,
    encodable,
    encode,
    image_readers,
    is_depthwise,
    kmeans,
)

DISTANCES_AT_ONCE = 1 << 24


@dataclass(frozen=True, kw_only=True)
class KSE(Method):
    """Clusters the kernels of each input channel, into more clusters for more important channels; drops the least
    important channels."""

    name = "kse"
    style = ("vermilion", "hexagon")
    paper = "Li et al.: Exploiting Kernel Sparsity and Entropy for Interpretable CNN Compression, CVPR 2019"
    strength = Strength("T", 0.0, 8.0)

    G: Annotated[int, Ge(2), "granularity: number of levels of importance"] = 4
    T: Annotated[int | float, Ge(0), "halve the number of kernels this many more times"] = 0
    alpha: Annotated[float, Ge(0), "weight of the entropy in the indicator"] = 1.0
    K: Annotated[int, Ge(1), "nearest neighbours in the entropy"] = 5
    legacy_entropy: Annotated[bool, "the released code's entropy, of kernels of mixed channels"] = False
    legacy_minmax: Annotated[bool, "normalise the indicator once more, as the released code does"] = False

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        first = image_readers(model, lab)
        layers = encodable(model, lab)
        if not layers.keys() - first:
            raise BenchError(f"{self}: beside the first, the network has no convolution that could still be clustered")
        with bar("clustering channels", len(layers)) as advance:
            for name, layer in layers.items():
                if name in first:
                    lab.note(
                        name, "the network's first convolution, which reads the image, stays dense", reachable=False
                    )
                elif is_depthwise(layer):
                    lab.note(name, "depthwise: a channel has one filter", reachable=False)
                elif not self._encode(layer, lab):
                    lab.note(name, "no input channel stands out")
                advance(1)
        lab.fit(model)
        return model

    def _encode(self, layer: nn.Conv2d, lab: Lab) -> bool:
        kernels = by_input_channel(layer)
        channels, filters, _ = kernels.shape
        alive = (kernels != 0).any(2)
        sizes = self.kernels_kept(self._importance(kernels), filters).minimum(alive.sum(1))
        if not sizes.any():
            return False
        labels = (alive.cumsum(1) - 1).clamp(min=0)
        stored = [kernels[channel, alive[channel]][:size] for channel, size in enumerate(sizes.tolist())]
        for size, count in torch.stack([sizes, alive.sum(1)], 1).unique(dim=0).tolist():
            if 0 < size < count:
                members = ((sizes == size) & (alive.sum(1) == count)).nonzero()[:, 0]
                own = alive[members]
                clusters = kmeans(kernels[members][own].view(len(members), count, -1), size, lab.generator)
                labels[members] = labels[members].masked_scatter(own, clusters.labels)
                for channel, centroids in zip(members.tolist(), clusters.centroids, strict=True):
                    stored[channel] = centroids
        flat = torch.cat(stored).view(-1, *layer.weight.shape[2:])
        encode(layer, ChannelKernels(sizes, labels, flat, layer.groups, alive))
        return True

    def _importance(self, kernels: Tensor) -> Tensor:
        channels, filters, _ = kernels.shape
        # The released code reads [C, N, h * w] as if it were [N, C, h * w].
        mixed = kernels.reshape(filters, channels, -1).transpose(0, 1)
        importance = indicator(kernels, mixed if self.legacy_entropy else kernels, self.alpha, self.K)
        return normalised(importance) if self.legacy_minmax else importance

    def kernels_kept(self, importance: Tensor, filters: int) -> Tensor:
        """q_c of equation 10, int64 [C]: 0, or N, or N halved once for each level below the top and T times more."""
        level = (importance * self.G).ceil()
        some = torch.ceil(filters / 2 ** (self.G - level + self.T)).clamp(min=1)
        kept = torch.where(level == self.G, torch.full_like(some, filters), some)
        return torch.where((importance * self.G).floor() == 0, torch.zeros_like(kept), kept).long()


def by_input_channel(layer: nn.Conv2d) -> Tensor:
    """The kernels that read each input channel, [C, N, h * w]; N = Co / groups."""
    weight = layer.weight.detach().float().flatten(2).unflatten(0, (layer.groups, -1))
    return weight.transpose(1, 2).flatten(0, 1)


def indicator(kernels: Tensor, points: Tensor, alpha: float, neighbours: int) -> Tensor:
    """v_c = sqrt(s_c / (1 + alpha * e_c)) in [0, 1], with sparsity s and entropy e normalised over the layer: [C].

    The sparsity is that of `kernels` [C, N, h * w]. The entropy is that of `points`: the same kernels, except in the
    released code.
    """
    sparsity = kernels.abs().sum((1, 2))
    return (normalised(sparsity) / (1 + alpha * normalised(entropy(points, neighbours)))).sqrt()


def normalised(values: Tensor) -> Tensor:
    """Values scaled to [0, 1] by their minimum and maximum; a constant vector becomes 0."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


def entropy(kernels: Tensor, neighbours: int) -> Tensor:
    """e_c in bits, [C]: the entropy of the distances of a channel's kernels to their nearest neighbours, as shares."""
    filters = kernels.shape[1]
    neighbours = min(neighbours, filters - 1)
    if neighbours == 0:
        return kernels.new_zeros(len(kernels))
    step = max(1, DISTANCES_AT_ONCE // filters**2)
    near = torch.cat([_nearest_distances(some, neighbours).sum(2) for some in kernels.split(step)])
    share = near / near.sum(1, keepdim=True).clamp(min=torch.finfo(near.dtype).tiny)
    return -torch.xlogy(share, share).sum(1) / torch.log(torch.tensor(2.0))


def _nearest_distances(points: Tensor, neighbours: int) -> Tensor:
    """Distances of each point to its nearest neighbours, [C, N, K]. On a line these are next to it when sorted."""
    if points.shape[2] > 1:
        apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        apart.diagonal(dim1=1, dim2=2).fill_(float("inf"))
        return apart.topk(neighbours, dim=2, largest=False).values
    ordered = points[:, :, 0].sort(1).values
    padded = torch.nn.functional.pad(ordered, (neighbours, neighbours), value=float("inf"))
    windows = padded.unfold(1, 2 * neighbours + 1, 1) - ordered[:, :, None]
    windows[:, :, neighbours] = float("inf")
    return windows.abs().topk(neighbours, dim=2, largest=False).values
