"""The settings of torch and NumPy that apply to the whole process."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import optimizer
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils import _python_dispatch as dispatch

from bench.isolation.state import State, unnamed

DEVICES = ("cpu", "cuda")

FLAGS = (
    "cudnn.enabled", "cudnn.benchmark", "cudnn.benchmark_limit", "cudnn.deterministic", "cudnn.allow_tf32",
    "cudnn.fp32_precision", "cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision",
    "mkldnn.enabled", "mkldnn.deterministic", "mkldnn.fp32_precision", "mkldnn.conv.fp32_precision",
    "mkldnn.matmul.fp32_precision", "mkldnn.rnn.fp32_precision",
    "cuda.matmul.allow_tf32", "cuda.matmul.fp32_precision",
    "cuda.matmul.allow_fp16_reduced_precision_reduction", "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "cuda.matmul.allow_fp16_accumulation",
    "opt_einsum.enabled", "opt_einsum.strategy", "quantized.engine", "fp32_precision",
)  # fmt: skip
"""Attributes of `torch.backends`; a version of torch may lack some."""

SDP = ("flash_sdp", "mem_efficient_sdp", "math_sdp", "cudnn_sdp")
"""Implementations of attention, each switched on and off by a function of `torch.backends.cuda`."""

HOOKS = (
    "_global_backward_pre_hooks", "_global_backward_hooks", "_global_forward_pre_hooks", "_global_forward_hooks",
    "_global_forward_hooks_always_called", "_global_forward_hooks_with_kwargs",
    "_global_buffer_registration_hooks", "_global_module_registration_hooks",
    "_global_parameter_registration_hooks",
)  # fmt: skip
"""Tables in `torch.nn.modules.module` of hooks that every module runs."""

OPTIMISER_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")


def torch_states() -> list[State]:
    """The states in the order in which they are restored. It matters: the default device is on the stack of modes."""
    return [
        State("device of torch's default tensor type", torch._C._get_default_device, _set_tensor_type),
        State("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        State("torch's default device", _default_device, torch.set_default_device),
        State("torch function modes", lambda: _Stack(_get_current_function_mode_stack()), _restore_function_modes),
        State("torch dispatch modes", lambda: _Stack(dispatch._get_current_dispatch_mode_stack()), _restore_dispatch),
        State("inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
        State("gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
        State("anomaly detection", _anomaly, lambda value: torch.autograd.set_detect_anomaly(*value)),
        *(_autocast(device) for device in DEVICES),
        State("autocast cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        State("nesting of autocast", _autocast_nesting, _set_autocast_nesting),
        State("number of threads of torch", torch.get_num_threads, torch.set_num_threads),
        State("number of interop threads of torch", torch.get_num_interop_threads, torch.set_num_interop_threads),
        State(
            "deterministic algorithms (debug mode)",
            torch.get_deterministic_debug_mode,
            torch.set_deterministic_debug_mode,
        ),
        State("float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        State("flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal),
        State("torch's repeated warnings", torch.is_warn_always_enabled, torch.set_warn_always),
        State("multithreading of backward passes", torch._C._is_multithreading_enabled, _set_multithreading),
        *(_flag(name) for name in FLAGS if _exists(name)),
        *(_attention(name) for name in SDP if hasattr(torch.backends.cuda, f"enable_{name}")),
        *(_hooks(nn.modules.module, name) for name in HOOKS),
        *(_hooks(optimizer, name) for name in OPTIMISER_HOOKS),
        State("kind of the global backward hooks", _hook_kind, _set_hook_kind),
        State("cache of parametrizations", _parametrization_cache, _set_parametrization_cache, unnamed),
        State("NumPy's handling of floating-point errors", np.geterr, lambda value: np.seterr(**value)),
        State("current CUDA device", _cuda_device, _set_cuda_device),
    ]


class _Stack(tuple[Any, ...]):
    """Objects compared by identity and shown by their classes."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stack) and [*map(id, self)] == [*map(id, other)]

    __hash__ = tuple.__hash__

    def __str__(self) -> str:
        return ", ".join(type(each).__name__ for each in self) or "none"


