"""Removing filters of convolutions, with everything that depends on them.

A removal is tested before it is done. On a copy with random weights, the smaller network has to compute what the whole
network computes when no layer reads the removed filters. A layer that fails this test keeps all its filters, and the
per-layer table gives the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.networks.example import HasExample, example_of
from bench.networks.layers import weighted_layers
from bench.networks.surgery import Cuts, cut, merged
from bench.pruning.choosing import Rates, Score, Widths, amount_of, choose, refuse_fixed
from bench.pruning.groups import FilterGroup, trace_groups
from bench.pruning.probe import Probe
from bench.pruning.scores import checked_indices
from bench.system.errors import BenchError
from bench.system.text import listed

if TYPE_CHECKING:
    from bench.training.lab import Lab


def remove_lowest(
    model: nn.Module,
    lab: Lab,
    score: Score,
    rates: Rates | None = None,
    *,
    count: Mapping[str, int] | int | None = None,
    overall: bool = False,
    tied: bool = False,
    round_to: int = 1,
    keep_at_least: Mapping[str, int] | float = 0.0,
) -> int:
    """Remove the filters with the lowest scores, in place, and return how many were removed.

    All methods remove filters with this function. Either `rates` or `count` says how many:

    - `rates`: every layer loses its own share. One number, or one for each convolution by name (`layer_rates`).
    - `rates` with `overall=True`: one share of all filters is removed. All rates other than 0 must be the same.
    - `count`, an integer: this many filters of the whole network are removed, wherever the lowest are.
    - `count`, by convolution name: this many filters of each named layer are removed.

    `score(group)` gives one finite number for each filter, a tensor [channels] on any device. The highest stay; of
    equal scores, the first filter is removed first. `tied=True` includes the filters of residual streams: convolutions
    that are tied together lose the same filters, by the lowest of their rates or counts. At least one filter of every
    layer stays, and at least `keep_at_least`: a share of each layer's filters, or their number by convolution name.
    With `round_to=8` every layer that loses filters keeps a multiple of 8. The per-layer table says how many filters
    each layer kept, and why others kept all.

    Raises MethodFault for scores, rates, counts or limits that cannot be used, and BenchError if weights are already
    encoded, or if removing all these filters together would change what the rest of the network computes.
    """
    groups, left_dense = filter_groups(model, lab, tied=tied)
    amount = amount_of(model, groups, left_dense, rates, count, overall)
    chosen = choose(groups, score, amount, Widths.of(groups, round_to, keep_at_least))
    for group, indices in zip(groups, chosen, strict=True):
        if indices is None:
            left_dense |= dict.fromkeys(group.convolutions, "the method does not score its filters")
    pairs = [(group, indices) for group, indices in zip(groups, chosen, strict=True) if indices is not None]
    remove_chosen(model, lab, [group for group, _ in pairs], [indices for _, indices in pairs], left_dense, round_to)
    return sum(len(indices) for _, indices in pairs)


def filter_groups(
    model: nn.Module, example: HasExample | Tensor, *, tied: bool = False
) -> tuple[list[FilterGroup], dict[str, str]]:
    """The groups of filters that can be removed, in order of execution; and why each other convolution keeps its own.

    `example` is the lab, or images [N, C, H, W] on the model's device. `tied` includes the filters of residual streams.
    Raises BenchError if weights are already encoded.
    """
    _refuse_encoded(model)
    example_input = example_of(example)
    groups, left_dense = trace_groups(model, example_input, tied=tied)
    probe = Probe(model, example_input)
    sound = probe.sound([group for group in groups if group.channels > 1])
    for group in groups:
        if group not in sound:
            unsound = "without some of its filters, the rest of the network would compute something else"
            left_dense |= dict.fromkeys(group.members, unsound if group.channels > 1 else "it has one filter only")
    members = {name for group in sound for name in group.members}
    return sound, {name: reason for name, reason in left_dense.items() if name not in members}


def remove_filters(
    model: nn.Module, example: HasExample | Tensor, removed: Mapping[str, Sequence[int] | Tensor]
) -> None:
    """Remove given filters of each convolution, in place: filters that are chosen by number and not by a score.

    `example` is the lab, or images [N, C, H, W] on the model's device. `removed` holds filter numbers by convolution
    name; of convolutions that are tied together, any one may be named. Modes, dtypes, devices and `requires_grad` stay.
    The parameters are new, so create optimisers afterwards.

    Raises BenchError if a convolution cannot lose filters or would lose all, if weights are already encoded, and if the
    smaller network would not compute what the whole one does without these filters. The network is then unchanged.
    """
    _refuse_encoded(model)
    example_input = example_of(example)
    groups, left_dense = trace_groups(model, example_input, tied=True)
    by_name = {name: group for group in groups for name in group.convolutions}
    cuts: Cuts = {}
    for name, indices in removed.items():
        refuse_fixed(name, by_name, left_dense)
        cuts = merged([cuts, by_name[name].cuts(checked_indices(indices, name, by_name[name].channels))])
    if not _holds(model, example_input, cuts):
        raise BenchError(f"removing filters of {listed(list(removed))} would change what the others compute")
    cut(model, cuts)


def remove_lowest_overall(model: nn.Module, lab: Lab, score: Score, count: int, *, tied: bool = False) -> int:
    """An older name for `remove_lowest(model, lab, score, count=count, tied=tied)`."""
    return remove_lowest(model, lab, score, count=count, tied=tied)


def remove_chosen(
    model: nn.Module,
    lab: Lab,
    groups: Sequence[FilterGroup],
    chosen: Sequence[Sequence[int]],
    left_dense: Mapping[str, str],
    round_to: int = 1,
) -> None:
    """Remove the chosen filters of each group, and note the result for each layer: the last step of `remove_lowest`.

    `groups` and `left_dense` are what `filter_groups` returned; `chosen` holds the filters of each group to remove.
    `round_to`, which the choice already respects, is mentioned in the notes. Raises BenchError if the network without
    all of these filters would not compute what the whole one does.
    """
    numbers = [
        checked_indices(indices, group.convolutions[0], group.channels)
        for group, indices in zip(groups, chosen, strict=True)
    ]
    cuts = merged([group.cuts(indices) for group, indices in zip(groups, numbers, strict=True)])
    if not _holds(model, example_of(lab), cuts):  # each group alone can be cut: `filter_groups` has tried it
        raise BenchError("removing filters of all these layers at once would change what the others compute")
    cut(model, cuts)
    for group, indices in zip(groups, numbers, strict=True):
        _note_kept(lab, group, group.channels - len(indices), round_to)
    for name, reason in left_dense.items():
        lab.note(name, f"all filters kept: {reason}", reachable=False)
    for name, layer in weighted_layers(model).items():
        if isinstance(layer, nn.Linear):
            lab.note(name, "linear: loses no outputs, only inputs that are removed before it", reachable=False)


def _note_kept(lab: Lab, group: FilterGroup, kept: int, round_to: int) -> None:
    rule = f", in multiples of {round_to}" if round_to > 1 else ""
    for name in group.convolutions:
        lab.note(name, f"{kept} of {group.channels} filters kept{rule}")
    for name in group.followers:
        lab.note(name, f"follows {listed(list(group.convolutions))}")


def _holds(model: nn.Module, example_input: Tensor, cuts: Cuts) -> bool:
    return not any(cuts.values()) or Probe(model, example_input).holds(cuts)


def _refuse_encoded(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise BenchError(
                f"filters are removed before weights are encoded, and those of '{name}' already are: "
                "put the method that removes filters first in the pipeline, l1+tic"
            )
