"""Methods and datasets by name, found through entry points: ours exactly as an outsider's.

An entry point of the group `bench.methods` or `bench.datasets` names a class, a module, or a folder of modules; a
module offers the classes it defines. Files that begin with an underscore are not looked into.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

from bench.dataset import Dataset
from bench.errors import BenchError
from bench.method import Method

T = TypeVar("T")


@cache
def methods() -> dict[str, type[Method]]:
    """Every installed method by its name."""
    return _collect("bench.methods", Method)


@cache
def datasets() -> dict[str, type[Dataset]]:
    """Every installed dataset by its name."""
    return _collect("bench.datasets", Dataset)


def look_up(name: str, known: dict[str, T], kind: str, source: str) -> T:
    """The plugin of that name; otherwise one line that says what exists, with the nearest name."""
    if name in known:
        return known[name]
    raise BenchError(f"{source}: there is no {kind} '{name}'{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'tic'? There are dynamic, kse, ...`"""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"{hint} There are: {', '.join(names)}"


def _collect(group: str, kind: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point in entry_points(group=group):
        for plugin in _classes(point, kind):
            other = found.setdefault(plugin.name, plugin)
            if other is not plugin:
                raise BenchError(f"two plugins are called '{plugin.name}': {_place(other)} and {_place(plugin)}")
    return dict(sorted(found.items()))


def _classes(point: EntryPoint, kind: type[Any]) -> Iterator[type[Any]]:
    try:
        loaded = point.load()
        modules = list(_modules(loaded)) if isinstance(loaded, ModuleType) else []
    except Exception as error:  # somebody else's code: the other plugins must go on working
        warnings.warn(f"plugin '{point.name}' ({point.value}) cannot be imported: {error!r}", stacklevel=3)
        return
    if inspect.isclass(loaded):
        yield loaded
    for module in modules:
        for item in vars(module).values():
            if inspect.isclass(item) and issubclass(item, kind) and item.__module__ == module.__name__:
                if not inspect.isabstract(item) and isinstance(item.__dict__.get("name"), str):
                    yield item


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not info.name.startswith("_"):
            yield import_module(f"{module.__name__}.{info.name}")


def _place(plugin: type[Any]) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"
