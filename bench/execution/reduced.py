"""A convolution or linear layer that computes only what differs and reads only what it needs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.execution.structure import Smaller, smaller
from bench.networks.layers import Layer


class Reduced(nn.Module):
    """`layer` reads the input channels `inputs`, and its outputs are copied to the channels that they stand for.

    The layer is a smaller copy of the original one, so its stride, padding, dilation and any forward of its own stay.
    The bias of the original, [Co], is added after the copy. Only index_select, pad and add are used besides the layer,
    so the module can be compiled and exported.
    """

    inputs: Tensor | None
    outputs: Tensor | None

    def __init__(self, original: Layer, form: Smaller) -> None:
        super().__init__()
        self.axis = -3 if isinstance(original, nn.Conv2d) else -1
        self.layer = resized(original, form.weight, form.groups, bias=form.outputs is None)
        self.pads = form.has_zeros
        self.register_buffer("inputs", form.inputs)
        self.register_buffer("outputs", form.outputs)
        bias = None if form.outputs is None else original.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), bias.requires_grad)

    def forward(self, input: Tensor) -> Tensor:
        if self.inputs is not None:
            input = take(input, self.inputs, self.axis)
        output: Tensor = self.layer(input)
        if self.outputs is not None:
            output = take(output, self.outputs, self.axis, pads=self.pads)
        if self.bias is not None:
            output = output + (self.bias if self.axis == -1 else self.bias[:, None, None])
        return output

    @property
    def weights(self) -> int:
        """How many weights it computes with."""
        return self.layer.weight.numel()

    @property
    def description(self) -> str:
        """What differs from the dense layer: `56 inputs, 32 filters + gather`."""
        words = []
        if self.inputs is not None:
            words.append(f"{len(self.inputs)} inputs")
        if self.outputs is not None:
            words.append(f"{len(self.layer.weight)} filters + gather")
        return ", ".join(words)


def take(values: Tensor, index: Tensor, axis: int, *, pads: bool = False) -> Tensor:
    """Channels of `values` in the order of `index`; with `pads`, an index beyond the last channel gives zeros.

    If channels lie side by side in memory (`channels_last`), they are gathered as the columns of a matrix: torch's
    index_select along the channel axis would return another memory layout, which slows down every layer after it.
    ResNet-18 with half of its filters (224x224, one thread) runs at 1.3x the dense network's speed with index_select
    and at 1.7x with a matrix. A compiler chooses the layout itself, and in an exported graph a gather along the
    channels is one node.
    """
    if (
        axis == -3
        and values.dim() == 4
        and not torch.compiler.is_compiling()
        and values.is_contiguous(memory_format=torch.channels_last)
    ):
        rows = values.permute(0, 2, 3, 1)
        taken = take(rows.reshape(-1, rows.shape[3]), index, -1, pads=pads)
        return taken.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
    if pads:
        values = F.pad(values, (0,) * (2 * (-axis - 1)) + (0, 1))
    return values.index_select(axis, index)


def reduced_forms(layer: Layer) -> list[Reduced]:
    """Smaller forms of the layer: without the inputs and filters that it does not need, and without one of the two.

    Reading fewer inputs takes a gather, which may cost more than it saves, so each combination is a separate form. The
    list is empty if nothing can be left out.
    """
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    forms: dict[tuple[int, ...], Reduced] = {}
    for filters, inputs in ((True, True), (True, False), (False, True)):
        form = smaller(layer.weight, groups, filters=filters, inputs=inputs)
        if form is not None:
            forms.setdefault((form.groups, *form.weight.shape[:2]), Reduced(layer, form))
    return list(forms.values())


def resized(original: Layer, weight: Tensor, groups: int, *, bias: bool) -> Layer:
    """A copy of a layer with a smaller weight, its own or no bias, and everything else as it was."""
    layer = copy.deepcopy(original)
    if weight.dim() == 4 and original.weight.is_contiguous(memory_format=torch.channels_last):
        weight = weight.contiguous(memory_format=torch.channels_last)
    layer.weight = nn.Parameter(weight.to(original.weight.dtype), requires_grad=original.weight.requires_grad)
    if not bias:
        layer.bias = None
    if isinstance(layer, nn.Conv2d):
        layer.groups, layer.out_channels, layer.in_channels = groups, len(weight), weight.shape[1] * groups
    else:
        layer.out_features, layer.in_features = weight.shape
    return layer
