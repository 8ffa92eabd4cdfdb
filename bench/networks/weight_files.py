"""Files of weights: safetensors, or what `torch.save` wrote, read without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bench.networks.file_kinds import foreign_kind
from bench.networks.pickle_scan import Part, paths_to, scan
from bench.system.errors import BadArgument
from bench.system.text import shortened

VALUES = ("argparse.Namespace", "numpy.dtype", "numpy.ndarray")
"""Classes that trainers leave beside the weights and that only hold values."""
NUMPY = re.compile(r"numpy\._?core\.multiarray\.(scalar|_reconstruct)")
"""The functions that rebuild NumPy's values. NumPy 2 renamed their module, and a file holds the name of its time."""
DTYPES = "biufcSU"
"""Kinds of NumPy values that are plain numbers or text."""


def read_file(path: Path) -> Any:
    """What a .safetensors, .pth, .pt, .bin or .ckpt file holds: tensors and plain containers.

    Raises BadArgument for a file that is missing, truncated, of another kind, or that holds code.
    """
    if path.is_dir():
        raise BadArgument("weights", path, f"a folder; expected a file{_example(path)}")
    if not path.is_file():
        raise BadArgument("weights", path, "there is no such file; or name auto, pretrained or scratch")
    if kind := foreign_kind(path):
        raise BadArgument("weights", path, f"{kind}; expected a PyTorch state dict, as .safetensors or .pth")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise BadArgument("weights", path, f"not a whole safetensors file ({error})") from error
    return _torch_load(path)


def _torch_load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats that are refused in any case
            return torch.load(path, map_location=None if _on_meta(path) else "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadArgument("weights", path, _refused(path, str(error))) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError and more for a broken file
        if "TorchScript" in str(error):
            problem = "a TorchScript archive, which holds code; open it with torch.jit.load and save its state_dict()"
            raise BadArgument("weights", path, problem) from error
        first = shortened((str(error) or type(error).__name__).splitlines()[0])
        raise BadArgument("weights", path, f"cannot be read, perhaps truncated ({first})") from error


def _on_meta(path: Path) -> bool:
    """Whether the file says that its tensors hold no numbers; torch would fail to move them to the CPU."""
    root = scan(path)
    return root is not None and any(part.value == "meta" for part in root.walk())


def _refused(path: Path, error: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", error)
    if not named:
        return "refused, it is truncated, or holds more than tensors; save the state dict alone, best as .safetensors"
    what, root = named[1], scan(path)
    first = [] if root is None else paths_to(root, [what])
    place = f"its key '{shortened('.'.join(map(str, first[0])))}' holds" if first else "it holds"
    unsafe = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) if root is not None else {what}
    if root is None or not first or not all(name in VALUES or NUMPY.fullmatch(name) for name in unsafe):
        return f"refused, {place} {what}, which is code; save the state dict alone, best as .safetensors"
    allowed = ", ".join([*map(_expression, sorted(unsafe)), *_dtype_classes(root)])
    drops = map(_drop, paths_to(root, unsafe))
    return (
        f"refused, {place} {what}, which is not a tensor; drop it: `with torch.serialization.safe_globals("
        f"[{allowed}]): c = torch.load(FILE, weights_only=True)`, then `{'; '.join(drops)}; torch.save(c, FILE)`"
    )


def _expression(name: str) -> str:
    """How to write a name from a file in `safe_globals`: as it is, or with its place in the installed NumPy."""
    made_by = NUMPY.fullmatch(name)
    if made_by is None:
        return name
    here = f"{np.array(0.0).__reduce__()[0].__module__}.{made_by[1]}"
    return name if name == here else f"({here}, '{name}')"


def _dtype_classes(root: Part) -> list[str]:
    """The classes of the NumPy data types in a file; torch requires each of them to be allowed too."""
    names = {
        type(np.dtype(text.value)).__name__
        for part in root.walk()
        if part.opcode == "REDUCE" and part.parts[0].value == "numpy.dtype"
        for text in part.parts[1].parts[:1]
        if isinstance(text.value, str) and re.fullmatch(rf"[{DTYPES}]\d+", text.value)
    }
    return [f"numpy.dtypes.{name}" for name in sorted(names)]


def _drop(keys: tuple[Any, ...]) -> str:
    return f"c{''.join(f'[{key!r}]' for key in keys[:-1])}.pop({keys[-1]!r})"


def _example(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt"))
    return f", such as {shortened(names[0])} in it" if names else ""
