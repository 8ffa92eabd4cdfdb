"""How important each filter is, by several criteria.

Scores are float64 [channels] on the CPU, by convolution name, and higher for filters that matter more. The feature map
of a filter is read after batch norm and activation. The network runs as it is used: in evaluation mode and in full
precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.data.feed import Batch
from bench.networks.example import HasExample, example_of
from bench.networks.layers import convolutions
from bench.networks.work import layer_work
from bench.pruning.feature_maps import FeatureMaps
from bench.pruning.groups import FilterGroup
from bench.pruning.scores import checked_scores, entry
from bench.system.progress import bar

if TYPE_CHECKING:
    from bench.training.lab import Lab

Scores = dict[str, Tensor]

Criterion = Literal["taylor", "weight", "mean", "std", "zeros", "random", "oracle"]
"""The criteria by which filters are ranked; `rank_filters` says how each is computed."""

PIXELS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 21}
"""Most pixels in one pass: 128 images of 32x32 on a CPU, whose caches are small; 41 of 224x224 on a GPU."""


def rank_filters(
    model: nn.Module, lab: Lab, criterion: Criterion, batches: Iterable[Batch], *, legacy_signed: bool = False
) -> Scores:
    """Score the filters of every convolution that runs: float64 [channels] by name, for `group_scores`.

    The criteria are those of Molchanov, Tyree, Karras, Aila and Kautz (ICLR 2017, https://arxiv.org/abs/1611.06440,
    section 2.2):

    - `taylor`: by how much the loss changes without the filter, to first order (`taylor_scores`).
    - `oracle`: by how much it changes exactly (`loss_changes`); slow.
    - `weight`: mean square of the filter's weights.
    - `mean`: mean magnitude of its feature map, which after a ReLU is the paper's mean.
    - `std`: standard deviation of its feature map.
    - `zeros`: share of its feature map above zero, which after a ReLU is 1 minus the average percentage of zeros.
    - `random`: random numbers from the lab's generator.

    `batches` are images [B, C, H, W] and labels [B]. They are drawn only by criteria that look at images.
    `legacy_signed` belongs to `taylor`.
    """
    maps = FeatureMaps(model, lab.example_input)
    if criterion == "taylor":
        return taylor_scores(maps, batches, signed=legacy_signed)
    if criterion == "oracle":
        return loss_changes(maps, batches)
    if criterion == "weight":
        return weight_scores(maps)
    if criterion == "random":
        return random_scores(maps, lab.generator)
    return activation_scores(maps, batches)[criterion]


def group_scores(
    group: FilterGroup,
    scores: Mapping[str, Tensor],
    *,
    normalise: bool = True,
    costs: Mapping[str, float] | None = None,
) -> Tensor:
    """One score for each filter of a group, [channels]: the sum of its convolutions' scores.

    `scores` are what `rank_filters` returns. `normalise` divides the sum by its L2 norm, so that layers can be
    compared. `costs`, by convolution name, are subtracted afterwards: what one filter costs, in units of the score.
    Raises MethodFault where a convolution of the group has no scores or no cost, or scores that cannot be used.
    """
    parts = [
        checked_scores(entry(scores, name, "scores"), name, (group.channels,)).double() for name in group.convolutions
    ]
    total = torch.stack(parts).sum(0)
    cost = sum(entry(costs, name, "costs") for name in group.convolutions) if costs else 0.0
    return (normalised(total) if normalise else total) - cost


def filter_macs(model: nn.Module, example: HasExample | Tensor) -> dict[str, float]:
    """Multiply-adds of one filter of each convolution for one image, in millions, by convolution name.

    Multiply-adds of the layers that read the filter do not count. `example` is the lab, or images [N, C, H, W].
    """
    _, channels, height, width = example_of(example).shape
    counts = layer_work(model, (channels, height, width))
    return {name: counts[name].macs / layer.out_channels / 1e6 for name, layer in convolutions(model).items()}


def normalised(scores: Tensor) -> Tensor:
    """Scores divided by their L2 norm; zeros stay zeros."""
    norm: Tensor = torch.linalg.vector_norm(scores)
    return scores / norm.clamp(min=torch.finfo(scores.dtype).tiny)


def taylor_scores(maps: FeatureMaps, batches: Iterable[Batch], *, signed: bool = False) -> Scores:
    """First-order change of the loss C without a feature map z: |1/M * sum over its M positions of dC/dz * z|.

    This is computed for each example and averaged. `signed` sums over all examples before the absolute value is taken,
    as J. Gildenblat's implementation does (https://github.com/jacobgil/pytorch-pruning). With a gate g = 1 on the
    feature map of each example, the sum of dC/dz * z is dC/dg.
    """
    totals, examples = _zeros(maps), 0
    for images, labels in _pieces(batches):
        slopes = _gate_slopes(maps, images, labels)
        for name, slope in slopes.items():
            totals[name] += (slope if signed else slope.abs()).sum(0).cpu()
        examples += len(labels)
    return {name: total.abs() / max(1, examples) for name, total in totals.items()}


@torch.enable_grad()
def _gate_slopes(maps: FeatureMaps, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """dC/dg / M of each example, [B, channels]; M counts the positions of all maps that a convolution produced."""
    gates = {
        name: torch.ones(len(images), count, device=images.device, requires_grad=True)
        for name, count in maps.channels.items()
    }
    positions = dict.fromkeys(gates, 0)

    def gate(name: str, values: Tensor) -> Tensor:
        positions[name] += values[:, 0].numel() // min(len(values), len(images))
        return _gated(values, gates[name])

    loss = F.cross_entropy(maps.run(images, gate).float(), labels, reduction="sum")
    slopes = torch.autograd.grad(loss, list(gates.values()), allow_unused=True, materialize_grads=True)
    return {name: slope.double() / max(1, positions[name]) for name, slope in zip(gates, slopes, strict=True)}


def _gated(values: Tensor, gates: Tensor) -> Tensor:
    """Feature maps [B * n, C, H, W] times gates [B, C].

    Some networks cut each image into n windows, which lie side by side in the batch. A map that all images share,
    [1, C, H, W], is multiplied by the mean of their gates.
    """
    if len(values) < len(gates):
        gates = gates.mean(0, keepdim=True)
    gates = gates.to(values.dtype).repeat_interleave(len(values) // len(gates), 0)
    return values * gates[:, :, None, None]


@torch.no_grad()
def activation_scores(maps: FeatureMaps, batches: Iterable[Batch]) -> dict[str, Scores]:
    """The criteria `mean`, `std` and `zeros`, in one pass over the batches."""
    sums = {name: torch.zeros(4, count, dtype=torch.double) for name, count in maps.channels.items()}
    counts = dict.fromkeys(sums, 0)

    def record(name: str, values: Tensor) -> Tensor:
        wide = values.double()
        sums[name] += torch.stack([f.sum((0, 2, 3)) for f in (wide, wide.abs(), wide.square(), wide > 0)]).cpu()
        counts[name] += values[:, 0].numel()
        return values

    for images, _ in _pieces(batches):
        maps.run(images, record)
    averages = {name: total / max(1, counts[name]) for name, total in sums.items()}
    return {
        "mean": {name: magnitude for name, (_, magnitude, _, _) in averages.items()},
        "std": {name: (square - mean.square()).clamp(min=0).sqrt() for name, (mean, _, square, _) in averages.items()},
        "zeros": {name: positive for name, (_, _, _, positive) in averages.items()},
    }


def weight_scores(maps: FeatureMaps) -> Scores:
    """Mean square of each filter's weights."""
    layers = convolutions(maps.model)
    return {name: layers[name].weight.detach().double().square().mean((1, 2, 3)).cpu() for name in maps.channels}


