"""Remove from an exported graph what no runtime needs, and merge batch norm into the steps of quantized weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

DEFAULTS: dict[str, dict[str, Any]] = {
    "Conv": {"auto_pad": b"NOTSET", "group": 1},
    "BatchNormalization": {"training_mode": 0},
}
"""Attributes whose value is the default, so that they can be left out."""
NORM_INPUTS = 5


def tidy(model: onnx.ModelProto) -> None:
    """Remove names of nodes, notes of the exporter, attributes that are defaults, and biases of zeros."""
    graph = model.graph
    del graph.value_info[:], model.metadata_props[:], graph.metadata_props[:]
    for each in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        each.doc_string = ""
        del each.metadata_props[:]
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        node.name = ""
        kept = [each for each in node.attribute if not _is_default(node.op_type, each)]
        del node.attribute[:]
        node.attribute.extend(kept)
        bias = tensors.get(node.input[2]) if node.op_type == "Conv" and len(node.input) > 2 else None
        if bias is not None and not numpy_helper.to_array(bias).any():
            del node.input[2]
    remove_unread(model)


def _is_default(operator: str, attribute: onnx.AttributeProto) -> bool:
    value: Any = onnx.helper.get_attribute_value(attribute)
    if operator == "Conv" and attribute.name == "dilations":
        return set(value) == {1}
    if operator == "BatchNormalization" and attribute.name == "momentum":
        return True  # of training
    known = DEFAULTS.get(operator, {})
    return attribute.name in known and value == known[attribute.name]


def remove_unread(model: onnx.ModelProto) -> None:
    """Remove tensors that no node reads."""
    graph = model.graph
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


@dataclass
class Norms:
    """The batch norms of a graph that directly follow a convolution and may become part of it.

    y = (Wx + b - mean) * s + beta with s = gamma / sqrt(variance + epsilon) is (s W) x + (b - mean) * s + beta. Where
    a weight is levels * steps, s goes into the steps: the file gets smaller, and the layer takes one pass.
    """

    model: onnx.ModelProto

    def __post_init__(self) -> None:
        graph = self.model.graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        reads = [name for node in graph.node for name in node.input] + [output.name for output in graph.output]
        self._readers = Counter(reads)
        self._writers = {name: node for node in graph.node for name in node.output}

    def _pair(self, weight: str) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
        if self._readers[weight] != 1:
            return None
        for norm in self.model.graph.node:
            if norm.op_type == "BatchNormalization" and len(norm.input) == NORM_INPUTS:
                conv = self._writers.get(norm.input[0])
                fixed = all(name in self._tensors for name in norm.input[1:])
                if conv is not None and conv.op_type == "Conv" and conv.input[1] == weight and fixed:
                    return (conv, norm) if self._readers[norm.input[0]] == 1 and _fixed_bias(conv, self) else None
        return None

    def factors(self, weight: str) -> Tensor | None:
        """s [Co] of the batch norm after the convolution with that weight; None if there is none to merge."""
        pair = self._pair(weight)
        return None if pair is None else self._scale(pair[1])[0]

    def _scale(self, norm: onnx.NodeProto) -> tuple[Tensor, Tensor, Tensor]:
        gamma, beta, mean, variance = (self.value(name).double() for name in norm.input[1:])
        epsilon = next((each.f for each in norm.attribute if each.name == "epsilon"), 1e-5)
        return gamma / (variance + epsilon).sqrt(), beta, mean

    def value(self, name: str) -> Tensor:
        return torch.from_numpy(numpy_helper.to_array(self._tensors[name]).copy())

    def merge(self, weight: str) -> None:
        """Remove the batch norm after the convolution with that weight, whose steps already include the `factors`."""
        pair = self._pair(weight)
        assert pair is not None
        conv, norm = pair
        scale, beta, mean = self._scale(norm)
        before = self.value(conv.input[2]).double() if len(conv.input) > 2 else 0.0
        name = f"{weight.removesuffix('.weight')}.merged_bias"
        bias = numpy_helper.from_array(((before - mean) * scale + beta).float().numpy(), name)
        del conv.input[2:]
        conv.input.append(name)
        conv.output[0] = norm.output[0]
        self.model.graph.initializer.append(bias)
        self.model.graph.node.remove(norm)


def _fixed_bias(conv: onnx.NodeProto, norms: Norms) -> bool:
    return len(conv.input) < 3 or conv.input[2] in norms._tensors
