"""The layers methods work on, and parametrized weights put back as plain ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Every 2-d convolution by its name in the network, in the order of definition; subclasses and encoded ones too."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def is_depthwise(layer: nn.Conv2d) -> bool:
    """Whether each filter sees one input channel of its own."""
    return layer.groups > 1 and layer.groups == layer.in_channels


def is_classifier(model: nn.Module, layer: nn.Module) -> bool:
    """Whether the network says so of a layer; timm's do."""
    own: Any = getattr(model, "get_classifier", None)
    found = own() if callable(own) else None
    return layer in (found if isinstance(found, tuple | list) else [found])


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The network itself, moved, its weights laid out as convolutions like them best."""
    return model.to(device=device).to(memory_format=torch.channels_last)


def fold(model: nn.Module) -> nn.Module:
    """A copy that holds every encoded weight decoded, as a plain parameter: what is deployed, timed and tested.

    `parametrize.remove_parametrizations` would change the class that a copy shares with its original.
    """
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for module in list(twin.modules()):
            if parametrize.is_parametrized(module):
                _unparametrize(module)
    return twin


def _unparametrize(module: nn.Module) -> None:
    decoded: dict[str, Tensor] = {
        name: getattr(module, name).detach().clone()
        for name in list(module.parametrizations)  # type: ignore[arg-type]
    }
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in decoded.items():
        module.register_parameter(name, nn.Parameter(value))
