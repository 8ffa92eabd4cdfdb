"""Whether tensors and networks were changed in place, found without a copy of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SAMPLE = 4096
"""Numbers of a tensor that are compared one by one, evenly spread over it."""


@dataclass(frozen=True)
class Mark:
    """A tensor's content in short: torch's count of in-place changes, the sum of its bytes, and a sample in order.

    The count misses values written through NumPy or `.data`; the sum and the sample detect them.
    """

    version: int
    total: int | float
    sample: bytes

    @classmethod
    def of(cls, tensor: Tensor) -> Mark:
        flat = tensor.detach().reshape(-1)
        step = max(1, len(flat) // SAMPLE)
        return cls(_version(tensor), _total(flat), flat[::step].cpu().numpy().tobytes())


def _version(tensor: Tensor) -> int:
    """How often a tensor was changed in place, which torch does not count for inference tensors."""
    return 0 if tensor.is_inference() else tensor._version


def _total(flat: Tensor) -> int | float:
    """The sum; of bytes by eights, which is faster."""
    if flat.dtype == torch.uint8 and len(flat) % 8 == 0 and flat.is_contiguous() and flat.storage_offset() % 8 == 0:
        flat = flat.view(torch.int64)
    return flat.sum().item()


def marks_of(model: nn.Module) -> tuple[Hashable, ...]:
    """Values that differ after a network was changed in place: marks of its tensors, modes, hooks and attributes.

    Values written through NumPy or `.data` are not detected here; they show in the network's outputs.
    """
    return (*_tensor_marks(model), *_module_marks(model))


def _tensor_marks(model: nn.Module) -> Iterator[Hashable]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield name, _version(tensor), tensor.data_ptr(), tensor.dtype, tensor.requires_grad, tensor.grad is None


def _module_marks(model: nn.Module) -> Iterator[Hashable]:
    for module in model.modules():
        hooks = (len(value) for name, value in vars(module).items() if name.endswith("_hooks") and value is not None)
        yield type(module), module.training, len(vars(module)), *hooks
