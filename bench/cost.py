"""What a network costs by count: multiply-adds, parameters, bits; whole and by layer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from ptflops import get_model_complexity_info
from ptflops.aten_ops import bmm_flop, conv_flop_count
from torch import Tensor, nn

from bench.encoding import DENSE_BITS, codebooks_of, encoded_layers
from bench.errors import BenchError
from bench.layers import convolutions, fold

aten = torch.ops.aten


def _convolution(inputs: list[Any], outputs: list[Tensor]) -> int:
    return conv_flop_count(inputs[0].shape, inputs[1].shape, outputs[0].shape, transposed=inputs[6], bias=False)


def _linear(inputs: list[Any], outputs: list[Tensor]) -> int:
    return inputs[1].shape[0] * inputs[1].shape[1] * inputs[2].shape[1]


def _attention(inputs: list[Any], outputs: list[Tensor]) -> int:
    query, key, value = inputs[:3]
    batch = query.shape[:-2].numel()
    return batch * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _scaled_bmm(inputs: list[Any], outputs: list[Tensor]) -> int:
    return bmm_flop(inputs[1:3], outputs)


# ptflops counts a bias as one MAC an output and knows no fused attention; here a MAC is one multiply-add.
OPERATIONS = {
    aten.convolution: _convolution,
    aten._convolution: _convolution,
    aten.addmm: _linear,
    aten.baddbmm: _scaled_bmm,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
}


def count_macs(model: nn.Module, size: tuple[int, int, int]) -> int:
    """Multiply-adds of a dense network for one image [C, H, W] by ptflops: convolutions, linear layers, attention."""
    with torch.no_grad():  # inference mode would hide the operations from the counter
        macs, _ = get_model_complexity_info(
            fold(model).eval(),
            size,
            as_strings=False,
            print_per_layer_stat=False,
            backend="aten",
            custom_modules_hooks=OPERATIONS,
            ost=io.StringIO(),
        )
    if macs is None:
        raise BenchError(f"the network does not run on an image of {size}")
    return int(macs)


@torch.inference_mode()
def layer_macs(model: nn.Module, size: tuple[int, int, int]) -> dict[str, int]:
    """Multiply-adds of every convolution for one image, as if its weight were dense; 0 where it does not run."""
    counts = dict.fromkeys(convolutions(model), 0)
    with _recording(model, counts):
        parameter = next(model.parameters())
        model.eval()(torch.zeros(1, *size, device=parameter.device, dtype=parameter.dtype))
    return counts


@contextmanager
def _recording(model: nn.Module, counts: dict[str, int]) -> Iterator[None]:
    def hook(name: str) -> Any:
        def record(layer: nn.Conv2d, _: Any, output: Tensor) -> None:
            kernels = layer.out_channels * layer.in_channels // layer.groups
            area = layer.kernel_size[0] * layer.kernel_size[1]
            counts[name] += kernels * area * output.shape[-2] * output.shape[-1]

        return record

    handles = [layer.register_forward_hook(hook(name)) for name, layer in convolutions(model).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class LayerCost:
    """One convolution, dense in the original network and as it is now. `bits` leave out shared codebooks."""

    name: str
    shape: str
    encoding: str
    params_dense: int
    params: int
    bits_dense: int
    bits: int
    macs_dense: int
    macs: int
    reason: str = ""
    details: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """A compressed network beside its original. `formula_bits` by the papers' formulas, whole network;
    `kernel_ratio` dense / formula bits of the encoded weights alone, codebooks included, None without any."""

    params_dense: int
    params: int
    macs_dense: int
    macs: int
    formula_bits: float
    kernel_ratio: float | None
    layers: list[LayerCost]

    @property
    def formula_ratio(self) -> float:
        return self.params_dense * DENSE_BITS / self.formula_bits


def compare(dense: nn.Module, compressed: nn.Module, size: tuple[int, int, int], reasons: dict[str, str]) -> Cost:
    """Count both networks for images of `size` [C, H, W]; `reasons` say why a layer was left as it was."""
    before, after = layer_macs(dense, size), layer_macs(compressed, size)
    encodings = {name: encoding for name, _, encoding in encoded_layers(compressed)}
    books = codebooks_of(compressed)
    originals = convolutions(dense)
    layers = []
    for name, layer in convolutions(compressed).items():
        encoding = encodings.get(name)
        original, shape = originals[name].weight.numel(), tuple(layer.weight.shape)
        layers.append(
            LayerCost(
                name=name,
                shape="x".join(map(str, shape)),
                encoding=encoding.kind if encoding else "dense",
                params_dense=original,
                params=sum(p.numel() for p in layer.parametrizations.parameters()) if encoding else layer.weight.numel(),
                bits_dense=original * DENSE_BITS,
                bits=encoding.bits() if encoding else layer.weight.numel() * DENSE_BITS,
                macs_dense=before[name],
                macs=encoding.macs(after[name]) if encoding else after[name],
                reason=reasons.get(name, ""),
                details=encoding.describe() if encoding else {},
            )
        )
    encoded_weights = sum(originals[name].weight.numel() for name in encodings)
    encoded_bits = sum(e.formula_bits() for e in encodings.values()) + sum(book.bits for book in books)
    plain = sum(p.numel() for p in fold(compressed).parameters()) - sum(
        convolutions(compressed)[name].weight.numel() for name in encodings
    )
    saved = sum(layer.macs - after[layer.name] for layer in layers)
    return Cost(
        params_dense=sum(p.numel() for p in dense.parameters()),
        params=sum(p.numel() for p in compressed.parameters()),
        macs_dense=count_macs(dense, size),
        macs=count_macs(compressed, size) + saved,
        formula_bits=plain * DENSE_BITS + encoded_bits,
        kernel_ratio=encoded_weights * DENSE_BITS / encoded_bits if encodings else None,
        layers=layers,
    )
