"""`quantize`: a control. It stores the numbers of the previous stage in few bits; it is the last stage of a pipeline.

It rounds every weight of convolutions and linear layers, including the classifier's.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
https://arxiv.org/abs/1712.05877; here without zero points, and for weights alone. A number becomes level * step, with
integer levels from -(2^(bits-1) - 1) to 2^(bits-1) - 1. Each step is chosen once, for the least error. Training passes
the gradient straight through the rounding (Bengio, Leonard, Courville, 2013, https://arxiv.org/abs/1308.3432). With 16
bits, numbers are 16-bit floats. These numbers share a step:

    dense weights, masked weights, scales of kernels: a step for each output channel; dropped weights are not stored
    shared filters, codebooks of kernels: a step for each filter or kernel
    channel kernels: a step for each input channel
    codebooks of single weights: one step

A step takes 16 bits (bfloat16). Biases, batch norm and every other tensor stay 32-bit floats. Pruned filters stay
removed, dropped weights stay dropped, and labels do not change. No later stage can encode the network again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import nn

from bench import (
    BenchError,
    Lab,
    Method,
    Plain,
    Quantized,
    Strength,
    encode,
    encoding_of,
    stored_tensors,
    weighted_layers,
)


@dataclass(frozen=True, kw_only=True)
class Quantize(Method):
    name = "quantize"
    style = ("dark grey", "square")
    paper = "Jacob et al.: Quantization and Training of Neural Networks, CVPR 2018"
    control = True
    tested = ("quantize", "quantize(bits=3)", "quantize(bits=16, train=False)")
    finishes = True
    strength = Strength("bits", 8, 2)

    bits: Annotated[Literal[2, 3, 4, 5, 6, 7, 8, 16], "bits of each stored number; 16: 16-bit floats"] = 8
    train: Annotated[bool, "fine-tune through the rounding"] = True

    @property
    def trains(self) -> bool:
        return self.train

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        quantized = 0
        for name, layer in weighted_layers(model).items():
            encoding = encoding_of(layer)
            if encoding is not None and not encoding.quantizable:
                lab.note(name, f"{encoding.kind} of an earlier method stays")
                continue
            stored = [layer.weight] if encoding is None else stored_tensors(layer)
            encode(layer, Quantized(encoding or Plain(layer.weight), self.bits, stored))
            quantized += 1
        if not quantized:
            raise BenchError(f"{self}: an earlier method has encoded every weight in a way that cannot be rounded")
        if self.train:
            lab.fit(model)
        return model
