"""A test of a removal before it is done: does the smaller network compute what it should?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from bench.networks.surgery import Cuts, cut, find, merged
from bench.pruning.groups import FilterGroup


class Probe:
    """A copy of the network with random weights and statistics, in double precision, on which removals are tested."""

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = deepcopy(model).double().eval().requires_grad_(False)
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(_random_values(name, tensor.shape, generator))
        self.input = torch.randn(example_input.shape, generator=generator, dtype=torch.double).to(example_input.device)
        try:
            self.model(self.input)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # some networks make float32 tensors of their own
            self.model, self.input = self.model.float(), self.input.float()

    def sound(self, groups: list[FilterGroup]) -> list[FilterGroup]:
        """The groups that can lose every third filter. The list is halved until all groups that cannot are excluded."""
        if not groups or self.holds(merged([group.cuts(range(1, group.channels, 3)) for group in groups])):
            return groups
        middle = len(groups) // 2
        return self.sound(groups[:middle]) + self.sound(groups[middle:]) if middle else []

    @torch.no_grad()
    def holds(self, cuts: Cuts) -> bool:
        """Whether the network without these channels computes what the whole one does when no layer reads them."""
        try:
            smaller = deepcopy(self.model)
            cut(smaller, cuts)
            outputs = list(_flat(smaller(self.input)))
            del smaller  # one copy at a time: some networks are large
            whole = deepcopy(self.model)
            _ignore(whole, cuts)
            return all(map(_same, _flat(whole(self.input)), outputs))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # a network that no longer runs may raise anything
            return False


def _ignore(model: nn.Module, cuts: Cuts) -> None:
    """Set to zero the weights with which layers read the channels that are cut."""
    for (owner, axis), positions in cuts.items():
        module = find(model, owner)
        if axis == 1 and isinstance(module, nn.Conv2d | nn.Linear):
            module.weight[:, sorted(positions)] = 0


def _random_values(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Values with which no layer dies or explodes: fan-in scaling, positive scales and variances, small shifts."""
    values = torch.randn(shape, generator=generator, dtype=torch.double)
    if sum(size > 1 for size in shape) > 1:
        return values * sqrt(2 / shape[1:].numel())
    if name.endswith(("bias", "running_mean")):
        return values * 0.1
    return values.abs().clamp(0.2, 2)


def _same(expected: Tensor, got: Tensor) -> bool:
    tolerance = (1e-8 if expected.dtype == torch.double else 1e-4) * float(expected.abs().max())
    return expected.shape == got.shape and float((expected - got).abs().max()) <= tolerance


def _flat(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for output in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _flat(output)
