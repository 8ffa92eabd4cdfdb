"""Convolutions that are slower with the channels they have left than they would be with more."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.execution.choice import Choice, Demand, Judge, fastest
from bench.execution.layers import given_to
from bench.execution.reduced import resized
from bench.execution.structure import WIDTH
from bench.networks.layers import convolutions

CLEARLY = Demand(1.05, seconds=0.5, in_doubt=False)
NAMED = 3
"""Layers that the sentence names; the others are counted."""


@dataclass(frozen=True)
class Costly:
    """A convolution that is `factor` times as slow as the same one with more channels, up to the next multiple of 8."""

    name: str
    filters: int
    inputs: int
    wider_filters: int
    wider_inputs: int
    factor: float

    def __str__(self) -> str:
        ours, wider = (f"{inputs} -> {filters}" for inputs, filters in self._sizes)
        return f"{self.name} ({ours} channels) takes {self.factor:.2f}x the time of {wider}"

    @property
    def _sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.inputs, self.filters), (self.wider_inputs, self.wider_filters)


class _Fed(nn.Module):
    """A layer that runs on its own images, whatever it is given: layers of different widths can be timed together."""

    def __init__(self, layer: nn.Module, own: Sequence[Tensor]) -> None:
        super().__init__()
        self.layer, self.own, self.turn = layer, own, 0

    def forward(self, _: Tensor) -> Tensor:
        self.turn = (self.turn + 1) % len(self.own)
        output: Tensor = self.layer(self.own[self.turn])
        return output


def costly_widths(network: nn.Module, dense: nn.Module, images: Tensor, judge: Judge = fastest) -> list[Costly]:
    """Layers that lost channels and are now slower than with the next multiple of 8, by measurement on the device.

    `network` is decoded, `dense` the network it came from, and `images` [N, C, H, W] have the size that is deployed.
    Each convolution that is narrower than in `dense`, and whose filters or input channels are not a multiple of 8 in
    number, is timed in alternation with a copy that has the next multiples. Grouped convolutions are left out.
    """
    before = convolutions(dense)
    odd = {
        name: layer
        for name, layer in convolutions(network).items()
        if name in before and layer.groups == 1 and _wider(layer, before[name]) != layer.weight.shape[:2]
    }
    given = given_to(network, list(odd), images)
    known: dict[Hashable, Choice] = {}
    costly = []
    for name, runs in given.items():
        layer, (filters, inputs) = odd[name], _wider(odd[name], before[name])
        key = (repr(layer), filters, inputs, *runs)
        if key not in known:
            own = [run.with_channels(inputs).like_it(images.device) for run in runs]
            wider = _Fed(_resized(layer, filters, inputs), own)
            known[key] = judge(layer, [wider], [run.like_it(images.device) for run in runs], CLEARLY)
        if known[key].number is not None:
            ours, read = layer.weight.shape[:2]
            costly.append(Costly(name, ours, read, filters, inputs, known[key].speedup))
    return costly


def _wider(layer: nn.Conv2d, before: nn.Conv2d) -> tuple[int, int]:
    """The numbers of filters and inputs. Those that shrank are rounded up to multiples of 8, or to the old number."""
    sizes = zip(layer.weight.shape[:2], before.weight.shape[:2], strict=True)
    filters, inputs = (now if now >= was else min(-(-now // WIDTH) * WIDTH, was) for now, was in sizes)
    return filters, inputs


def _resized(layer: nn.Conv2d, filters: int, inputs: int) -> nn.Module:
    """The layer with other widths and random weights."""
    weight = torch.randn(filters, inputs, *layer.weight.shape[2:], device=layer.weight.device)
    wider = resized(layer, weight, 1, bias=True)
    if layer.bias is not None:
        wider.bias = nn.Parameter(torch.zeros(filters).to(layer.bias))
    return wider


def remark_on_widths(network: nn.Module, dense: nn.Module, images: Tensor) -> str | None:
    """One sentence that names the slowest of `costly_widths` and what helps; None where there are none."""
    costly = costly_widths(network, dense, images)
    if not costly:
        return None
    worst = sorted(costly, key=lambda layer: layer.factor, reverse=True)
    named = "; ".join(map(str, worst[:NAMED]))
    others = f"; and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
    of = "one image" if len(images) == 1 else f"{len(images)} images"
    return f"widths that cost more than they save, with {of}: {named}{others}; round_to={WIDTH} keeps multiples"
