"""A digest of the structure of a network: whether two networks are built alike, whatever their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from torch import nn

GEOMETRY = ("stride", "padding", "dilation", "groups")


def structure_digest(model: nn.Module) -> str:
    """SHA-256 (16 hex digits) of the names and shapes of all tensors, and of every layer's kind and geometry.

    Two networks that differ only in the code of their `forward` have the same digest.
    """
    return hashlib.sha256("\n".join(_described(model)).encode()).hexdigest()[:16]


def _described(model: nn.Module) -> Iterator[str]:
    for name, module in model.named_modules():
        geometry = [str(getattr(module, attribute)) for attribute in GEOMETRY if hasattr(module, attribute)]
        yield " ".join([name, type(module).__name__, *geometry])
        for own, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            yield f"{name}.{own} {tuple(tensor.shape)} {tensor.is_floating_point()}"
