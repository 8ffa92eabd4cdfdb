"""A user's own networks: built by a function or class with a given name, or passed as a module.

A name is `package.module:function`, `path/file.py:Class`, or that of an entry point in the group `bench.models`. The
function or class is called with those of these keyword arguments that it takes:

- `num_classes`: how many outputs are wanted,
- `in_chans` (or `in_channels`): how many channels the images have,
- `img_size`: their height and width, where they are small or another size was asked for,
- `pretrained`: True where its own trained weights are asked for.

With `**kwargs` it gets `num_classes`, and `in_chans` unless that is 3. It returns a `torch.nn.Module`, which gives
logits [N, classes] for images [N, C, H, W]. A `pretrained_cfg` like that of timm's networks (`input_size`, `mean`,
`std`, `crop_pct`, `interpolation`) says how photographs should be prepared.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch
from torch import Tensor, nn

from bench.networks import own_code
from bench.system.errors import BadArgument, BenchError
from bench.system.text import one_line, shortened

GROUP = "bench.models"
ELSEWHERE = ("hf_hub:", "hf-hub:", "torchvision:")
"""Prefixes of names that have a colon but do not refer to code."""
CONVENTION = "it is called with num_classes and in_chans, where it takes them"


@dataclass(frozen=True, eq=False)
class Handed:
    """A network that was passed as a module, and the name that its results are filed under."""

    name: str
    model: nn.Module

    def __str__(self) -> str:
        return self.name


def is_own(name: str) -> bool:
    """Whether a name refers to code, or is the name of an installed entry point."""
    return is_reference(name) or name in registered()


def is_reference(name: str) -> bool:
    """Whether a name refers to code, as in `package.module:function` and `path/file.py:Class`."""
    return ":" in name and not name.startswith(ELSEWHERE)


@cache
def registered() -> Mapping[str, EntryPoint]:
    """The entry points of installed packages, by name. BenchError if two packages use the same name."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            raise BenchError(f"two networks are called '{point.name}': {other.value} and {point.value}")
    return dict(sorted(points.items()))


def build(
    name: str, classes: int, channels: int, *, pretrained: bool = False, image_size: int | None = None
) -> nn.Module:
    """Call the function or class of that name. If the network has no attribute `num_classes`, it is set.

    Raises BadArgument if there is no such code, and if it fails or does not return a network.
    """
    make = _find(name)
    wanted = {"num_classes": classes, "in_chans": channels, "img_size": image_size, "pretrained": pretrained or None}
    options = _accepted(name, make, {key: value for key, value in wanted.items() if value is not None})
    with attempted(name, "it cannot be built"):
        model = make(**options)
    if not isinstance(model, nn.Module):
        raise BadArgument("models", name, f"it returned {_described(model)}, expected a torch.nn.Module")
    return with_classes(model, classes)


def with_classes(model: nn.Module, classes: int) -> nn.Module:
    """The network itself, with the attribute by which its classifier is found (see `is_classifier`)."""
    if not hasattr(model, "num_classes"):
        model.__dict__["num_classes"] = classes  # like an assignment, for which nn.Module has stricter types
    return model


def takes(name: str, argument: str) -> bool:
    """Whether the callable has this argument by name."""
    return argument in _parameters(_find(name))


def check_outputs(model: nn.Module, name: str, size: tuple[int, int, int], classes: int) -> None:
    """Raise BadArgument unless the network gives [2, classes] for two images of `size`."""
    images = torch.zeros(2, *size, device=next((tensor.device for tensor in model.parameters()), None))
    was_training = model.training
    with torch.no_grad(), attempted(name, f"it fails on images of {size[0]}x{size[1]}x{size[2]}"):
        try:
            outputs = model.eval()(images)
        finally:
            model.train(was_training)
    if not isinstance(outputs, Tensor):
        raise BadArgument("models", name, f"it returns {_described(outputs)}, expected logits, a tensor [N, {classes}]")
    if tuple(outputs.shape) != (2, classes):
        problem = f"it gives outputs {list(outputs.shape)} for 2 images, expected [2, {classes}]: one for each class"
        raise BadArgument("models", name, problem)


@contextmanager
def attempted(name: str, failure: str) -> Iterator[None]:
    """Around a user's code: whatever it raises becomes a one-line error, and what it prints goes to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, BenchError):
        raise
    except BaseException as error:
        raise BadArgument("models", name, f"{failure}: {type(error).__name__}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return shortened(one_line(str(error).strip() or "without a message"))


def _described(value: object) -> str:
    return "None" if value is None else f"an object of the type {type(value).__name__}"


def _find(name: str) -> Callable[..., Any]:
    """The function or class that `name` refers to. Its code is imported."""
    if (point := registered().get(name)) is not None:
        with attempted(name, f"its entry point {point.value} cannot be imported"):
            make = point.load()
    else:
        place, _, attribute = name.rpartition(":")
        with attempted(name, "it cannot be imported"):
            module = own_code.from_file(name, place) if place.endswith(".py") else own_code.imported(name, place)
        make = own_code.attribute_of(module, name, place, attribute)
    if not callable(make) or isinstance(make, nn.Module):
        kind = f"{_described(make)}, not a function or class"
        raise BadArgument("models", name, f"{kind}; expected one that returns a torch.nn.Module")
    return make  # type: ignore[no-any-return]


def _parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(make).parameters
    except (ValueError, TypeError):  # written in C, perhaps
        return {}


def _accepted(name: str, make: Callable[..., Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `wanted` that the callable takes. BadArgument if it needs others."""
    parameters = _parameters(make)
    options = {key: value for key, value in wanted.items() if key in parameters}
    if "in_chans" not in options and "in_channels" in parameters:
        options["in_channels"] = wanted["in_chans"]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        options.setdefault("num_classes", wanted["num_classes"])
        if wanted["in_chans"] != 3 and "in_channels" not in options:
            options.setdefault("in_chans", wanted["in_chans"])
    for parameter in parameters.values():
        given = parameter.name in options and parameter.kind is not parameter.POSITIONAL_ONLY
        optional = parameter.default is not parameter.empty
        if not given and not optional and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise BadArgument("models", name, f"it needs the argument '{parameter.name}' too; {CONVENTION}")
    return options
