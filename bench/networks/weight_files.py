"""Files of weights: safetensors, or what `torch.save` wrote, read without running anything that is in them."""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from bench.system.errors import BadArgument
from bench.system.text import shortened

HARMLESS = {
    "argparse.Namespace": "argparse.Namespace",
    "numpy._core.multiarray.scalar": "numpy._core.multiarray.scalar, numpy.dtype",
    "numpy.core.multiarray.scalar": "numpy.core.multiarray.scalar, numpy.dtype",
}
"""What trainers leave beside the weights and only holds values, with what to allow so that torch reads it."""

FOREIGN = {b"\x89HDF\r\n\x1a\n": "a Keras (HDF5) file", b"GGUF": "a GGUF file", b"\x93NUMPY": "a NumPy array"}
"""First bytes of files of other libraries."""
SUFFIXES = {
    ".onnx": "an ONNX model",
    ".tflite": "a TensorFlow Lite model",
    ".npz": "a NumPy archive",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
}


def read_file(path: Path) -> Any:
    """What a .safetensors, .pth, .pt, .bin or .ckpt file holds: tensors and plain containers.

    Raises BadArgument for a file that is missing, truncated, of another kind, or that holds code.
    """
    if path.is_dir():
        raise BadArgument("weights", path, f"a folder; expected a file{_example(path)}")
    if not path.is_file():
        raise BadArgument("weights", path, "there is no such file; or name auto, pretrained or scratch")
    if kind := _foreign(path):
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
    return any(code == "BINUNICODE" and value == "meta" for code, value in _opcodes(path))


def _refused(path: Path, error: str) -> str:
    named = re.search(r"GLOBAL ([\w.]+)", error)
    if not named:
        return "refused, it is truncated, or holds more than tensors; save the state dict alone, best as .safetensors"
    what = named[1]
    key = _key_before(path, what)
    place = f"its key '{shortened(key)}' holds" if key else "it holds"
    if what not in HARMLESS:
        return f"refused, {place} {what}, which is code; save the state dict alone, best as .safetensors"
    drop = f".pop({key!r})" if key else ""
    return (
        f"refused, {place} {what}, which is no tensor; drop it: `with torch.serialization.safe_globals("
        f"[{HARMLESS[what]}]): c = torch.load(FILE, weights_only=True)`, then `c{drop}; torch.save(c, FILE)`"
    )


def _key_before(path: Path, name: str) -> str | None:
    """The dictionary key that a pickled object called `name` stands under; None where that cannot be told.

    The pickle is scanned, not run. `torch.save` writes the key, and then the object.
    """
    key = None
    for code, value in _opcodes(path):
        if code == "GLOBAL" and str(value).replace(" ", ".") == name:
            return key
        if code == "BINUNICODE":
            key = str(value)
    return None


def _opcodes(path: Path) -> list[tuple[str, Any]]:
    """The opcodes of the pickle in a file of `torch.save`; none for other files and damaged ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            return [(code.name, value) for code, value, _ in pickletools.genops(archive.read(name))]
    except Exception:  # whatever a damaged file leads to: this only makes a message better
        return []


def _foreign(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(8)
    return next((kind for magic, kind in FOREIGN.items() if start.startswith(magic)), SUFFIXES.get(path.suffix.lower()))


def _example(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt"))
    return f", such as {shortened(names[0])} in it" if names else ""
