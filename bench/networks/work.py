"""What each convolution and linear layer does for one image: multiply-adds, positions read and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.networks.layers import Layer, weighted_layers


@dataclass(frozen=True)
class Work:
    """What a convolution or linear layer does for one image with its weight dense.

    `macs` are multiply-adds. `inputs` and `outputs` are the positions (height x width) of one channel that it reads and
    writes, summed over its runs; a linear layer after pooling has 1 of each. `as_stored` says whether it computes
    directly with the weight it holds, and not with another derived from it in each pass, such as a standardised one.
    """

    macs: int
    inputs: int
    outputs: int
    as_stored: bool = True


@torch.inference_mode()
def layer_work(model: nn.Module, size: tuple[int, int, int]) -> dict[str, Work]:
    """The work of every convolution and linear layer for one image [C, H, W], as if its weight were dense.

    It is zero for a layer whose forward never runs, such as `nn.MultiheadAttention.out_proj`, whose weight is read
    elsewhere.
    """
    counts = dict.fromkeys(weighted_layers(model), Work(0, 0, 0))
    with _recording(model, counts), torch.no_grad():
        parameter = next(model.parameters())
        model.eval()(torch.zeros(1, *size, device=parameter.device, dtype=parameter.dtype))
    return counts


@contextmanager
def _recording(model: nn.Module, counts: dict[str, Work]) -> Iterator[None]:
    weights_seen = _Weights()

    def hook(name: str) -> Any:
        def record(layer: Layer, inputs: Any, named: Any, output: Tensor) -> None:
            weight, known, own = layer.weight, counts[name], weights_seen.last
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            images = [*inputs, *named.values()][0]
            read, written = images.numel() // (weight.shape[1] * groups), output.numel() // len(weight)
            same = known.as_stored and own is not None and torch.equal(own, weight)
            macs = known.macs + weight.numel() * written
            counts[name] = Work(macs, known.inputs + read, known.outputs + written, same)

        return record

    handles = [
        layer.register_forward_hook(hook(name), with_kwargs=True) for name, layer in weighted_layers(model).items()
    ]
    try:
        with weights_seen:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Weights(TorchFunctionMode):
    """Observes the weight with which each convolution and linear layer actually computes."""

    last: Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in ("conv2d", "linear"):
            self.last = args[1] if len(args) > 1 else (kwargs or {})["weight"]
        return function(*args, **(kwargs or {}))
