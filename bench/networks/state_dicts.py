"""State dicts as people have them: found in a checkpoint, matched to a network's names, copied into it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.networks.weight_files import read_file
from bench.system.errors import BadArgument
from bench.system.text import shortened

StateDict = Mapping[str, Tensor]
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")
"""What wrappers of networks (data parallel, compile, Lightning) put before every name."""
DEPTH = 3
"""How deep in a checkpoint state dicts are looked for."""
NAMED = 3
FLOAT8 = tuple(getattr(torch, name) for name in dir(torch) if name.startswith("float8_"))


def read_state_dict(path: Path, names: Collection[str] = (), key: str | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint, under the names that a network uses.

    `names` are the network's: with them a prefix of any kind is found, and the best of several state dicts taken. If
    there are several that fit equally well, such as weights and their moving average (EMA), the first that is no EMA is
    taken, with a warning that lists the others; `key` chooses one by its place, as in 'model_ema' or 'ema.state_dict'.
    Nothing is unpickled but tensors and plain containers. Raises BadArgument where no usable state dict is found.
    """
    loaded = read_file(path)
    if not isinstance(loaded, Mapping):
        raise BadArgument("weights", path, f"holds a {type(loaded).__name__}, not a state dict")
    several = dict(_state_dicts(loaded))
    if not several:
        raise BadArgument("weights", path, "no tensors found; expected a state dict, bare or under 'state_dict'")
    tensors = several[_chosen(path, several, names, key)]
    for name, value in tensors.items():
        if problem := _unusable(value):
            raise BadArgument("weights", path, f"{shortened(name)} {problem}")
    return without_prefix(tensors, names)


def split_key(weights: str) -> tuple[Path, str | None]:
    """The file and the key in FILE#KEY; a file whose own name holds a # is meant as it is."""
    name, sign, key = weights.rpartition("#")
    if not sign or Path(weights).exists():
        return Path(weights), None
    return Path(name), key


def _state_dicts(loaded: Mapping[Any, Any], place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping that holds tensors, by the dotted keys that lead to it."""
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for name, value in loaded.items():
        if isinstance(value, Mapping) and depth < DEPTH and name not in ("optimizer", "optimizer_state_dict"):
            yield from _state_dicts(value, f"{place}.{name}" if place else str(name), depth + 1)


def _chosen(path: Path, several: Mapping[str, dict[str, Tensor]], names: Collection[str], key: str | None) -> str:
    if key is not None:
        if key not in several:
            there = ", ".join(shortened(repr(place)) for place in several)
            raise BadArgument("weights", f"{path}#{key}", f"the file has no state dict there; it has: {there}")
        return key

    def fit(place: str) -> int:
        return len(without_prefix(several[place], names).keys() & set(names)) if names else len(several[place])

    most = max(map(fit, several))
    best = [place for place in several if fit(place) == most and (most or place == next(iter(several)))]
    first = next((place for place in best if "ema" not in place.lower().replace(".", "_").split("_")), best[0])
    if others := [place for place in best if place != first]:
        warnings.warn(
            f"weights {path}: '{first}' is used; the file holds {', '.join(map(repr, others))} too, "
            f"chosen by {path.name}#{others[0]}",
            stacklevel=3,
        )
    return first


def without_prefix(tensors: Mapping[str, Tensor], names: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors without what a wrapper put before every name. Foreign names, as `n_averaged`, stay as they are.

    With a network's `names`, the prefix under which most of them are found; else the usual ones that all share.
    """
    if names:
        longest = max(names, key=len)
        prefixes = {name.removesuffix(longest) for name in tensors if f".{name}".endswith(f".{longest}")} | {""}
        best = max(sorted(prefixes, key=len), key=lambda prefix: sum(f"{prefix}{name}" in tensors for name in names))
        return {name.removeprefix(best): value for name, value in tensors.items()}
    bare = dict(tensors)
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in bare)), ""):
        bare = {name.removeprefix(prefix): value for name, value in bare.items()}
    return bare


def _unusable(value: Tensor) -> str | None:
    """Why a tensor cannot be copied into a network, and what to do; None where it can."""
    if value.is_meta:
        return "is on the meta device and holds no numbers; save the network after its weights are loaded"
    if value.is_quantized:
        return f"is quantised ({value.dtype}); save its dequantize()"
    if value.is_nested:
        return "is a nested tensor, which no layer holds"
    if value.layout != torch.strided:
        return f"is sparse ({value.layout}); save its to_dense()"
    if value.is_complex():
        return f"is complex ({value.dtype}), and would lose its imaginary part; no layer here computes with it"
    if value.dtype in FLOAT8:
        return f"is stored in 8-bit floats ({value.dtype}), whose scales are not in the file format; save its float()"
    return None


def load_weights(model: nn.Module, tensors: StateDict, source: str) -> None:
    """Copy `tensors` into `model`. A missing name, another shape or NaN raises BadArgument; a name too many warns."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, the network has {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if missing or shapes:
        parts = ([f"missing {_some(missing)}"] if missing else []) + ([_some(shapes)] if shapes else [])
        raise BadArgument("weights", Path(source), f"does not fit the network: {'; '.join(parts)}")
    whole = [
        f"{name} ({tensors[name].dtype})"
        for name, value in wanted.items()
        if name in tensors and value.is_floating_point() and not tensors[name].is_floating_point()
    ]
    if whole:
        problem = (
            f"whole numbers where the network has floats, as in 8-bit weights without their scales: {_some(whole)}"
        )
        raise BadArgument("weights", Path(source), problem)
    infinite = [name for name in wanted if name in tensors and not tensors[name].isfinite().all()]
    if infinite:
        raise BadArgument("weights", Path(source), f"not all numbers are finite: {_some(infinite)}")
    extra = [name for name in tensors if name not in wanted]
    if extra:
        warnings.warn(f"weights {source}: ignored, as the network has no such tensor: {_some(extra)}", stacklevel=2)
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
    shown = ", ".join(map(shortened, names[:NAMED]))
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown
