"""`scratch`: the control for what the surviving weights are worth. It trains the pruned structure from random weights.

Liu, Sun, Zhou, Huang, Darrell: Rethinking the Value of Network Pruning, ICLR 2019, https://arxiv.org/abs/1810.05270,
found that this is often as good as further training of the weights that survive pruning. scratch(of=l1(rate=0.5))
prunes as `l1` does and draws all weights again. It then trains with the budget that `l1` spends on fine-tuning, and
with the learning rate of the baselines. That budget does not include the training of the dense network, so with a short
one the comparison says little: it is fair with as many passes as the baseline was trained for.

Convolutions start with Kaiming normal weights by fan-out, and linear layers with uniform weights in 1/sqrt(fan-in);
biases start at zero. Normalisations and layer scales are reset. Other parameters (position embeddings) are drawn with
the mean and standard deviation they have. Masks stay. The structure is the one that the method finds without training,
so `dynamic` is judged by its first masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from bench import BenchError, BudgetExceeded, Lab, Mask, Method, SettingText, encode, encoding_of, weighted_layers


def not_scratch(setting: SettingText) -> SettingText:
    if any(isinstance(stage, Scratch) for stage in setting.pipeline.stages):
        raise ValueError("should be a method that prunes, and not scratch itself")
    return setting


@dataclass(frozen=True, kw_only=True)
class Scratch(Method):
    name = "scratch"
    style = ("darkest grey", "star")
    paper = "Liu, Sun, Zhou, Huang, Darrell: Rethinking the Value of Network Pruning, ICLR 2019"
    control = True

    of: Annotated[SettingText, AfterValidator(not_scratch), "the setting whose structure is trained"] = SettingText(
        "l1"
    )

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        try:
            with lab.share(0):
                model = self.of.pipeline.compress(model, lab)
        except BudgetExceeded:
            raise BenchError(f"{self}: scratch prunes without training images, and {self.of} cannot") from None
        self._refuse_clustered(model)
        forget(model, lab.generator)
        lab.fit(model, from_scratch=True)
        return model

    def _refuse_clustered(self, model: nn.Module) -> None:
        for name, layer in weighted_layers(model).items():
            if not isinstance(encoding := encoding_of(layer), Mask | None):
                raise BenchError(
                    f"{self}: the result of {self.of} is in the weights, the {encoding.kind} of '{name}', and not in "
                    "the structure; scratch goes with methods that remove filters or set weights to zero"
                )


@torch.no_grad()
def forget(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights of the network again, in place; structure and masks stay."""
    for module in model.modules():
        if is_norm(module):
            module.reset_parameters()
        elif not isinstance(module, ParametrizationList):  # holds a mask's weight, which its layer draws
            for name, values in module.named_parameters(recurse=False):
                values.copy_(draw(module, name, values, generator))
            if isinstance(mask := encoding_of(module), Mask):
                encode(module, Mask(mask.kept, draw(module, "weight", module.weight, generator)))


def is_norm(module: nn.Module) -> bool:
    """Whether a module starts from constants: normalisations, and other layers with one number for each channel."""
    weighted = nn.Linear | nn.modules.conv._ConvNd | nn.Embedding
    return callable(getattr(module, "reset_parameters", None)) and not isinstance(module, weighted)


def draw(module: nn.Module, name: str, values: Tensor, generator: torch.Generator) -> Tensor:
    """Initial values of a parameter, on the CPU, in the shape of `values`."""
    noise = torch.randn(values.shape, generator=generator)
    if isinstance(module, nn.Conv2d) and name == "weight":
        fan_out = values.shape[0] // module.groups * values[0, 0].numel()
        return noise * sqrt(2 / fan_out)
    if isinstance(module, nn.Linear) and name == "weight":
        return (2 * torch.rand(values.shape, generator=generator) - 1) / sqrt(values.shape[1])
    if isinstance(module, nn.Conv2d | nn.Linear) and name == "bias":
        return torch.zeros(values.shape)
    return values.mean().cpu() + noise * values.std(correction=0).cpu()
