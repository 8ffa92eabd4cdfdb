"""Methods and datasets by name, found through entry points: ours exactly as an outsider's.

An entry point of the group `bench.methods` or `bench.datasets` names a class, a module, or a folder of modules; a
module offers the classes it defines. Files that begin with an underscore are not looked into.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from bench.data.dataset import Dataset
from bench.plugins.method import Method
from bench.system.errors import BenchError

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


def open_dataset(spec: str, root: Path | None = None) -> Dataset:
    """The dataset that `NAME` or `NAME:ARGUMENT` names."""
    name, colon, argument = spec.partition(":")
    kind = look_up(name, datasets(), "dataset", "--dataset")
    return kind.open(argument if colon else None, root)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'tic'? There are dynamic, kse, ...`"""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"{hint} There are: {', '.join(names)}"


def _collect(group: str, kind: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for point in entry_points(group=group):
        for plugin in _plugins(point, kind):
            other = found.setdefault(plugin.name, plugin)
            if other is not plugin:
                raise BenchError(f"two plugins are called '{plugin.name}': {_place(other)} and {_place(plugin)}")
    return dict(sorted(found.items()))


def _plugins(point: EntryPoint, kind: type[Any]) -> Iterator[type[Any]]:
    loaded = _attempt(point.load, f"plugin '{point.name}' ({point.value})")
    if isinstance(loaded, ModuleType):
        for module in _modules(loaded):
            for item in vars(module).values():
                if _is_plugin(item, kind) and item.__module__ == module.__name__:
                    yield item
    elif _is_plugin(loaded, kind):
        yield loaded
    elif loaded is not None:
        warnings.warn(f"plugin '{point.name}' ({point.value}) is no {kind.__name__} with a name", stacklevel=2)


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not info.name.startswith("_"):
            name = f"{module.__name__}.{info.name}"
            found = _attempt(partial(import_module, name), f"plugin {name}")
            if found is not None:
                yield found


def _attempt(load: Callable[[], Any], what: str) -> Any:
    """None and a warning where somebody's code cannot be imported: the other plugins must go on working."""
    try:
        return load()
    except Exception as error:
        warnings.warn(f"{what} cannot be imported: {error!r}", stacklevel=2)
        return None


def _is_plugin(item: object, kind: type[Any]) -> bool:
    return (
        inspect.isclass(item)
        and issubclass(item, kind)
        and not inspect.isabstract(item)
        and isinstance(vars(item).get("name"), str)
    )


def _place(plugin: type[Any]) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"
