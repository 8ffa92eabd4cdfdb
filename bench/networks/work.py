"""The work of each convolution for one image: multiply-adds, positions read and written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.networks.layers import convolutions


@dataclass(frozen=True)
class Work:
    """The work of a convolution with a dense weight for one image.

    `macs` counts multiply-adds. `inputs` and `outputs` count the positions (height x width) of one channel that are
    read and written. All are sums over the layer's calls. `as_stored` is false where the layer computes another weight
    from its own before each convolution, as weight standardisation does.
    """

    macs: int
    inputs: int
    outputs: int
    as_stored: bool = True


@torch.inference_mode()
def layer_work(model: nn.Module, size: tuple[int, int, int]) -> dict[str, Work]:
    """The work of every convolution for one image [C, H, W], as if its weight were dense; 0 if it is never called."""
    counts = dict.fromkeys(convolutions(model), Work(0, 0, 0))
    with _recording(model, counts), torch.no_grad():
        parameter = next(model.parameters())
        model.eval()(torch.zeros(1, *size, device=parameter.device, dtype=parameter.dtype))
    return counts


@contextmanager
def _recording(model: nn.Module, counts: dict[str, Work]) -> Iterator[None]:
    kernels_seen = _Kernels()

    def hook(name: str) -> Any:
        def record(layer: nn.Conv2d, inputs: Any, output: Tensor) -> None:
            kernels = layer.out_channels * layer.in_channels // layer.groups
            area = layer.kernel_size[0] * layer.kernel_size[1]
            read, written = (tensor.shape[-2] * tensor.shape[-1] for tensor in (inputs[0], output))
            known, own = counts[name], kernels_seen.last
            same = known.as_stored and own is not None and torch.equal(own, layer.weight)
            macs = known.macs + kernels * area * written
            counts[name] = Work(macs, known.inputs + read, known.outputs + written, same)

        return record

    handles = [layer.register_forward_hook(hook(name)) for name, layer in convolutions(model).items()]
    try:
        with kernels_seen:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Kernels(TorchFunctionMode):
    """Keeps the weight that the latest convolution used."""

    last: Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") == "conv2d":
            self.last = args[1] if len(args) > 1 else (kwargs or {})["weight"]
        return function(*args, **(kwargs or {}))
