"""What a training may change beside tensors: attributes of layers, and what the hooks of a method hold.

A checkpoint holds tensors. It is enough to go on from if nothing else has changed since the training began, because a
trial that is run again comes to the beginning of the training with everything else as it was. To find out, everything
that can be reached from the network and from the hooks is described, and the descriptions are compared.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.isolation.tensors import Mark

TENSORS = ("_parameters", "_buffers")
"""Where a layer keeps what a checkpoint holds."""
LIBRARIES = {"bench", "builtins", "functools", "torch"}


def described(model: nn.Module, tensors: Mapping[str, Tensor], known: Mapping[str, object], *things: object) -> str:
    """A digest of `things` and of all attributes of the layers of `model`, to be compared within this process.

    Left out are the values of `tensors`, those of the model, and of all that share memory with them, as encodings keep
    them, and `known` objects, whose states are kept elsewhere. Functions are described by their closures, their
    defaults and the globals that they use; the code of other packages than theirs counts as without state. The digest
    is empty if something cannot be described, such as an open file or an iterator.
    """
    sink = hashlib.sha256()
    names = {id(tensor): f"tensor {name}" for name, tensor in tensors.items()}
    names |= {id(thing): name for name, thing in known.items()}
    try:
        packages = {_package(getattr(thing, "func", thing)) for thing in things} - LIBRARIES  # `func` of a partial
        _Describer(sink, model, names, _memory(tensors), packages).dump([model, *things])
    except Exception:  # objects may raise anything when they are looked at
        return ""
    return sink.hexdigest()


class _Sink:
    """Takes what a pickler writes; nothing is kept."""

    def __init__(self, total: Any) -> None:
        self.write = total.update


class _Describer(pickle.Pickler):
    """Walks through objects as pickling does. Nothing is ever read back, so that anything may stand for an object."""

    def __init__(
        self, total: Any, model: nn.Module, names: Mapping[int, str], memory: Mapping[int, str], packages: set[str]
    ) -> None:
        super().__init__(_Sink(total), protocol=5)
        self._layers = {id(layer) for layer in model.modules()}
        self._names, self._memory, self._packages = names, memory, packages

    def reducer_override(self, thing: Any) -> Any:
        if thing is _stand_in:
            return NotImplemented
        if name := self._names.get(id(thing)):
            return _stand_in, (name,)
        content = self._content(thing)
        # As a state, which is written after the object is remembered, so that cycles end.
        return NotImplemented if content is None else (_stand_in, (content[0],), (content[1],))

    def _content(self, thing: Any) -> tuple[str, Any] | None:
        match thing:
            case Tensor():
                return "tensor", self._tensor(thing)
            case torch.Generator():
                return "generator", thing.get_state().numpy().tobytes()
            case nn.Module():
                return _name(type(thing)), self._attributes(thing)
            case FunctionType():
                return self._function(thing)
            case MethodType():
                return "method", (thing.__func__, thing.__self__)
            case BuiltinFunctionType():
                return thing.__qualname__, None if isinstance(thing.__self__, ModuleType) else thing.__self__
            case CellType():
                return "cell", _inside(thing)
            case type():
                return _name(thing), dict(_of_class(thing)) if _package(thing) in self._packages else None
            case ModuleType():
                return thing.__name__, None
        return None

    def _tensor(self, tensor: Tensor) -> tuple[Any, ...]:
        if owner := self._memory.get(tensor.untyped_storage().data_ptr()):
            return owner, str(tensor.dtype), tuple(tensor.shape), tensor.stride(), tensor.storage_offset()
        mark = Mark.of(tensor.detach().contiguous().view(-1).view(torch.uint8))
        return str(tensor.device), str(tensor.dtype), tuple(tensor.shape), vars(mark)

    def _attributes(self, layer: nn.Module) -> dict[str, Any]:
        ours = id(layer) in self._layers
        return {name: list(value) if ours and name in TENSORS else value for name, value in vars(layer).items()}

    def _function(self, function: FunctionType) -> tuple[str, Any]:
        parts: list[Any] = [id(function.__code__), function.__closure__, function.__defaults__, function.__kwdefaults__]
        parts.append(vars(function))
        if _package(function) in self._packages:
            used = {name for name in _names(function.__code__) if name in function.__globals__}
            parts.append({name: function.__globals__[name] for name in sorted(used)})
        return f"{function.__module__}.{function.__qualname__}", parts


def _stand_in(name: str) -> None:
    """Is written in place of an object."""


def _memory(tensors: Mapping[str, Tensor]) -> dict[int, str]:
    """The names of tensors by the address of their memory."""
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items() if tensor.numel()}


def _package(thing: Any) -> str:
    owner = thing if hasattr(thing, "__module__") else type(thing)
    return str(owner.__module__).partition(".")[0]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _inside(cell: CellType) -> Any:
    try:
        return (cell.cell_contents,)
    except ValueError:  # nothing was assigned yet
        return None


def _names(code: CodeType) -> Iterator[str]:
    """The globals and attributes that a function names, those of the functions within it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    """The functions and values of a class."""
    for name, value in vars(kind).items():
        if isinstance(value, FunctionType):
            yield name, value
        elif hasattr(value, "__get__"):  # a property, or a function in a wrapper
            yield name, [getattr(value, wrapped, None) for wrapped in ("fget", "__func__", "func")]
        elif not name.startswith("__") and name != "_abc_impl":
            yield name, value
