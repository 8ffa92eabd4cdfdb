"""A network as ONNX, with its weights as small in the file as in the artifact, or nearly so.

The network is exported with its names, without folding constants. Then each encoded weight is replaced by what its
encoding stores and the operators that decode it (`bench.deploying.decoding`), if that takes fewer bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from bench.deploying.decoding import Books, Stored, decode, has_steps
from bench.deploying.graph import Part, merge
from bench.deploying.quiet import quietly
from bench.deploying.tidying import Norms, remove_unread, tidy
from bench.encodings.base import encoded_layers, stored_tensors
from bench.networks.layers import fold

PRODUCER = "cnn-compression-bench"
OPSET = 21
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
WORTH_FOLDING = 1024
"""Numbers in a constant that is computed when the file is written, at most: shapes and paddings, but no weights."""


@dataclass(frozen=True)
class Exported:
    """The content of a file, the bytes of the same network with decoded weights, and why it is not smaller.

    `encoded` counts the weights that are stored as in the artifact, `decoded` says why others are not, by layer.
    """

    content: bytes
    decoded_bytes: int
    encoded: int
    decoded: dict[str, str]
    graph_bytes: int


def export(network: nn.Module, example: Tensor, metadata: dict[str, str]) -> Exported:
    """The ONNX file of a network that still has its encodings. `example` is [2, C, H, W]."""
    model = _plain(network, example)
    _describe(model, metadata)
    decoded_bytes = model.ByteSize()
    graph_bytes = decoded_bytes - sum(tensor.ByteSize() for tensor in model.graph.initializer)
    small = onnx.ModelProto()
    small.CopyFrom(model)
    encoded, decoded = _encode(small, network)
    if small.ByteSize() < decoded_bytes:
        return Exported(small.SerializeToString(deterministic=True), decoded_bytes, encoded, decoded, graph_bytes)
    decoded |= {name: "takes more bytes as it is encoded" for name, _, _ in encoded_layers(network)}
    return Exported(model.SerializeToString(deterministic=True), decoded_bytes, 0, decoded, graph_bytes)


def _plain(network: nn.Module, example: Tensor) -> onnx.ModelProto:
    """The network with decoded weights, under the names of the state dict."""
    import onnx_ir
    from onnxscript import optimizer

    with quietly():
        program: Any = torch.onnx.export(
            fold(network).cpu().eval(),
            (example,),
            dynamo=True,
            optimize=False,  # it would merge batch norm into weights
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        optimizer.fold_constants(
            program.model, onnx_shape_inference=False, input_size_limit=WORTH_FOLDING, output_size_limit=WORTH_FOLDING
        )
        optimizer.remove_unused_nodes(program.model)
        model: onnx.ModelProto = onnx_ir.to_proto(program.model)
    tidy(model)
    return model


def _encode(model: onnx.ModelProto, network: nn.Module) -> tuple[int, dict[str, str]]:
    """Replace weights in place. Returns how many, and why others stay decoded, by layer."""
    books, norms = Books(), Norms(model)
    chosen: dict[str, tuple[Part, str]] = {}
    decoded: dict[str, str] = {}
    dense = {tensor.name: tensor.ByteSize() for tensor in model.graph.initializer}
    for name, layer, encoding in encoded_layers(network):
        weight, part = f"{name}.weight", Part(name)
        factors = norms.factors(weight) if has_steps(encoding) else None
        output = decode(encoding, part, [Stored(tensor, factors=factors) for tensor in stored_tensors(layer)], books)
        if output is None:
            decoded[name] = f"the encoding {encoding.kind} is not known as ONNX"
        elif weight not in dense:
            decoded[name] = "the exporter made another tensor of the weight"
        elif part.bytes >= dense[weight]:
            decoded[name] = "takes more bytes as it is encoded"
        else:
            chosen[weight] = (part, output)
            if factors is not None:
                norms.merge(weight)
    merge(model, books.parts, chosen)
    remove_unread(model)
    return len(chosen), decoded


def _describe(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    model.producer_name, model.producer_version = PRODUCER, version(PRODUCER)
    onnx.helper.set_model_props(model, metadata)
