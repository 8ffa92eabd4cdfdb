"""Pictures of encodings: codebooks as sheets of kernels, how often each kernel is used, how filters are shared.

They are drawn from the encodings of the finished network, so every method that uses these encodings gets them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.encodings import ChannelKernels, ScaledKernels, SharedFilters
from bench.encodings.base import Codebook, encoded_layers, stored_tensors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, RED, GREY = "#2a6f97", "#c8553d", "#6c757d"
MOST_KERNELS = 256
"""Kernels on one sheet, at most; the most used are kept."""
MOST_LAYERS = 24
"""Layers in one picture, at most."""


def of_encodings(model: nn.Module) -> dict[str, Figure]:
    """Pictures of a network's encodings by name; empty where it has none that can be drawn."""
    layers = [(name, layer, encoding.content) for name, layer, encoding in encoded_layers(model)]
    pictures: dict[str, Figure] = {}
    books: dict[int, tuple[Codebook, list[ScaledKernels]]] = {}
    for _, _, encoding in layers:
        if isinstance(encoding, ScaledKernels):
            books.setdefault(id(encoding.codebook), (encoding.codebook, []))[1].append(encoding)
    for number, (book, users) in enumerate(list(books.values())[:MOST_LAYERS], 1):
        suffix = f"-{number}" if len(books) > 1 else ""
        uses = kernel_uses(book, users)
        pictures[f"centroids{suffix}"] = centroid_sheet(book.centroids.detach().cpu(), uses)
        pictures[f"use{suffix}"] = use_histogram(uses)
    channels = {name: encoding for name, _, encoding in layers if isinstance(encoding, ChannelKernels)}
    if channels:
        pictures["kernels-per-channel"] = kernels_per_channel(channels)
    shared = {
        name: (encoding, stored_tensors(layer)[0].detach().cpu())
        for name, layer, encoding in layers
        if isinstance(encoding, SharedFilters)
    }
    if shared:
        encodings = {name: encoding for name, (encoding, _) in shared.items()}
        pictures["cluster-sizes"] = cluster_sizes(encodings)
        pictures["cluster-frequencies"] = cluster_frequencies(encodings)
        pictures["centroid-distances"] = centroid_distances({name: filters for name, (_, filters) in shared.items()})
    return pictures


def save(pictures: Mapping[str, Figure], folder: Path) -> None:
    """Write each picture to `folder` as a PNG."""
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight", metadata={"Software": None})


def kernel_uses(book: Codebook, users: list[ScaledKernels]) -> Tensor:
    """How many kernels of the layers in `users` use each entry of a codebook, int64 [k]."""
    used = torch.zeros(len(book), dtype=torch.long)
    for encoding in users:
        labels = encoding.labels[encoding.kept] // len(encoding.permutations)
        used += torch.bincount(labels.cpu(), minlength=len(book))
    return used


def entropy_bits(uses: Tensor) -> float:
    """Entropy of the use of a codebook, in bits; log2 k where all entries are used equally often."""
    share = uses.double() / uses.sum().clamp(min=1)
    return abs(float(torch.xlogy(share, share).sum() / torch.log(torch.tensor(2.0))))


def centroid_sheet(centroids: Tensor, uses: Tensor) -> Figure:
    """The shared kernels [k, h, w] as a grid, the most used first; above each, the number of its uses."""
    order = uses.sort(descending=True, stable=True).indices[:MOST_KERNELS].tolist()
    across = min(16, len(order))
    down = ceil(len(order) / across)
    figure, axes = _subplots(down, across, (across * 0.62 + 0.3, down * 0.78 + 0.5))
    limit = float(centroids.abs().max()) or 1.0
    for axis, index in zip(axes, order, strict=False):
        axis.imshow(centroids[index].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"{int(uses[index]):,}", fontsize=6, pad=2, color=GREY)
    for axis in axes:
        axis.axis("off")
    shown = f"the {len(order)} most used of {len(uses)}" if len(order) < len(uses) else f"{len(order)}"
    figure.suptitle(f"{shown} shared kernels and the number of their uses (red > 0 > blue)", fontsize=9)
    return figure


def use_histogram(uses: Tensor) -> Figure:
    """How often each shared kernel is used, sorted, with the entropy of use and its maximum, log2 k."""
    figure, (axis,) = _subplots(1, 1, (6.4, 3.4))
    ordered = uses.sort(descending=True).values.numpy()
    axis.bar(range(1, len(ordered) + 1), ordered, width=1.0, color=BLUE)
    axis.axhline(float(uses.double().mean()), color=RED, linewidth=1, label="equal use")
    axis.set_xlabel("shared kernels, sorted by use")
    axis.set_ylabel("uses")
    axis.legend(frameon=False, fontsize=8)
    entropy, most = entropy_bits(uses), log2(len(uses))
    axis.set_title(f"{len(uses)} shared kernels: entropy of use {entropy:.2f} of {most:.2f} bits", fontsize=10)
    return figure


