"""The tensors of a network during one training, as they are stored and put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name; one that several layers share has several names."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


@dataclass(frozen=True)
class Stored:
    """The tensors of a network, each once. `names` leads from every name to the one that its tensor is stored under.

    `replaced` are buffers that were other objects when the training began: a method may assign new masks.
    """

    tensors: dict[str, Tensor]
    names: dict[str, str]
    replaced: list[str]


class NetworkState:
    """A network, and what its tensors were when the training began."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = tensors_of(model)
        self._trainable = {name for name, tensor in self.before.items() if tensor.requires_grad}

    def now(self) -> Stored | None:
        """What the network holds now; None if it cannot be put into the network that there was before."""
        now = tensors_of(self.model)
        if now.keys() != self.before.keys():
            return None
        if {name for name, tensor in now.items() if tensor.requires_grad} != self._trainable:
            return None
        replaced = [name for name, tensor in now.items() if tensor is not self.before[name]]
        if any(isinstance(now[name], nn.Parameter) for name in replaced):
            return None  # the optimiser still has the old one
        first: dict[int, str] = {}
        names = {name: first.setdefault(id(tensor), name) for name, tensor in now.items()}
        return Stored({name: now[name] for name in first.values()}, names, replaced)

    def check(self, stored: Stored) -> None:
        """ValueError if `load` cannot put these tensors into the network."""
        self._objects(stored)

    @torch.no_grad()
    def load(self, stored: Stored) -> None:
        """Put the tensors into the network: in place, except for those that were replaced."""
        objects = self._objects(stored)
        for name, tensor in stored.tensors.items():
            if (there := objects.get(name)) is not None:
                there.copy_(tensor)
            else:
                objects[name] = tensor.to(self.before[name].device)
        for name in stored.replaced:
            layer, _, own = name.rpartition(".")
            self.model.get_submodule(layer)._buffers[own] = objects[stored.names[name]]

    def _objects(self, stored: Stored) -> dict[str, Tensor]:
        """The tensors of the network that stay, by the names that their values are stored under."""
        buffers = dict(self.model.named_buffers(remove_duplicate=False))
        if stored.names.keys() != self.before.keys() or not set(stored.replaced) <= buffers.keys():
            raise ValueError("other tensors")
        if set(stored.names.values()) != stored.tensors.keys():
            raise ValueError("tensors are missing")
        objects: dict[str, Tensor] = {}
        for name in self.before.keys() - set(stored.replaced):
            there, value = self.before[name], stored.tensors[stored.names[name]]
            if objects.setdefault(stored.names[name], there) is not there:
                raise ValueError(f"{name} is no longer shared")
            if (there.shape, there.dtype) != (value.shape, value.dtype):
                raise ValueError(f"{name} is another tensor")
        return objects


def momenta(optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    """The momentum of each parameter that has been updated, by its position."""
    parameters = enumerate(optimiser.param_groups[0]["params"])
    found = {str(index): optimiser.state.get(parameter, {}).get("momentum_buffer") for index, parameter in parameters}
    return {index: momentum for index, momentum in found.items() if momentum is not None}


def load_momenta(optimiser: torch.optim.SGD, stored: Mapping[str, Tensor]) -> None:
    """Put back what `momenta` returned. ValueError, before anything is changed, if it does not fit."""
    parameters = {str(index): parameter for index, parameter in enumerate(optimiser.param_groups[0]["params"])}
    for index, momentum in stored.items():
        if index not in parameters or parameters[index].shape != momentum.shape:
            raise ValueError(f"there is no parameter {index} of this shape")
    for index, momentum in stored.items():
        optimiser.state[parameters[index]]["momentum_buffer"] = momentum.to(parameters[index])