def random_scores(maps: FeatureMaps, generator: torch.Generator) -> Scores:
    """Uniform random numbers in [0, 1)."""
    return {name: torch.rand(count, generator=generator, dtype=torch.double) for name, count in maps.channels.items()}


@torch.no_grad()
def loss_changes(maps: FeatureMaps, batches: Iterable[Batch]) -> Scores:
    """The oracle: |C(filter gated to 0) - C| for each filter, with C the mean loss over the images; exact, and slow.

    One pass holds several copies of the same images, each without a different filter.
    """
    changes, examples = _zeros(maps), 0
    pieces = list(_pieces(batches))
    with bar("gating filters", sum(maps.channels.values()) * len(pieces)) as advance:
        for images, labels in pieces:
            whole = _losses(maps.model(images), labels).sum()
            at_once = max(1, _images_at_once(images) // len(images))
            for name, count in maps.channels.items():
                for filters in torch.arange(count).split(1 if name in maps.shared else at_once):
                    changes[name][filters] += (_losses_without(maps, name, filters, images, labels) - whole).cpu()
                    advance(len(filters))
            examples += len(labels)
    return {name: change.abs() / max(1, examples) for name, change in changes.items()}


def _losses_without(maps: FeatureMaps, layer: str, filters: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The loss summed over images, without each of these filters of one layer; float64 [len(filters)]."""
    gates = torch.ones(len(filters), maps.channels[layer], device=images.device)
    gates[range(len(filters)), filters] = 0
    gates = gates.repeat_interleave(len(images), 0)
    copies = images.repeat(len(filters), 1, 1, 1)
    outputs = maps.run(copies, lambda name, values: _gated(values, gates) if name == layer else values)
    return _losses(outputs, labels.repeat(len(filters))).view(len(filters), -1).sum(1)


def _losses(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs.float(), labels, reduction="none").double()


def _zeros(maps: FeatureMaps) -> Scores:
    return {name: torch.zeros(count, dtype=torch.double) for name, count in maps.channels.items()}


def _pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches in pieces that are small enough to hold every feature map of a network."""
    for images, labels in batches:
        yield from zip(images.split(_images_at_once(images)), labels.split(_images_at_once(images)), strict=True)


def _images_at_once(images: Tensor) -> int:
    return max(1, PIXELS_AT_ONCE[images.device.type] // images[0, 0].numel())
