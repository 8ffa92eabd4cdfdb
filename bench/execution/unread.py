"""Filters whose outputs no layer reads, removed from the layers that compute them."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor, nn

from bench.execution.structure import WIDTH
from bench.networks.layers import Layer
from bench.networks.surgery import Cuts, cut, find, merged
from bench.pruning.filters import filter_groups
from bench.pruning.groups import FilterGroup, Slice
from bench.pruning.probe import Probe


def without_unread(model: nn.Module, layers: Collection[str], image: Tensor) -> nn.Module | None:
    """A copy without the filters that no layer reads, as after `kse` has dropped their channels; None if all are read.

    `model` is decoded, `layers` names those that compute with the weight they hold, `image` is [1, C, H, W]. The
    filters stay if a test on random weights shows that removing them all would change what the network computes.
    """
    if not any(_zeros(find(model, name).weight, 1).any() for name in layers):  # type: ignore[union-attr,arg-type]
        return None
    groups, _ = filter_groups(model, image, tied=True)
    cuts: Cuts = merged([group.cuts(_unread(model, layers, group)) for group in groups])
    if not any(cuts.values()) or not Probe(model, image).holds(cuts):
        return None
    smaller = copy.deepcopy(model)
    cut(smaller, cuts)
    return smaller


def _unread(model: nn.Module, layers: Collection[str], group: FilterGroup) -> list[int]:
    """The filters of a group that nothing reads, except for a few that fill the width up to a multiple of `WIDTH`."""
    readers = [each for each in group.slices if each.axis == 1]
    if not readers or any(each.owner not in layers for each in readers):
        return []
    unread = torch.stack([_unread_by(model, each) for each in readers]).all(0)
    count = group.channels - int(unread.sum())
    kept = min(group.channels, max(1, -(-count // WIDTH)) * WIDTH)
    return [int(position) for position in unread.nonzero()[:, 0]][kept - count :]


def _unread_by(model: nn.Module, part: Slice) -> Tensor:
    """Which filters of a group get no weight from one layer, bool [channels]."""
    layer: Layer = model.get_submodule(part.owner)  # type: ignore[assignment]
    zeros = _zeros(layer.weight, 1).tolist()
    return torch.tensor([all(zeros[position] for position in positions) for positions in part.positions])


def _zeros(weight: Tensor, axis: int) -> Tensor:
    """Which positions along an axis have only zeros, bool [positions]."""
    return ~weight.detach().transpose(0, axis).flatten(1).any(1)
