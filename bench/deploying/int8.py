"""An ONNX file with 8-bit weights gets 8-bit activations too, so that a runtime computes with whole numbers.

onnxruntime's own quantizer (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html) places a
QuantizeLinear and a DequantizeLinear around each operator (QDQ). The weights keep the levels and the steps of the
artifact; only activations are rounded anew, in the ranges that they have on calibration images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor

from bench.deploying.quiet import quietly
from bench.deploying.tidying import remove_unread
from bench.system.errors import BenchError

WEIGHTED = {"Conv": 1, "Gemm": 1, "MatMul": 1}
"""Operators with weights, and which of their inputs that is."""


def with_int8_activations(content: bytes, calibration: Sequence[Tensor]) -> bytes:
    """The file `content` of `onnx_file.export`, with activations in 8 bits.

    `calibration` holds batches of images [N, C, H, W] as the network wants them. Activations are unsigned, with one
    step for each tensor, from the smallest to the largest value seen. Operators whose weights are no plain numbers of
    at most 8 bits stay in 32-bit floats. BenchError where no operator is left.
    """
    model = onnx.load_from_string(content)
    steps = _decode_weights(model)
    floats = _name_nodes(model, steps)
    if not steps:
        raise BenchError(
            "no layer has weights of 3 to 8 bits that are stored one by one, which 8-bit kernels need: "
            "compress with quantize(bits=8), also after a method that removes filters, as in l1+quantize(bits=8)"
        )
    return _quantized(model, steps, floats, calibration)


def _decode_weights(model: onnx.ModelProto) -> dict[str, Any]:
    """Turn dequantized constants into 32-bit floats, in place. Returns the steps of each by the name of the weight."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    steps: dict[str, Any] = {}
    others = []
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or not all(name in stored for name in node.input):
            others.append(node)
            continue
        levels, own = (numpy_helper.to_array(stored[name]).astype(np.float32) for name in node.input[:2])
        weight = levels * own.reshape(-1, *[1] * (levels.ndim - 1))
        model.graph.initializer.append(numpy_helper.from_array(weight, node.output[0]))
        steps[node.output[0]] = own
    del model.graph.node[:]
    model.graph.node.extend(others)
    remove_unread(model)
    return steps


def _name_nodes(model: onnx.ModelProto, steps: dict[str, Any]) -> list[str]:
    """Give every node a name. Returns those that stay in 32-bit floats: operators with other weights than those with
    `steps`, and everything that computes such weights."""
    floats = []
    from_images = {model.graph.input[0].name}
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}:{number}"
        place = WEIGHTED.get(node.op_type)
        if from_images.isdisjoint(node.input) or (place is not None and node.input[place] not in steps):
            floats.append(node.name)
        if not from_images.isdisjoint(node.input):
            from_images.update(node.output)
    return floats


def _quantized(
    model: onnx.ModelProto, steps: dict[str, Any], floats: list[str], calibration: Sequence[Tensor]
) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {model.graph.input[0].name: images.contiguous().numpy()}

    zero = np.array(0, dtype=np.int8)
    kept = {
        name: [{"quant_type": QuantType.QInt8, "axis": 0, "scale": step, "zero_point": zero} for step in own]
        for name, own in steps.items()
    }
    with tempfile.TemporaryDirectory() as folder, quietly():
        source, made = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            made,
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=floats,
            extra_options={"TensorQuantOverrides": kept},
        )
        return made.read_bytes()