def _set_tensor_type(device: str) -> None:
    torch.set_default_tensor_type("torch.FloatTensor" if device == "cpu" else f"torch.{device}.FloatTensor")


def _default_device() -> torch.device | None:
    """None if no default device is set, which is faster than the CPU set as the default."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _restore_function_modes(before: _Stack) -> None:
    while len(_get_current_function_mode_stack()) > len(before):
        _pop_mode()
    for mode in before[len(_get_current_function_mode_stack()) :]:
        _push_mode(mode)


def _restore_dispatch(before: _Stack) -> None:
    while len(dispatch._get_current_dispatch_mode_stack()) > len(before):
        dispatch._pop_mode()
    for mode in before[len(dispatch._get_current_dispatch_mode_stack()) :]:
        dispatch._push_mode(mode)


_entered: list[torch.inference_mode] = []
"""Keeps alive the modes that `_set_inference_mode` entered, because a mode ends with its object."""


def _set_inference_mode(enabled: bool) -> None:
    _entered.append(torch.inference_mode(enabled))
    _entered[-1].__enter__()


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _autocast(device: str) -> State:
    def read() -> tuple[bool, torch.dtype]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def write(value: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, value[0])
        torch.set_autocast_dtype(device, value[1])

    return State(f"autocast on {device}", read, write)


def _autocast_nesting() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _set_autocast_nesting(depth: int) -> None:
    while _autocast_nesting() > depth:
        torch.autocast_decrement_nesting()
    while _autocast_nesting() < depth:
        torch.autocast_increment_nesting()
    torch.clear_autocast_cache()


def _flushes_denormals() -> bool:
    return bool(torch.tensor([1e-310], dtype=torch.float64, device="cpu").mul(0.5).item() == 0)


def _set_multithreading(enabled: bool) -> None:
    torch.autograd.set_multithreading_enabled(enabled)


def _exists(name: str) -> bool:
    try:
        attrgetter(name)(torch.backends)
    except (AttributeError, RuntimeError):
        return False
    return True


def _flag(name: str) -> State:
    owner, _, attribute = name.rpartition(".")

    def write(value: Any) -> None:
        setattr(attrgetter(owner)(torch.backends) if owner else torch.backends, attribute, value)

    return State(f"torch.backends.{name}", lambda: attrgetter(name)(torch.backends), write)


def _attention(name: str) -> State:
    read: Callable[[], bool] = getattr(torch.backends.cuda, f"{name}_enabled")
    return State(f"torch.backends.cuda.{name}_enabled", read, getattr(torch.backends.cuda, f"enable_{name}"))


def _hooks(module: Any, name: str) -> State:
    """A table of hooks, read as a copy."""
    table: dict[Any, Any] = getattr(module, name)

    def write(before: dict[Any, Any]) -> None:
        table.clear()
        table.update(before)

    return State(f"hooks in {module.__name__}.{name}", lambda: dict(table), write, unnamed)


def _hook_kind() -> bool | None:
    return nn.modules.module._global_is_full_backward_hook


def _set_hook_kind(value: bool | None) -> None:
    nn.modules.module._global_is_full_backward_hook = value


def _parametrization_cache() -> tuple[int, frozenset[Any]]:
    """How many `parametrize.cached()` blocks are open, and what they hold.

    If a block is closed from here, it is counted down a second time when it is left.
    """
    if parametrize._cache_enabled < 0:
        _set_parametrization_cache((0, frozenset()))
    return parametrize._cache_enabled, frozenset(parametrize._cache)


def _set_parametrization_cache(before: tuple[int, frozenset[Any]]) -> None:
    parametrize._cache_enabled = before[0]
    for key in set(parametrize._cache) - before[1]:
        del parametrize._cache[key]


def _cuda_device() -> int:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else 0


def _set_cuda_device(index: int) -> None:
    if torch.cuda.is_initialized():
        torch.cuda.set_device(index)