def kernels_per_channel(encodings: Mapping[str, ChannelKernels]) -> Figure:
    """For each layer the shares of its input channels that keep none, some or all of their kernels."""
    figure, (axis,) = _subplots(1, 1, (7.2, 0.6 + 0.22 * max(6, len(encodings))))
    levels: dict[str, list[float]] = defaultdict(list)
    for encoding in encodings.values():
        share = encoding.sizes.double() / encoding.kept.sum(1).clamp(min=1)
        edges = {"none": share == 0, "to 1/8": (share > 0) & (share <= 1 / 8)}
        edges |= {"to 1/4": (share > 1 / 8) & (share <= 1 / 4), "to 1/2": (share > 1 / 4) & (share <= 1 / 2)}
        edges |= {"more": (share > 1 / 2) & (share < 1)}
        for label, members in (edges | {"all": share >= 1}).items():
            levels[label].append(float(members.double().mean()))
    left = [0.0] * len(encodings)
    for (label, shares), colour in zip(levels.items(), _blues(len(levels)), strict=True):
        axis.barh(range(len(encodings)), shares, left=left, color=colour, label=label, height=0.85)
        left = [before + more for before, more in zip(left, shares, strict=True)]
    axis.set_yticks(range(len(encodings)), list(encodings), fontsize=6)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of the input channels")
    axis.set_title("Share of the kernels that each input channel keeps", fontsize=10, pad=26)
    axis.legend(ncols=len(levels), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=7)
    return figure


def cluster_sizes(encodings: Mapping[str, SharedFilters]) -> Figure:
    """For each layer the number of clusters with 1, 2, 3, ... filters, also as a label on each bar."""
    figure, axes, names = _by_layer(list(encodings))
    for axis, name in zip(axes, names, strict=False):
        counts = torch.bincount(_sizes(encodings[name]))
        bars = axis.bar(range(len(counts)), counts.numpy(), width=0.9, color=BLUE)
        axis.bar_label(bars, [count or "" for count in counts.tolist()], fontsize=6, color=GREY)
        axis.set_xlim(0.4, max(4.6, len(counts) - 0.4))
        axis.set_ylim(0, float(counts.max()) * 1.15)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_yticks([])
    figure.supxlabel("filters in a cluster", fontsize=9)
    figure.supylabel("clusters", fontsize=9)
    return figure


def cluster_frequencies(encodings: Mapping[str, SharedFilters]) -> Figure:
    """For each layer the sizes of its clusters, the largest first."""
    figure, axes, names = _by_layer(list(encodings))
    for axis, name in zip(axes, names, strict=False):
        ordered = _sizes(encodings[name]).sort(descending=True).values.numpy()
        axis.stairs(ordered, [edge + 0.5 for edge in range(len(ordered) + 1)], fill=True, color=BLUE)
        axis.set_xlim(0.5, len(ordered) + 0.5)
        axis.set_ylim(0, max(2.2, float(ordered.max()) * 1.1))
        for side in (axis.xaxis, axis.yaxis):
            side.get_major_locator().set_params(integer=True)
    figure.supxlabel("clusters, sorted by size", fontsize=9)
    figure.supylabel("filters", fontsize=9)
    return figure


def centroid_distances(centroids: Mapping[str, Tensor]) -> Figure:
    """For each layer mean |centroid_i - centroid_j| over the entries of a filter, as a heat map from 0 up."""
    figure, axes, names = _by_layer(list(centroids))
    for axis, name in zip(axes, names, strict=False):
        flat = centroids[name].flatten(1)
        apart = torch.cdist(flat, flat, p=1) / flat.shape[1]
        axis.imshow(apart.numpy(), cmap="viridis", interpolation="nearest", vmin=0)
        axis.set_title(f"{name}: 0 to {float(apart.max()):.2g}", fontsize=7)
        axis.set_xticks([]), axis.set_yticks([])
    figure.suptitle("mean |centroid i - centroid j|, dark: 0, bright: the layer's largest", fontsize=9)
    return figure


def _sizes(encoding: SharedFilters) -> Tensor:
    return torch.bincount(encoding.labels.cpu(), minlength=encoding.k)


def _by_layer(names: list[str]) -> tuple[Figure, list[Any], list[str]]:
    """A small plot for each layer. If there are more than MOST_LAYERS, for some, evenly spread over the network."""
    step = max(1, ceil(len(names) / MOST_LAYERS))
    names = names[::step]
    across = min(4, len(names))
    down = ceil(len(names) / across)
    figure, axes = _subplots(down, across, (across * 2.1, down * 1.6 + 0.4))
    for axis, name in zip(axes, names, strict=False):
        axis.set_title(name, fontsize=7)
        axis.tick_params(labelsize=6)
    for axis in axes[len(names) :]:
        axis.axis("off")
    return figure, axes, names


def _subplots(down: int, across: int, size: tuple[float, float]) -> tuple[Figure, list[Any]]:
    """A figure without a window, and its axes row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _blues(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["Blues"](0.12 + 0.8 * index / max(1, count - 1)) for index in range(count)]
