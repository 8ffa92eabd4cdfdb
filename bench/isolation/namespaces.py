"""The functions, classes and methods of torch, timm and the harness, which other code can replace by assignment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from types import FunctionType, ModuleType
from typing import Any

from bench.isolation.changes import Changes

LIBRARIES = frozenset(
    "bench bench_datasets bench_methods builtins copy io json math numpy os posixpath ptflops PIL pytorchcv random "
    "safetensors time timm torch torch_pruning torchvision".split()
)
"""Packages whose names are watched."""

UNUSED = {
    "numpy": "_core _typing char core f2py fft lib linalg ma matrixlib polynomial rec strings testing typing",
    "PIL": "ExifTags TiffTags",
    "torch": "_C._ _decomp _dynamo _export _functorch _guards _higher_order_ops _inductor _jit_internal _lazy _library "
    "_logging _meta_registrations _native _numpy _prims _refs _subclasses _vendor ao autograd.profiler compiler "
    "distributed distributions export func fx jit masked monitor mps mtia nested nn.intrinsic nn.parallel nn.qat "
    "nn.quantizable nn.quantized onnx package profiler quantization return_types sparse testing utils._debug_mode "
    "utils._sympy xpu",
    "torchvision": "datasets io models ops tv_tensors utils",
}
"""Parts of these packages that no measurement uses, by prefix. They hold more than half of all names."""
UNUSED_MODULES = tuple(f"{library}.{part}" for library, parts in UNUSED.items() for part in parts.split())

OWN = "bench."
"""In the harness, constants are watched too."""

BOOKKEEPING = frozenset(
    "__abstractmethods__ __annotations__ __dict__ __doc__ __match_args__ __module__ __parameters__ __slots__ "
    "__static_attributes__ __weakref__ _abc_impl".split()
)
IMMUTABLE = 1 << 8
"""Py_TPFLAGS_IMMUTABLETYPE: classes written in C, whose attributes cannot be assigned."""

Values = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Namespace:
    """A module or a class, and the names in it that are watched."""

    label: str
    owner: Any
    names: tuple[str, ...]

    def values(self) -> Values:
        """The current values of the names, None for a name that is gone; then the code of each function."""
        objects = tuple(map(vars(self.owner).get, self.names))
        return objects + tuple(value.__code__ for value in objects if type(value) is FunctionType)

    def restore(self, before: Values) -> Changes:
        """Put back what differs, and name it."""
        changes, count = Changes(), len(self.names)
        objects, codes = before[:count], before[count:]
        for name, old, new in zip(self.names, objects, self.values()[:count], strict=True):
            if old is not new and not _is_patched_by_torch(self.owner, name, new):
                setattr(self.owner, name, old)
                changes += Changes.of(f"{self.label}.{name}", vars(self.owner).get(name) is old)
        functions = [value for value in objects if type(value) is FunctionType]
        for function, code in zip(functions, codes, strict=True):
            if function.__code__ is not code:
                function.__code__ = code
                changes += Changes.of(f"the code of {self.label}.{function.__name__}", function.__code__ is code)
        return changes


_latest: dict[Namespace, Values] = {}
"""The values of the names in the latest snapshot. Unchanged tuples are reused, because 3,000 new ones in each trial
would make the garbage collector walk through everything that torch holds."""


@dataclass(frozen=True)
class Names:
    """The values of all watched names at one moment, and how many names each class had."""

    values: dict[Namespace, Values]
    sizes: list[int]

    @classmethod
    def now(cls) -> Names:
        for space in _watched(len(sys.modules)):
            values = space.values()
            if not _same(_latest.get(space, ()), values):
                _latest[space] = values
        return cls(dict(_latest), [len(vars(space.owner)) for space in _latest])

    def restore(self) -> Changes:
        """Put back what was replaced, and remove methods that were added to classes."""
        changes = Changes()
        for (space, before), size in zip(self.values.items(), self.sizes, strict=True):
            if not _same(before, space.values()):
                changes += space.restore(before)
            if isinstance(space.owner, type) and len(vars(space.owner)) > size:
                changes += _remove_added(space)
        return changes


def _same(before: Values, now: Values) -> bool:
    """Whether both hold the same objects. Comparing tuples is fast, because it checks identity first."""
    try:
        return before == now
    except Exception:  # an array, which compares element by element
        return False


def _remove_added(space: Namespace) -> Changes:
    added = [
        name
        for name, value in list(vars(space.owner).items())
        if name not in space.names and name not in BOOKKEEPING and callable(value)
    ]
    for name in added:
        delattr(space.owner, name)
    return Changes(tuple(f"{space.label}.{name}" for name in added))


def _is_patched_by_torch(owner: Any, name: str, value: Any) -> bool:
    """Whether the value is torch's own patch: the first instance of an optimiser wraps `step` of its class."""
    return name == "step" and getattr(value, "hooked", False) is True and hasattr(owner, "zero_grad")


@lru_cache(maxsize=1)
def _watched(imported: int) -> list[Namespace]:
    """The namespaces of all modules; looked up again when another number of them is imported."""
    return [space for module in _modules() for space in _namespaces(module)]


def _modules() -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        if _is_watched(name) and isinstance(module, ModuleType):
            yield module


@cache
def _is_watched(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES and not module.startswith(UNUSED_MODULES)


@cache
def _namespaces(module: ModuleType) -> tuple[Namespace, ...]:
    """The module and the classes that it defines. Names that it gets later are not watched."""
    own = module.__name__.startswith(OWN)
    content = vars(module)
    names = tuple(name for name, value in content.items() if callable(value) or (own and _is_constant(name, value)))
    classes = dict.fromkeys(
        value
        for value in content.values()
        if isinstance(value, type) and value.__module__ == module.__name__ and not value.__flags__ & IMMUTABLE
    )
    return (Namespace(module.__name__, module, names), *map(_of_class, classes))


def _is_constant(name: str, value: Any) -> bool:
    return not name.startswith("__") and isinstance(value, bool | int | float | str | bytes | tuple | frozenset)


def _of_class(owner: type) -> Namespace:
    """Methods and properties; not counters and caches, which libraries keep in their classes."""
    names = tuple(
        name
        for name, value in vars(owner).items()
        if name not in BOOKKEEPING and (callable(value) or hasattr(value, "__get__"))
    )
    return Namespace(f"{owner.__module__}.{owner.__qualname__}", owner, names)
