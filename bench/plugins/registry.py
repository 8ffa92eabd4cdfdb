"""Methods and datasets by name, found through entry points; ours are found in the same way as those of other packages.

An entry point of the group `bench.methods` or `bench.datasets` names a class, a module, or a folder of modules; a
module offers the classes it defines. Files whose names begin with an underscore are skipped.
"""

from __future__ import annotations

import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache, partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from bench.plugins.method import Method
from bench.system.errors import BadArgument, BenchError
from bench.system.text import did_you_mean, shortened

if TYPE_CHECKING:
    from bench.data.dataset import Dataset

T = TypeVar("T")

faults: list[str] = []
"""What was wrong with plugins that could not be used; each was told as a warning."""


@cache
def methods() -> dict[str, type[Method]]:
    """Every installed method by its name."""
    return _collect("bench.methods", Method)


@cache
def datasets() -> dict[str, type[Dataset]]:
    """Every installed dataset by its name."""
    from bench.data.dataset import Dataset

    return _collect("bench.datasets", Dataset)


def look_up(name: str, known: dict[str, T], kind: str, source: str) -> T:
    """The plugin of that name. If there is none, a BenchError lists those that exist and suggests the nearest name.

    `source` says where the name came from.
    """
    if name in known:
        return known[name]
    raise BenchError(f"{source}: there is no {kind} '{shortened(name)}'{did_you_mean(name, known)}")


def open_dataset(spec: str, root: Path | None = None) -> Dataset:
    """The dataset that `NAME` or `NAME:ARGUMENT` names. BadArgument if there is none.

    `held-out:NAME` is the same dataset, tested on images held out of its training images.
    """
    from bench.data.contract import open_checked
    from bench.data.held_out import PREFIX, HeldOut

    name, colon, argument = spec.partition(":")
    if name == PREFIX and argument and not argument.startswith(PREFIX):
        return HeldOut(open_dataset(argument, root))
    kind = datasets().get(name)
    if kind is None:
        raise BadArgument("dataset", spec, f"there is no such dataset{did_you_mean(name, datasets())}")
    return open_checked(kind, argument if colon else None, root)


def _collect(group: str, kind: type[Any]) -> dict[str, Any]:
    plugins: dict[str, Any] = {}
    for point in entry_points(group=group):
        for plugin in _plugins(point, kind):
            other = plugins.setdefault(plugin.name, plugin)
            if other is not plugin:
                raise BenchError(f"two plugins are called '{plugin.name}': {_place(other)} and {_place(plugin)}")
    return dict(sorted(plugins.items()))


def _plugins(point: EntryPoint, kind: type[Any]) -> Iterator[type[Any]]:
    package = f" of the package {point.dist.name}" if point.dist else ""
    origin = f"plugin '{point.name}' ({point.value}){package}"
    loaded = _attempt(point.load, origin)
    if isinstance(loaded, ModuleType):
        for module in _modules(loaded, package):
            for item in vars(module).values():
                if _is_plugin(item, kind) and item.__module__ == module.__name__:
                    yield item
    elif _is_plugin(loaded, kind):
        yield loaded
    elif loaded is not None:
        _warn(f"{origin} is not a {kind.__name__} with a name")


def _modules(module: ModuleType, package: str) -> Iterator[ModuleType]:
    yield module
    for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
        if not info.name.startswith("_"):
            name = f"{module.__name__}.{info.name}"
            loaded = _attempt(partial(import_module, name), f"plugin {name}{package}")
            if loaded is not None:
                yield loaded


def _attempt(load: Callable[[], Any], origin: str) -> Any:
    """Import a plugin; None and a warning if that fails, because the other plugins must go on working.

    A plugin that exits has failed too. What it prints goes to standard error, because standard output may be a file
    of figures. Its name is put before its warnings.
    """
    try:
        with redirect_stdout(sys.stderr), _warnings_named(origin):
            return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _warn(f"{origin} cannot be imported: {error!r}")
        return None


def _warn(fault: str) -> None:
    faults.append(fault)
    warnings.warn(fault, stacklevel=3)


@contextmanager
def _warnings_named(origin: str) -> Iterator[None]:
    """Put `origin` before each warning that is shown.

    `warnings.catch_warnings` would undo the filters that a library such as torch sets when it is imported.
    """
    show = warnings.showwarning

    def show_named(message: Warning | str, *details: Any, **more: Any) -> None:
        show(UserWarning(f"{origin}: {message}"), *details, **more)

    warnings.showwarning = show_named
    try:
        yield
    finally:
        warnings.showwarning = show


def _is_plugin(item: object, kind: type[Any]) -> bool:
    return (
        inspect.isclass(item)
        and issubclass(item, kind)
        and not inspect.isabstract(item)
        and isinstance(vars(item).get("name"), str)
    )


def _place(plugin: type[Any]) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"
