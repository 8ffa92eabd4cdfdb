"""Importing the code that a user names: a module, or a file that is not part of a package."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, util
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from bench.system.errors import BadArgument
from bench.system.text import listed

EXPECTED = "expected package.module:function or path/file.py:Class"
PREFIX = "bench_own_"
"""The prefix of the names of modules that were imported from a file."""


def imported(name: str, place: str) -> ModuleType:
    """The module `place`, installed or else from the current folder. BadArgument if there is none."""
    parts = place.split(".")
    if not all(part.isidentifier() for part in parts):
        raise BadArgument("models", name, EXPECTED)
    try:
        with _on_path(Path.cwd(), first=False):
            return import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            problem = f"there is no module '{error.name}', neither installed nor in the current folder"
            raise BadArgument("models", name, problem) from error
        raise


def from_file(name: str, place: str) -> ModuleType:
    """The module in the file `place`, imported once for each content; it may import files beside it."""
    path = Path(place).expanduser()
    if not path.is_file():
        raise BadArgument("models", name, f"there is no file {path}")
    content = path.read_bytes()
    digest = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape") + content).hexdigest()[:12]
    known = f"{PREFIX}{path.stem}_{digest}"
    if known in sys.modules:
        return sys.modules[known]
    spec = util.spec_from_file_location(known, path.resolve())
    assert spec is not None and spec.loader is not None
    module = sys.modules[known] = util.module_from_spec(spec)
    try:
        with _on_path(path.resolve().parent, first=True):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[known]
        raise
    return module


def file_of(name: str) -> str | None:
    """The file from which `from_file` imported the module of this name; None for other modules."""
    return str(sys.modules[name].__file__) if name.startswith(PREFIX) else None


def attribute_of(module: ModuleType, name: str, place: str, attribute: str) -> Any:
    """The attribute of a module, which may be dotted. If there is none, a BadArgument suggests the nearest name."""
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            offered = _offered(module)
            near = difflib.get_close_matches(attribute, offered, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; it has: {listed(offered, 10)}" if offered else ""
            raise BadArgument("models", name, f"{place} has no '{attribute}'{hint}")
        value = getattr(value, part)
    return value


def _offered(module: ModuleType) -> list[str]:
    """The networks and functions that a module defines itself."""
    return [
        name
        for name, item in vars(module).items()
        if not name.startswith("_")
        and getattr(item, "__module__", None) == module.__name__
        and (inspect.isfunction(item) or (inspect.isclass(item) and issubclass(item, nn.Module)))
    ]


@contextmanager
def _on_path(folder: Path, *, first: bool) -> Iterator[None]:
    """Within this block, modules are also looked for in `folder`: with `first` before all other places, else after."""
    entry = str(folder)
    sys.path.insert(0 if first else len(sys.path), entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
