"""Make tensors smaller: cut channels out of a network's layers, or give a network the shapes of a smaller one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Cuts = dict[tuple[str, int], set[int]]
"""Positions to remove, by axis and owner: the name of a layer, or of a parameter outside the layers."""

BatchNorm = nn.modules.batchnorm._BatchNorm


def is_channelwise(module: nn.Module) -> bool:
    """Whether each channel has exactly one filter: depthwise, without a multiplier."""
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels


def shrink_to(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give a network the tensor shapes of a smaller one, by state-dict name; changed tensors become zeros.

    Names that the network lacks are ignored.
    """
    for prefix, module in model.named_modules():
        changed = False
        for name, tensor in tensors_of(module):
            shape = tuple(shapes.get(f"{prefix}.{name}" if prefix else name, tensor.shape))
            if shape != tuple(tensor.shape):
                _replace(module, name, tensor.new_zeros(shape))
                changed = True
        if changed:
            _match_attributes(module)


def merged(several: Sequence[Cuts]) -> Cuts:
    """All positions of several cuts in one."""
    merged: Cuts = defaultdict(set)
    for cuts in several:
        for place, positions in cuts.items():
            merged[place] |= positions
    return merged


def cut(model: nn.Module, cuts: Cuts) -> None:
    """Remove positions from the tensors of `model`, and adjust the attributes of its layers to the new shapes.

    Axis 0 of a layer is removed from all of its tensors, other axes from its weight.
    """
    for (owner, axis), positions in cuts.items():
        part = find(model, owner)
        if isinstance(part, nn.Module):
            for name, tensor in tensors_of(part):
                if name == "weight" or (axis == 0 and tensor.dim()):
                    _replace(part, name, _without(tensor, axis, positions))
            _match_attributes(part)
        else:
            parent, _, name = owner.rpartition(".")
            _replace(model.get_submodule(parent), name, _without(part, axis, positions))


def find(model: nn.Module, owner: str) -> nn.Module | Tensor:
    """The layer, parameter or buffer of that dotted name; AttributeError where there is none."""
    parent, _, name = owner.rpartition(".")
    part: nn.Module | Tensor = getattr(model.get_submodule(parent), name)
    return part


def tensors_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers of a layer itself, without those of the layers in it, by name."""
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _without(tensor: Tensor, axis: int, positions: set[int]) -> Tensor:
    if tensor.shape[axis] == 1:
        return tensor.detach()  # one number for all channels
    kept = [position for position in range(tensor.shape[axis]) if position not in positions]
    smaller = tensor.detach().index_select(axis, torch.tensor(kept, dtype=torch.long, device=tensor.device))
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return smaller.contiguous(memory_format=torch.channels_last)
    return smaller


def _replace(module: nn.Module, name: str, tensor: Tensor) -> None:
    old = getattr(module, name)
    parameter = isinstance(old, nn.Parameter)
    setattr(module, name, nn.Parameter(tensor, requires_grad=old.requires_grad) if parameter else tensor)


def _match_attributes(module: nn.Module) -> None:
    """Set a layer's sizes, such as `out_channels`, to those of its tensors."""
    if isinstance(module, nn.Conv2d):
        module.groups = len(module.weight) if is_channelwise(module) else module.groups
        module.out_channels, module.in_channels = len(module.weight), module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, BatchNorm):
        module.num_features = len(next(tensor for _, tensor in tensors_of(module) if tensor.dim()))
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
