"""Weights on disk: safetensors, or a state dict read without unpickling code."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.system.errors import BenchError

StateDict = Mapping[str, Tensor]
WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
NAMED = 3


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a .pth/.pt/.bin state dict, `module.` prefixes stripped.

    Nothing is unpickled but tensors and plain containers. Raises BenchError for a missing, truncated or unsafe file.
    """
    if not path.is_file():
        raise BenchError(f"--weights {path}: there is no such file; or name auto, pretrained or scratch")
    if path.suffix == ".safetensors":
        try:
            return _strip_module(load_file(path))
        except (SafetensorError, OSError) as error:
            raise BenchError(f"--weights {path}: not a whole safetensors file ({error})") from error
    return _strip_module(_unwrap(path, _torch_load(path)))


def _torch_load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it holds {named[1]}, which is code" if named else "it is truncated, or holds more than tensors"
        raise BenchError(
            f"--weights {path}: refused, {what}; save the state dict alone, best as .safetensors"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError and more for a broken file
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BenchError(f"--weights {path}: cannot be read, perhaps truncated ({first})") from error


def _unwrap(path: Path, loaded: Any) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping):
        raise BenchError(f"--weights {path}: holds a {type(loaded).__name__}, not a state dict")
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if not tensors:
        raise BenchError(f"--weights {path}: no tensors found; expected a state dict, bare or under {WRAPPERS[0]!r}")
    return tensors


def _strip_module(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def load_weights(model: nn.Module, tensors: StateDict, source: str) -> None:
    """Copy `tensors` into `model`. A missing key, another shape or NaN raises BenchError; a key too many warns."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, the network has {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if missing or shapes:
        parts = ([f"missing {_some(missing)}"] if missing else []) + ([_some(shapes)] if shapes else [])
        raise BenchError(f"--weights {source}: does not fit the network: {'; '.join(parts)}")
    odd = [name for name in wanted if name in tensors and not tensors[name].isfinite().all()]
    if odd:
        raise BenchError(f"--weights {source}: not all numbers are finite: {_some(odd)}")
    extra = [name for name in tensors if name not in wanted]
    if extra:
        warnings.warn(f"--weights {source}: ignored, as no tensor of the network: {_some(extra)}", stacklevel=2)
    model.load_state_dict({name: tensors.get(name, value) for name, value in wanted.items()})


def digest(tensors: StateDict) -> str:
    """SHA-256 (16 hex digits) of names, shapes and values, whatever file they came from."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        total.update(value.view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
