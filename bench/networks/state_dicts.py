"""State dicts in real checkpoints: found in the file, matched to a network's names, and copied into it."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.networks.layers import is_classifier
from bench.networks.weight_files import read_file
from bench.system.errors import BadArgument
from bench.system.text import listed, shortened

StateDict = Mapping[str, Tensor]
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.")
"""What wrappers of networks (data parallel, compile, Lightning) put before every name."""
WITHIN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")
"""What wrappers of a part of a network (compile, sharding, checkpointing, data parallel) put into its names."""
DEPTH = 3
"""How deep in a checkpoint state dicts are looked for."""
FLOAT8 = tuple(getattr(torch, name) for name in dir(torch) if name.startswith("float8_"))


def read_state_dict(path: Path, names: Collection[str] = (), key: str | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint, under the names that a network uses.

    `names` are the network's names. With them, any prefix is recognised, and the best of several state dicts is taken,
    even if they lie in one mapping as `student.*` and `teacher.*`. If a file holds weights and their moving average
    (EMA), the weights are taken, and a warning names the other. `key` chooses one by its place, as in 'model_ema',
    'ema.state_dict' or 'teacher'. Only tensors and plain containers are unpickled.

    Raises BadArgument if no usable state dict is found, and if several fit and no `key` is given.
    """
    loaded = read_file(path)
    if not isinstance(loaded, Mapping):
        raise BadArgument("weights", path, f"holds a {type(loaded).__name__}, not a state dict")
    several = {
        place: part
        for outer, tensors in _state_dicts(loaded)
        for place, part in _by_prefix(outer, _unwrapped(tensors, names), names)
    }
    if not several:
        raise BadArgument("weights", path, "no tensors found; expected a state dict, bare or under 'state_dict'")
    tensors = _at(path, several, key) if key is not None else several[_chosen(path, several, names)]
    for name, value in tensors.items():
        if problem := _unusable(value):
            raise BadArgument("weights", path, f"{shortened(name)} {problem}")
    return without_prefix(tensors, names)


def split_key(weights: str) -> tuple[Path, str | None]:
    """The file and the key in FILE#KEY. If a file of the whole name exists, the # is part of its name."""
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


def _by_prefix(
    place: str, tensors: dict[str, Tensor], names: Collection[str]
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The state dicts in one mapping: those under each prefix where several fit alike, else the whole."""
    counts = _prefix_counts(tensors, names)
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most and 2 * most >= len(names)]
    if len(best) < 2:
        yield place, tensors
        return
    for prefix in best:
        inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        yield ".".join(part for part in (place, prefix.removesuffix(".")) if part), inner


def _prefix_counts(tensors: Collection[str], names: Collection[str]) -> dict[str, int]:
    """Every prefix under which a network's names are found, with the number of those names."""
    wanted = set(names)
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(index + 1 for index, char in enumerate(name) if char == ".")]
        counts.update(name[:start] for start in starts if name[start:] in wanted)
    return dict(counts)


def _at(path: Path, several: Mapping[str, dict[str, Tensor]], key: str) -> dict[str, Tensor]:
    """The state dict at a place, or what lies there under a prefix of the names."""
    if key in several:
        return several[key]
    for place, tensors in several.items():
        prefix = f"{key.removeprefix(f'{place}.')}." if place else f"{key}."
        if under := {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}:
            return under
    raise BadArgument("weights", f"{path}#{key}", f"the file has no state dict there; it has: {_places(several)}")


def _chosen(path: Path, several: Mapping[str, dict[str, Tensor]], names: Collection[str]) -> str:
    fits = {
        place: max(_prefix_counts(tensors, names).values(), default=0) if names else len(tensors)
        for place, tensors in several.items()
    }
    most = max(fits.values())
    if not most and len(several) > 1:
        raise BadArgument("weights", path, f"no state dict in it has the network's names; it has: {_places(several)}")
    best = [place for place, fit in fits.items() if fit == most]
    plain = [place for place in best if "ema" not in place.lower().replace(".", "_").split("_")] or best
    first = plain[0]
    if names and any(not _same(several[first], several[place]) for place in plain[1:]):
        several = {place: several[place] for place in plain}
        problem = f"{len(plain)} state dicts in it fit the network: {_places(several)}; choose one, as in"
        raise BadArgument("weights", path, f"{problem} {path.name}#{plain[-1]}")
    if others := [place for place in best if place not in plain]:
        warnings.warn(
            f"weights {path}: {_named(first)} is used; the file also holds {', '.join(map(repr, others))}, "
            f"which {path.name}#{others[0]} would choose",
            stacklevel=3,
        )
    return first


