"""What kind of file was given as weights but holds none, judged by its content, then by its name."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

from bench.system.text import shortened

BEGINNING = 512
"""Bytes of a file that are looked at."""
MAGIC = {
    b"\x89HDF\r\n\x1a\n": "a Keras (HDF5) file",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"\xfd7zXZ\x00": "an xz file; unpack it first",
    b"version https://git-lfs": "a Git LFS pointer, which stands for the file itself; fetch it with `git lfs pull`",
}
"""First bytes of files of other libraries."""
SUFFIXES = {
    ".onnx": "an ONNX model",
    ".tflite": "a TensorFlow Lite model",
    ".npz": "a NumPy archive",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
}
PAGES = (b"<!doctype html", b"<html", b"<?xml")
TORCH = ("data.pkl", "constants.pkl")
"""Names of files; each archive of torch has one of them, in its top folder."""


def foreign_kind(path: Path) -> str | None:
    """What the file is, if it is certainly not one that PyTorch or safetensors wrote under such a name; else None."""
    with path.open("rb") as file:
        start = file.read(BEGINNING)
    if kind := next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None):
        return kind
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        return "a web page, perhaps from a failed download"
    if kind := SUFFIXES.get(path.suffix.lower()):
        return kind
    return "a text file" if _is_text(start) else _misnamed(path, start)


def _is_text(start: bytes) -> bool:
    """Whether it begins with words in UTF-8; a pickle begins with a number, or has control characters."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return " " in text and all(char.isprintable() or char in "\n\r\t" for char in text)


def _misnamed(path: Path, start: bytes) -> str | None:
    named_safetensors = path.suffix == ".safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "a zip archive; if torch.save wrote it, call it .pth" if named_safetensors else _foreign_zip(path)
    if not named_safetensors and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "a safetensors file by its content; call it .safetensors"
    return None


def _foreign_zip(path: Path) -> str | None:
    """What a zip archive is; None for an archive of torch, and for a damaged one, about which torch says more."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    if any(name.count("/") == 1 and name.endswith(TORCH) for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive"
    return f"a zip archive of something else{f', such as {shortened(names[0])}' if names else ''}"
