"""A convolution whose input channels have few different kernels: these kernels first, then a 1x1 convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.execution.reduced import resized, take
from bench.execution.structure import WIDTH
from bench.networks.layers import Layer

EXACT = 1e-6
"""Singular values below this share of a channel's largest are rounding errors: decoded kernels are 32-bit floats."""
DEPTHWISE_PRICE = 8
"""How many times as long a multiply-add takes in a depthwise convolution as in another. This is an estimate from the
layers of ResNet-18 on one core; it only decides what is tried."""


class Take(nn.Module):
    """Selects some of the channels, like the function `take`."""

    index: Tensor

    def __init__(self, chosen: Tensor) -> None:
        """`chosen` is bool [C]."""
        super().__init__()
        self.register_buffer("index", chosen.nonzero()[:, 0])

    def forward(self, input: Tensor) -> Tensor:
        return take(input, self.index, -3)


class Factored(nn.Module):
    """Kernel j of each input channel is convolved with the channel, and a 1x1 convolution adds up the results.

    The weight is W[o, c] = sum_j P[o, c, j] K[c, j], j < r_c, where r_c is the rank of a channel's kernels W[:, c], a
    matrix [Co, h * w]: at most the number of the channel's different kernels, not counting transforms and scales.
    Channels of a higher rank are read by `rest`, a dense convolution; channels without any weight are not read.
    """

    def __init__(self, original: nn.Conv2d, kernels: Tensor, mix: Tensor, ranks: Tensor, rest: Tensor) -> None:
        """`kernels` [Ci, r, h, w] are K, `mix` [Co, Ci, r] is P, `ranks` int64 [Ci] are r_c, and 0 for the channels of
        `rest`, bool [Ci]."""
        super().__init__()
        levels = [ranks > number for number in range(int(ranks.max()))]
        self.branches = nn.ModuleList(
            _reading(has, resized(original, kernels[has, number][:, None], int(has.sum()), bias=False))
            for number, has in enumerate(levels)
        )
        together = torch.cat([mix[:, has, number] for number, has in enumerate(levels)], 1)
        self.mix = nn.Conv2d(together.shape[1], len(together), 1, bias=original.bias is not None)
        self.mix.weight = nn.Parameter(together[:, :, None, None].to(original.weight.dtype))
        if original.bias is not None:
            self.mix.bias = nn.Parameter(original.bias.detach().clone())
        self.mix.requires_grad_(original.weight.requires_grad)
        weight = original.weight.detach()[:, rest]
        self.rest = _reading(rest, resized(original, weight, 1, bias=False)) if rest.any() else None
        mixed = int((ranks > 0).sum())
        self.description = f"{mixed} inputs by {len(levels)} kernel{'s' * (len(levels) > 1)} + 1x1"
        if self.rest is not None:
            self.description += f", {int(rest.sum())} inputs"

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.mix(torch.cat([branch(input) for branch in self.branches], -3))
        return output if self.rest is None else output + self.rest(input)

    @property
    def weights(self) -> int:
        """How many weights it computes with."""
        return sum(parameter.numel() for parameter in self.parameters()) - (
            0 if self.mix.bias is None else self.mix.bias.numel()
        )


def factored_form(layer: Layer) -> Factored | None:
    """The layer with few kernels per channel; None if no channel has few enough of them to save anything.

    A count of multiply-adds per position decides up to which rank channels are factored: r_c kernels cost
    r_c * (`DEPTHWISE_PRICE` * h * w + Co), a dense channel costs h * w * Co.
    """
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.weight[0, 0].numel() == 1:
        return None
    weight = layer.weight.detach().cpu().double().flatten(2)
    values, vectors = torch.linalg.eigh(torch.einsum("ocn,ocm->cnm", weight, weight))  # ascending
    ranks = (values > EXACT**2 * values[:, -1:]).sum(1)
    filters, _, area = weight.shape
    gain = filters * area - ranks * (DEPTHWISE_PRICE * area + filters)
    mixed = _without_odd_ones(gain > 0, ranks)
    if not (mixed & (ranks > 0)).any():
        return None
    kernels = vectors.flip(2).transpose(1, 2)  # [Ci, h * w, h * w], the most important first
    mix = torch.einsum("ocn,cjn->ocj", weight, kernels)
    shaped = kernels.unflatten(2, tuple(layer.weight.shape[2:]))
    return Factored(layer, shaped, mix, torch.where(mixed, ranks, 0), ~mixed).to(layer.weight.device)


def _without_odd_ones(mixed: Tensor, ranks: Tensor) -> Tensor:
    """The channels to be factored, bool [Ci]. Some of the highest ranks are left to the dense convolution, so that its
    width is a multiple of `WIDTH`: 6 channels take longer than 8."""
    dense = len(mixed) - int(mixed.sum())
    dense = min(len(mixed), -(-dense // WIDTH) * WIDTH)
    fewer = mixed.clone()
    fewer[torch.where(mixed, ranks, ranks.max() + 1).sort(descending=True, stable=True).indices[:dense]] = False
    return fewer


def _reading(chosen: Tensor, layer: nn.Module) -> nn.Module:
    """The layer, behind a selection of the channels that it reads."""
    return layer if chosen.all() else nn.Sequential(Take(chosen), layer)
