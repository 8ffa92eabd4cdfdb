"""The example input that a network is traced with: given as a tensor, or as the lab that holds one."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from bench.system.errors import BadArgument


class HasExample(Protocol):
    """What holds an example input, as a `Lab` does."""

    example_input: Tensor


def example_of(source: HasExample | Tensor) -> Tensor:
    """Images [N, C, H, W] on the model's device; a BadArgument for anything but a lab or such a tensor."""
    example: Any = getattr(source, "example_input", source)
    if not isinstance(example, Tensor) or example.dim() != 4:
        given = f"a tensor of shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(source).__name__
        raise BadArgument("example", given, "expected the lab, or images of shape [N, C, H, W]")
    return example
