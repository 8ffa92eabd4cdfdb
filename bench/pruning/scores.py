"""Checks of what a method passes before filters or weights are removed: scores, rates, counts, indices.

Every message names the layer, what was expected and what was given. A mistake here is the method's fault, so it is a
`MethodFault`: the trial fails, and the others go on.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from bench.networks.layers import convolutions, weighted_layers
from bench.pruning.widths import fewest
from bench.system.errors import MethodFault

Value = TypeVar("Value")


def checked_scores(scores: object, layer: str, *shapes: Sequence[int], each: str = "filter") -> Tensor:
    """The scores of one layer on the CPU, detached, in their own dtype.

    `shapes` are the accepted shapes, and `each` says what one score stands for. Integers and booleans are numbers too.
    Raises MethodFault for anything but a tensor of real, finite numbers in one of these shapes.
    """
    wanted = " or ".join(_shape(shape, each) for shape in shapes)
    if not isinstance(scores, Tensor):
        raise MethodFault(f"the scores of '{layer}' should be a tensor of {wanted}, not {_kind(scores)}")
    if tuple(scores.shape) not in {tuple(shape) for shape in shapes}:
        raise MethodFault(f"the scores of '{layer}' should be {wanted}, not {_shape(scores.shape)}")
    if scores.is_complex():
        raise MethodFault(f"the scores of '{layer}' should be real numbers, not {scores.dtype}")
    scores = scores.detach().cpu()
    if odd := scores.numel() - int(scores.isfinite().sum()):
        raise MethodFault(
            f"{odd} of the {scores.numel()} scores of '{layer}' are NaN or infinite, so nothing is ranked"
        )
    return scores


def checked_rates(rates: object, model: nn.Module, needed: Iterable[str], *, linear: bool = False) -> dict[str, float]:
    """The rate of each layer in `needed`, each in [0, 1); one number stands for all of them.

    `rates` may name every convolution, and with `linear=True` every linear layer.
    """
    if isinstance(rates, Mapping):
        _refuse_unknown(rates, model, "rates", linear)
        chosen = {name: entry(rates, name, "rates") for name in needed}
    else:
        chosen = dict.fromkeys(needed, rates)
    for name, rate in chosen.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise MethodFault(f"the rate of '{name}' should be a number from 0 up to but not including 1, not {rate!r}")
    return chosen


def checked_counts(counts: Mapping[str, Any], model: nn.Module, channels: Mapping[str, int]) -> dict[str, int]:
    """How many filters each layer in `channels` loses, at most all but one; those that `counts` lacks lose none."""
    _refuse_unknown(counts, model, "count")
    chosen = {name: whole(counts.get(name, 0), f"the count of '{name}'") for name in channels}
    for name, count in chosen.items():
        if count >= channels[name]:
            raise MethodFault(f"'{name}' has {channels[name]} filters and one has to stay, so {count} cannot go")
    return chosen


def checked_limits(limits: Mapping[str, Any] | float, counts: Mapping[str, int]) -> dict[str, int]:
    """The fewest filters or weights that each layer keeps, at least one.

    `counts` says how many each layer has; `limits` is a share, or numbers by name, which may include other layers.
    """
    if isinstance(limits, Mapping):
        return {name: max(1, whole(limits.get(name, 1), f"keep_at_least of '{name}'")) for name in counts}
    if isinstance(limits, bool) or not isinstance(limits, int | float) or not 0 <= limits <= 1:
        raise MethodFault(f"keep_at_least should be a share from 0 to 1, or numbers by layer, not {limits!r}")
    return {name: fewest(count, limits) for name, count in counts.items()}


def checked_indices(indices: Iterable[Any], layer: str, channels: int) -> list[int]:
    """Filters of one layer by number, each once. MethodFault for a number out of range, or if no filter would stay."""
    values = indices.tolist() if isinstance(indices, Tensor) and indices.dim() == 1 else indices
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise MethodFault(f"the filters of '{layer}' should be whole numbers in a list, not {_kind(indices)}")
    chosen = sorted({whole(index, f"a filter of '{layer}'") for index in values})
    if bad := [index for index in chosen if index >= channels]:
        raise MethodFault(f"'{layer}' has filters 0 to {channels - 1}, not {bad[0]}")
    if len(chosen) >= channels:
        raise MethodFault(f"'{layer}' would lose all of its {channels} filters; one has to stay")
    return chosen


def entry(values: Mapping[str, Value], layer: str, what: str) -> Value:
    """The entry of a mapping for one layer; MethodFault if it has none."""
    if layer not in values:
        raise MethodFault(f"{what} has no entry for '{layer}'; it needs one for each layer by name")
    return values[layer]


def whole(value: object, what: str, least: int = 0) -> int:
    """A whole number of at least `least`, from an int, a NumPy integer or a 0-d integer tensor; else MethodFault."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < least:
        raise MethodFault(f"{what} should be a whole number of at least {least}, not {value!r}")
    return number


def _refuse_unknown(values: Mapping[str, Any], model: nn.Module, what: str, linear: bool = False) -> None:
    known = set(weighted_layers(model) if linear else convolutions(model))
    if unknown := [name for name in values if name not in known]:
        kind = "convolution or linear layer" if linear else "convolution"
        raise MethodFault(f"{what} names '{unknown[0]}', and the network has no {kind} of that name")


def _shape(shape: Sequence[int], each: str = "") -> str:
    """`16 numbers, one for each filter` or `a tensor of shape [16, 3]`."""
    if len(shape) == 1:
        return f"{shape[0]} numbers" + (f", one for each {each}" if each else "")
    return f"shape {list(shape)}" + (f", one for each {each}" if each else "")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
