"""The layers that methods work on; and parametrized weights turned back into plain ones."""

from __future__ import annotations

import copy
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.networks.example import HasExample, example_of

Layer: TypeAlias = nn.Conv2d | nn.Linear
"""A layer whose weight can be encoded: [Co, Ci / groups, h, w] of a convolution, [Co, Ci] of a linear layer."""


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """Every 2-d convolution by its name in the network, in the order of definition; subclasses and encoded ones too."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}


def weighted_layers(model: nn.Module) -> dict[str, Layer]:
    """Every 2-d convolution and linear layer by name, in the order of `convolutions`: all whose weight can be encoded.

    A layer that is used in several places is listed once, under its first name. Weights that belong to no such layer,
    such as the input projection of `nn.MultiheadAttention`, are not listed.
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, Layer)}


def other_convolutions(model: nn.Module) -> list[nn.Module]:
    """Convolutions that are not `nn.Conv2d` and that no method touches: conditional, transposed, 1-d or 3-d."""
    return [
        module
        for module in model.modules()
        if not isinstance(module, nn.Conv2d)
        and (isinstance(module, nn.modules.conv._ConvNd) or "Conv" in type(module).__name__)
        and module._parameters.get("weight") is not None
    ]


def is_depthwise(layer: nn.Conv2d) -> bool:
    """Whether each filter sees one input channel of its own."""
    return layer.groups > 1 and layer.groups == layer.in_channels


def is_classifier(model: nn.Module, layer: nn.Module) -> bool:
    """Whether a layer is the network's classifier. timm's networks say so. In others, it is the layer that is defined
    last of those with one output for each of the network's `num_classes`."""
    own: Any = getattr(model, "get_classifier", None)
    classifier = own() if callable(own) else None
    classes = getattr(model, "num_classes", None)
    if not callable(own) and _outputs(layer) == classes:
        classifier = [other for other in weighted_layers(model).values() if _outputs(other) == classes][-1:]
    return layer in (classifier if isinstance(classifier, tuple | list) else [classifier])


def _outputs(layer: nn.Module) -> int:
    outputs: int = getattr(layer, "out_channels", getattr(layer, "out_features", 0))
    return outputs


@torch.no_grad()
def image_readers(model: nn.Module, example: HasExample | Tensor) -> set[str]:
    """The names of the convolutions that read the image itself: the stem, or the parallel branches of a stem.

    If another operation comes before every convolution, it is the convolution that runs first. `example` is the lab, or
    images [N, C, H, W] on the model's device.
    """
    example_input = example_of(example)
    readers, order = set[str](), list[str]()
    names = {layer: name for name, layer in convolutions(model).items()}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        order.append(names[cast(nn.Conv2d, layer)])
        if inputs[0].untyped_storage().data_ptr() == example_input.untyped_storage().data_ptr():
            readers.add(order[-1])

    was_training = model.training
    handles = [layer.register_forward_pre_hook(note) for layer in names]
    try:
        model.eval()(example_input)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return readers or set(order[:1])


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The network itself, moved to the device, with its weights in the memory layout that suits convolutions best."""
    return model.to(device=device).to(memory_format=torch.channels_last)


def fold(model: nn.Module) -> nn.Module:
    """A copy in which every encoded weight is decoded to a plain parameter."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for module in list(twin.modules()):
            if parametrize.is_parametrized(module):
                unparametrize(module)
    return twin


def unparametrize(module: nn.Module) -> None:
    """Make every parametrized tensor of a module a plain parameter.

    `parametrize.remove_parametrizations` would change the class that a copy shares with its original.
    """
    decoded: dict[str, Tensor] = {
        name: getattr(module, name).detach().clone()
        for name in list(module.parametrizations)  # type: ignore[arg-type]
    }
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, value in decoded.items():
        module.register_parameter(name, nn.Parameter(value))