def _same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether a file holds the same tensors in two places."""
    return ours.keys() == theirs.keys() and all(
        ours[name].data_ptr() == theirs[name].data_ptr() or torch.equal(ours[name], theirs[name]) for name in ours
    )


def _places(several: Mapping[str, Any]) -> str:
    return listed([_named(place) for place in several], most=10)


def _named(place: str) -> str:
    return shortened(repr(place)) if place else "its top level"


def _unwrapped(tensors: dict[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """The tensors without the parts that wrappers put into names, as in `layer1._orig_mod.conv.weight`.

    Parts that also occur in the network's names stay.
    """
    own = {part for name in names for part in name.split(".")}
    wrappers = set(WITHIN if names else WITHIN[:-1]) - own

    def unwrapped(name: str) -> str:
        first, *rest = name.split(".")
        return ".".join([first, *(part for part in rest if part not in wrappers)])

    renamed = {unwrapped(name): value for name, value in tensors.items()}
    return renamed if len(renamed) == len(tensors) else tensors


def without_prefix(tensors: Mapping[str, Tensor], names: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors without the prefix that a wrapper put before every name. Other names, such as `n_averaged`, stay.

    With a network's `names`, it is the prefix under which most of them are found; otherwise any usual prefix that all
    tensors share.
    """
    if names:
        counts = _prefix_counts(tensors, names)
        best = max(sorted(counts, key=len), key=lambda prefix: counts[prefix], default="")
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
    """Copy `tensors` into `model`. BadArgument for a missing name, another shape or NaN; unknown names only warn."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, the network has {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if missing or shapes:
        parts = ([f"missing {listed(missing)}"] if missing else []) + ([listed(shapes)] if shapes else [])
        there = f"; the file has {listed(list(tensors))}" if tensors and len(missing) >= len(wanted) / 2 else ""
        raise BadArgument("weights", Path(source), f"does not fit the network: {'; '.join(parts)}{there}")
    whole = [
        f"{name} ({tensors[name].dtype})"
        for name, value in wanted.items()
        if name in tensors and value.is_floating_point() and not tensors[name].is_floating_point()
    ]
    if whole:
        problem = (
            f"whole numbers where the network has floats, as in 8-bit weights without their scales: {listed(whole)}"
        )
        raise BadArgument("weights", Path(source), problem)
    infinite = [name for name in wanted if name in tensors and not tensors[name].isfinite().all()]
    if infinite:
        raise BadArgument("weights", Path(source), f"not all numbers are finite: {listed(infinite)}")
    extra = [name for name in tensors if name not in wanted]
    if extra:
        warnings.warn(f"weights {source}: ignored, as the network has no such tensor: {listed(extra)}", stacklevel=2)
    model.load_state_dict({name: tensors.get(name, value) for name, value in wanted.items()})


def new_layers(model: nn.Module, tensors: StateDict) -> list[str]:
    """The classifiers of `model` that `tensors` do not fit, because they are for another number of classes.

    Such a layer is missing in `tensors`, or has another number of outputs there. The list is empty if everything fits,
    and if something other than a classifier does not.
    """
    wanted = {name: value for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    unlike = [name for name, value in wanted.items() if name not in tensors or tensors[name].shape != value.shape]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in unlike))
    named = dict(model.named_modules())
    if not all(_is_new(model, named[layer], layer, tensors) for layer in layers):
        return []
    return layers


def _is_new(model: nn.Module, layer: nn.Module, name: str, tensors: StateDict) -> bool:
    outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    weight, given = getattr(layer, "weight", None), tensors.get(f"{name}.weight")
    if given is None or weight is None:
        return is_classifier(model, layer)
    other = given.shape[1:] == weight.shape[1:] and len(given) != len(weight)
    return other and outputs is not None and outputs == getattr(model, "num_classes", outputs)


def load_but(model: nn.Module, tensors: StateDict, layers: Collection[str], source: str) -> None:
    """`load_weights` for all but these layers, which stay as they are."""
    own = model.state_dict()
    kept = {name: value for name, value in own.items() if name.rpartition(".")[0] in layers}
    load_weights(model, dict(tensors) | kept, source)


def digest(tensors: StateDict) -> str:
    """SHA-256 (16 hex digits) of names, shapes and values, whatever file they came from."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        total.update(value.view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]
