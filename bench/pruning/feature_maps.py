"""Feature maps, read and changed during a forward pass; the network itself is not modified.

The network's calls of torch functions are numbered in one pass. The output of each convolution is followed through
batch norm, activation and other operations that treat every channel separately, as long as nothing else reads it. The
last value on this path is the convolution's feature map. In later passes its call is recognised by its number, and the
result can be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.networks.layers import convolutions
from bench.system.errors import BenchError

Edit = Callable[[str, Tensor], Tensor]
"""Takes a convolution's name and feature map [N, C, H, W]; returns the map that the network continues with."""

UNARY = frozenset(
    """batch_norm relu relu6 silu hardswish gelu leaky_relu elu celu selu prelu rrelu hardtanh mish sigmoid hardsigmoid
    tanh softplus softsign threshold clamp clamp_min clamp_max contiguous clone to float""".split()
)
ARITHMETIC = frozenset("mul imul rmul add iadd radd sub isub div idiv truediv itruediv".split())
"""Arithmetic with one number, or with one number for each channel: frozen batch norm, scaled activations."""


class FeatureMaps:
    """The feature maps of every convolution that runs, after its batch norm and activation.

    The network is put in evaluation mode. `channels` holds the number of channels by convolution name, in order of
    execution; a convolution that runs several times has several maps under its name. `shared` names convolutions that
    have one map for all images of a batch, such as those that encode positions.
    """

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        self.model = model.eval()
        example_input = torch.cat([example_input, example_input])
        with torch.no_grad():
            model(example_input)  # a network may create tensors on its first pass and keep them
            trace = _Trace(example_input)
            handles = [layer.register_forward_hook(trace.mark(name)) for name, layer in convolutions(model).items()]
            try:
                with trace:
                    model(example_input)
            finally:
                for handle in handles:
                    handle.remove()
        self.channels: dict[str, int] = {}
        self.shared: set[str] = set()
        self._calls = trace.calls
        self._places: dict[int, tuple[str, Any]] = {}
        for name, value in trace.marked:
            self.channels[name] = value.shape[1]
            end = value.end
            self._places[end.call] = name, end.function
            if end.shape[0] < len(example_input):
                self.shared.add(name)

    def run(self, images: Tensor, edit: Edit) -> Any:
        """The network's outputs for images [B, C, H, W] when each feature map is replaced by `edit(name, map)`.

        Raises BenchError where the network does not make the same calls as for the example input.
        """
        editing = _Editing(self._places, edit)
        with editing:
            outputs = self.model(images)
        if editing.calls != self._calls:
            raise _Elsewhere
        return outputs


class _Elsewhere(BenchError):
    def __init__(self) -> None:
        super().__init__("the network does not compute the same steps each time, so its feature maps cannot be found")


class _Editing(TorchFunctionMode):
    def __init__(self, places: dict[int, tuple[str, Any]], edit: Edit) -> None:
        super().__init__()
        self.calls = 0
        self._places, self._edit = places, edit

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if next(_tensors(result), None) is None:
            return result
        name, expected = self._places.get(self.calls, ("", None))
        self.calls += 1
        if not name:
            return result
        if function != expected:
            raise _Elsewhere
        return self._edit(name, result)


@dataclass(eq=False)
class _Value:
    """A tensor that a call returned."""

    call: int
    function: Any
    shape: torch.Size
    computed: bool
    """Whether it depends on the images, and not only on the network's own tensors."""
    readers: int = 0
    following: _Value | None = None
    """The result of a reader that treats every channel separately."""
    overtaken: bool = False
    """Whether a tensor that was changed in place was later read through its old reference. Replacing the result of the
    call would then miss a reader."""

    @property
    def end(self) -> _Value:
        value = self
        while value.readers == 1 and value.following and not value.following.overtaken:
            value = value.following
        return value


class _Trace(TorchFunctionMode):
    """Numbers the calls that return tensors, and records which call reads which tensor."""

    def __init__(self, example_input: Tensor) -> None:
        super().__init__()
        self.calls = 0
        self.marked: list[tuple[str, _Value]] = []
        self._alive: list[Any] = [example_input]  # kept alive so that no id is used twice
        self._values = {id(example_input): _Value(-1, None, example_input.shape, computed=True)}
        self._changed: dict[int, _Value] = {}

    def mark(self, name: str) -> Callable[..., None]:
        """A forward hook for a convolution of this name."""

        def ran(layer: nn.Module, inputs: Any, output: Any) -> None:
            value = self._values.get(id(output))
            if value is not None and len(value.shape) == 4:
                value.computed = True
                self.marked.append((name, value))

        return ran

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        read = [value for tensor in _tensors([args, kwargs]) if (value := self._read(tensor)) and value.computed]
        given = list(_tensors(result))
        if given or _name(function) == "setitem":
            for value in read:
                value.readers += 1
        if not given:
            return result
        for tensor in given:
            self._values[id(tensor)] = _Value(self.calls, function, tensor.shape, computed=bool(read))
        self._alive += given
        self.calls += 1
        if len(read) == 1 and isinstance(result, Tensor):
            return self._followed(read[0], function, args, kwargs, result)
        return result

    def _read(self, tensor: Tensor) -> _Value | None:
        if id(tensor) in self._changed:
            self._changed[id(tensor)].overtaken = True
        return self._values.get(id(tensor))

    def _followed(self, source: _Value, function: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor:
        value = self._values[id(result)]
        others = [tensor for tensor in _tensors([args, kwargs]) if not self._is_computed(tensor)]
        if _is_channelwise(function, others) and result.shape == source.shape:
            source.following = value
        if not any(tensor is result for tensor in _tensors(args)):
            return result
        self._changed[id(result)] = value
        returned = result.view_as(
            result
        )  # a new object, so that later reads of the changed tensor can be told from reads of the result
        self._values[id(returned)] = value
        self._alive.append(returned)
        return returned

    def _is_computed(self, tensor: Tensor) -> bool:
        value = self._values.get(id(tensor))
        return value is not None and value.computed


def _is_channelwise(function: Any, others: list[Tensor]) -> bool:
    name = _name(function)
    return name in UNARY or (name in ARITHMETIC and all(map(_is_per_channel, others)))


def _is_per_channel(tensor: Tensor) -> bool:
    spread = tensor.dim() in (3, 4) and tensor.shape[-2:] == (1, 1) and tensor.shape[:-3].numel() == 1
    return tensor.numel() == 1 or spread


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "")).strip("_")


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
