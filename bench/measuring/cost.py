"""What a network costs by count: multiply-adds, parameters, bits; whole and by layer."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.encodings.base import DENSE_BITS, codebooks_of, encoded_layers, encoding_of, stored_bits, stored_tensors
from bench.networks.layers import Layer, fold, weighted_layers
from bench.networks.work import Work, layer_work
from bench.system.errors import BenchError

aten = torch.ops.aten


def _convolution(inputs: list[Any], outputs: list[Tensor]) -> int:
    from ptflops.aten_ops import conv_flop_count  # imports torchvision and timm

    shapes = inputs[0].shape, inputs[1].shape, outputs[0].shape
    return int(conv_flop_count(*shapes, transposed=inputs[6], bias=False))


def _linear(inputs: list[Any], outputs: list[Tensor]) -> int:
    return int(inputs[1].shape[0] * inputs[1].shape[1] * inputs[2].shape[1])


def _attention(inputs: list[Any], outputs: list[Tensor]) -> int:
    query, key, value = inputs[:3]
    batch = query.shape[:-2].numel()
    return int(batch * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _scaled_bmm(inputs: list[Any], outputs: list[Tensor]) -> int:
    from ptflops.aten_ops import bmm_flop

    return int(bmm_flop(inputs[1:3], outputs))


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
    from ptflops import get_model_complexity_info

    with torch.no_grad(), _unfused_attention():  # inference mode would hide the operations from the counter
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


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Run `nn.MultiheadAttention` as operations that are counted, not as a single one that hides its linear layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer: dense, as in the original network, and as it is now. `bits` leave out shared
    codebooks; `macs_full` also count what the papers' formulas ignore. `reached` says whether the method encoded or cut
    the layer, or could have: only layers of a kind that it cannot compress are out of reach."""

    name: str
    shape: str
    encoding: str
    params_dense: int
    params: int
    bits_dense: int
    bits: int
    macs_dense: int
    macs: int
    macs_full: int
    reached: bool
    reason: str = ""
    details: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """A compressed network beside its original. `formula_bits` are the bits of the whole network by the papers'
    formulas; `kernel_ratio` is dense bits / formula bits of the encoded weights alone, codebooks included, and None if
    there are no encoded weights. `reachable_share` is the share of the dense network's parameters that are weights of
    `reached` layers."""

    params_dense: int
    params: int
    macs_dense: int
    macs: int
    macs_full: int
    formula_bits: float
    kernel_ratio: float | None
    reachable_share: float
    layers: list[LayerCost]

    @property
    def formula_ratio(self) -> float:
        return self.params_dense * DENSE_BITS / self.formula_bits

    @property
    def macs_ratio(self) -> float | None:
        """Dense / compressed; None if nothing is left to compute."""
        return self.macs_dense / self.macs if self.macs else None

    @property
    def macs_full_ratio(self) -> float | None:
        """`macs_ratio` with what the papers' formulas leave out."""
        return self.macs_dense / self.macs_full if self.macs_full else None


def compare(
    dense: nn.Module,
    compressed: nn.Module,
    size: tuple[int, int, int],
    reasons: Mapping[str, str],
    reachable: Collection[str] = (),
) -> Cost:
    """Count both networks for images of `size` [C, H, W].

    `reasons` say why a layer was left as it was, and `reachable` names those that could have been changed.
    """
    before, after = layer_work(dense, size), layer_work(compressed, size)
    originals = weighted_layers(dense)
    layers = [
        _layer_cost(name, originals[name], layer, before[name], after[name], reasons.get(name, ""), name in reachable)
        for name, layer in weighted_layers(compressed).items()
    ]
    weights = {originals[layer.name].weight for layer in layers if layer.reached}  # shared ones once
    formula_bits, kernel_ratio = _formulas(compressed, originals)
    decoded = count_macs(compressed, size) - sum(work.macs for work in after.values())
    return Cost(
        params_dense=count_params(dense),
        params=count_params(compressed),
        macs_dense=count_macs(dense, size),
        macs=decoded + sum(layer.macs for layer in layers),
        macs_full=decoded + sum(layer.macs_full for layer in layers),
        formula_bits=formula_bits,
        kernel_ratio=kernel_ratio,
        reachable_share=sum(weight.numel() for weight in weights) / count_params(dense),
        layers=layers,
    )


def _layer_cost(
    name: str, original: Layer, layer: Layer, before: Work, after: Work, reason: str, reachable: bool
) -> LayerCost:
    encoding = encoding_of(layer)
    weight = layer.weight.detach()
    params = original.weight.numel()
    computed = encoding if after.as_stored else None
    if encoding and not computed:
        reason = f"{reason}; its weights are standardised, which saves no arithmetic".lstrip("; ")
    elif encoding and not after.macs:
        reason = f"{reason}; its forward does not run: its arithmetic is counted as dense".lstrip("; ")
    if encoding and stored_bits(layer) > weight.numel() * DENSE_BITS:
        reason = f"{reason}; takes more bits than dense".lstrip("; ")
    return LayerCost(
        name=name,
        shape="x".join(map(str, weight.shape)),
        encoding=encoding.kind if encoding else "dense",
        params_dense=params,
        params=encoding.params(*stored_tensors(layer)) if encoding else weight.numel(),
        bits_dense=params * DENSE_BITS,
        bits=stored_bits(layer),
        macs_dense=before.macs,
        macs=computed.macs(after) if computed else after.macs,
        macs_full=computed.macs_full(after) if computed else after.macs,
        reached=reachable or encoding is not None or weight.shape != original.weight.shape,
        reason=reason,
        details=(encoding.describe(after) if encoding else {}) | perturbation(original.weight.detach(), weight),
    )


def perturbation(before: Tensor, after: Tensor) -> dict[str, float | int | str]:
    """How far a weight of the same shape was moved: L0, L1, L2 and the largest change.

    `l0` is the share of numbers that changed; `l1` and `l2` are the norms divided by the count of numbers.
    """
    if before.shape != after.shape:
        return {}
    change = (after - before).double().abs()
    return {
        "l0": float((change > 0).double().mean()),
        "l1": float(change.sum() / change.numel()),
        "l2": float(change.square().sum().sqrt() / change.numel()),
        "linf": float(change.max()),
    }


def _formulas(compressed: nn.Module, originals: Mapping[str, Layer]) -> tuple[float, float | None]:
    """Bits of the whole network by the papers' formulas, and the ratio over its encoded weights alone."""
    encoded = list(encoded_layers(compressed))
    bits = sum(encoding.formula_bits() for _, _, encoding in encoded)
    bits += sum(book.bits for book in codebooks_of(compressed))
    decoded = sum(layer.weight.numel() for _, layer, _ in encoded)
    plain = (count_params(fold(compressed)) - decoded) * DENSE_BITS
    original = sum(originals[name].weight.numel() for name, _, _ in encoded) * DENSE_BITS
    return plain + bits, original / bits if encoded else None


def count_params(model: nn.Module) -> int:
    """Count of numbers that are trained and kept; a shared number counts once."""
    everything = sum(parameter.numel() for parameter in model.parameters())
    dropped = 0
    for _, layer, encoding in encoded_layers(model):
        stored = stored_tensors(layer)
        dropped += sum(tensor.numel() for tensor in stored) - encoding.params(*stored)
    return everything - dropped
