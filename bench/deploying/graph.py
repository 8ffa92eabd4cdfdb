"""A small part of an ONNX graph: tensors of few bytes, and the nodes that turn them into larger ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from bench.encodings.packing import pack

FLOAT, HALF, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32
PACKED = (1, 2, 4)
"""Widths at which a byte holds several numbers."""


@dataclass
class Part:
    """Nodes and tensors whose names begin with `prefix`; each method returns the name of what it added."""

    prefix: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{self.prefix}:{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def array(self, values: NDArray[Any]) -> str:
        name = f"{self.prefix}={len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def floats(self, values: Tensor) -> str:
        return self.array(values.detach().cpu().float().numpy())

    def halves(self, values: Tensor) -> str:
        """16-bit floats in the file, 32-bit floats in the graph."""
        return self.apply("Cast", self.array(values.detach().cpu().half().numpy()), to=FLOAT)

    def four_bits(self, levels: NDArray[np.int8]) -> str:
        """Whole numbers from -8 to 7, two to a byte; [...] of ONNX's type int4."""
        flat = np.append(levels.reshape(-1), np.zeros(levels.size % 2, np.int8)).view(np.uint8) & 15
        raw = (flat[::2] | flat[1::2] << 4).tobytes()
        name = f"{self.prefix}={len(self.tensors)}"
        self.tensors.append(TensorProto(name=name, dims=levels.shape, data_type=TensorProto.INT4, raw_data=raw))
        return name

    def shape(self, name: str, shape: Sequence[int]) -> str:
        return self.apply("Reshape", name, self.array(np.array(shape, dtype=np.int64)))

    def integers(self, values: Tensor, width: int) -> str:
        """Whole numbers in [0, 2**width) in as few bytes as ONNX allows, in the shape of `values`.

        Numbers of up to 4 bits share bytes; they are unpacked by division and remainder, which every runtime can do.
        """
        if width == 0:
            return self.array(np.zeros(tuple(values.shape), dtype=np.uint8))
        fitting = next((bits for bits in PACKED if width <= bits), None)
        if fitting is None:
            kind = np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.int32
            return self.array(values.cpu().numpy().astype(kind))
        packed = self.apply("Cast", self.array(pack(values, fitting).numpy()[:, None]), to=INT32)
        places = self.array(2 ** np.arange(0, 8, fitting, dtype=np.int32))
        digits = self.apply("Mod", self.apply("Div", packed, places), self.array(np.array(2**fitting, np.int32)))
        flat = self.shape(digits, [-1])
        if values.numel() * fitting % 8:
            ends = (self.array(np.array([bound], dtype=np.int64)) for bound in (0, values.numel()))
            flat = self.apply("Slice", flat, *ends)
        return self.shape(flat, values.shape)

    def indices(self, values: Tensor, width: int) -> str:
        """`integers` in the type that Gather takes."""
        return self.apply("Cast", self.integers(values, width), to=INT32)

    @property
    def bytes(self) -> int:
        """Bytes that the part adds to a file."""
        pieces: list[Any] = [*self.nodes, *self.tensors]
        return sum(piece.ByteSize() + 4 for piece in pieces)


def merge(model: onnx.ModelProto, shared: Sequence[Part], weights: Mapping[str, tuple[Part, str]]) -> None:
    """Let parts stand in for initializers: `weights` has, for each initializer's name, a part and its output.

    Parts in `shared` come first, because others read them; a shared part that nothing reads is left out.
    """
    graph = model.graph
    stored = [tensor for tensor in graph.initializer if tensor.name not in weights]
    parts = [part for part, _ in weights.values()]
    for name, (part, output) in weights.items():
        last = next(node for node in part.nodes if output in node.output)
        last.output[0] = name
    read = {name for part in parts for node in part.nodes for name in node.input}
    first = [part for part in shared if any(name in read for node in part.nodes for name in node.output)]
    nodes = [node for part in (*first, *parts) for node in part.nodes] + list(graph.node)
    tensors = [tensor for part in (*first, *parts) for tensor in part.tensors] + stored
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
