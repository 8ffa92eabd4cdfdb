"""For each layer of a network, the form in which it is executed."""

from __future__ import annotations

import copy
from collections.abc import Collection, Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.execution.choice import OF_A_LAYER, Choice, Judge
from bench.execution.factored import Factored, factored_form
from bench.execution.reduced import Reduced, reduced_forms
from bench.networks.layers import Layer, weighted_layers

DENSE = "dense"
LEAST_SAVING = 1.05
"""A form that keeps more than this share of a layer's weights is not timed."""
TOLERANCE = 1e-4
"""How far outputs of an executable form may differ from those of the decoded one, as a share of the largest output."""
ROUNDED_TOLERANCE = 1e-2
"""The same where a CUDA device rounds the factors of convolutions to TF32, which torch allows unless told otherwise."""


@dataclass(frozen=True)
class LayerForm:
    """How a layer is executed, in words. `speedup` is the speed-up over the dense layer that was measured when the form
    was chosen; None for a dense layer, and for one that lost channels, which is not timed against the whole one."""

    form: str = DENSE
    speedup: float | None = None


@dataclass(frozen=True)
class Given:
    """The input that a layer got in one of its runs."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    format: torch.memory_format

    @classmethod
    def of(cls, values: Tensor) -> Given:
        beside = values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last)
        return cls(tuple(values.shape), values.dtype, torch.channels_last if beside else torch.contiguous_format)

    def with_channels(self, count: int) -> Given:
        """The same images [N, C, H, W] with another number of channels."""
        return replace(self, shape=(*self.shape[:-3], count, *self.shape[-2:]))

    def like_it(self, device: torch.device) -> Tensor:
        """Random numbers of the same shape and memory layout; torch's own random state is left alone."""
        generator = torch.Generator(device).manual_seed(0)
        values = torch.randn(self.shape, generator=generator, device=device).to(self.dtype)
        return values.contiguous(memory_format=self.format)


def with_forms(
    network: nn.Module, names: Collection[str], images: Tensor, judge: Judge, original: nn.Module | None = None
) -> tuple[nn.Module, dict[str, LayerForm]]:
    """A copy of a decoded network in which the layers `names` have the form that `judge` chose, and what it chose.

    `original` is the network that `network` was before it lost channels.
    """
    given = given_to(network, names, images)
    network = copy.deepcopy(network)
    layers = weighted_layers(network)
    lost = {name: _lost(before, layers[name]) for name, before in weighted_layers(original or network).items()}
    chosen = {name: LayerForm(words) if words else LayerForm() for name, words in lost.items()}
    known: dict[Hashable, Choice] = {}
    for name, runs in given.items():
        layer = layers[name]
        inputs = [run.like_it(images.device) for run in runs]
        forms = [form for form in forms_of(layer) if _agrees(form, layer, inputs[0][:1])]
        key = (repr(layer), *runs, *map(repr, forms))  # equal layers are executed alike, and timed once
        if forms and key not in known:
            known[key] = judge(layer, forms, inputs, OF_A_LAYER)
        choice = known.get(key, Choice(None))
        if choice.number is not None:
            form = forms[choice.number]
            network = _replaced(network, layer, form)
            words = ", ".join(filter(None, (lost[name], form.description)))
            chosen[name] = LayerForm(words, None if lost[name] else choice.speedup)
    return network, chosen


def _lost(before: Layer, now: Layer) -> str:
    """`8 filters removed, 4 inputs removed`; "" where none were."""
    kinds = zip(("filters", "inputs"), before.weight.shape, now.weight.shape, strict=False)
    return ", ".join(f"{old - new} {kind} removed" for kind, old, new in kinds if new < old)


def forms_of(layer: Layer) -> list[Reduced | Factored]:
    """All forms that save enough to be tried."""
    forms: list[Reduced | Factored | None] = [*reduced_forms(layer), factored_form(layer)]
    return [form for form in forms if form and form.weights * LEAST_SAVING <= layer.weight.numel()]


@torch.inference_mode()
def _agrees(form: nn.Module, layer: Layer, values: Tensor) -> bool:
    """Whether a form gives the layer's outputs. The layer's own forward may not work for another size."""
    try:
        expected, got = layer(values), form(values)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever that forward raises
        return False
    return torch.allclose(got, expected, rtol=0, atol=tolerance(expected) * float(expected.abs().max()))


def tolerance(outputs: Tensor) -> float:
    """How far other outputs may be from these, as a share of the largest."""
    rounded = outputs.is_cuda and torch.backends.cudnn.allow_tf32
    return max(ROUNDED_TOLERANCE if rounded else TOLERANCE, 4 * torch.finfo(outputs.dtype).eps)


def _replaced(network: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """The network with another module in every place where the old one was."""
    for module in list(network.modules()):
        for name, child in module._modules.items():  # `named_children` lists a module only once
            if child is old:
                module._modules[name] = new
    return new if network is old else network


@torch.inference_mode()
def given_to(network: nn.Module, names: Collection[str], images: Tensor) -> dict[str, list[Given]]:
    """The input of each layer, run by run, when the network runs once on the images."""
    given: dict[str, list[Given]] = {}

    def noting(name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            given.setdefault(name, []).append(Given.of([*inputs, *named.values()][0]))

        return note

    handles = [network.get_submodule(name).register_forward_pre_hook(noting(name), with_kwargs=True) for name in names]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return given
