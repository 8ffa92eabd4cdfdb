"""Convolution filters removed for good, with all that hangs on them.

A removal is tried before it is done. On a copy with random weights, the smaller network must compute what the whole
one computes when nothing reads the removed filters; whatever fails stays dense, with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from fractions import Fraction
from math import floor, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.networks.surgery import Cuts, cut, find, merged
from bench.pruning.groups import FilterGroup, listed, trace_groups
from bench.pruning.rates import only_rate, removed_count
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from bench.training.lab import Lab

Score = Callable[[FilterGroup, Mapping[str, set[int]]], Tensor]
"""One number for each filter of a group, [channels]; also given: input channels already gone, by layer."""


def filter_groups(
    model: nn.Module, example_input: Tensor, *, tied: bool = False
) -> tuple[list[FilterGroup], dict[str, str]]:
    """Which filters can be removed, in order of execution, and why each other convolution keeps its own.

    `tied` lists the filters of residual streams too. `example_input` is [N, C, H, W] on the model's device. A
    BenchError where weights are already encoded.
    """
    _refuse_encoded(model)
    groups, left_dense = trace_groups(model, example_input, tied=tied)
    probe = _Probe(model, example_input)
    sound = probe.sound([group for group in groups if group.channels > 1])
    for group in groups:
        if group not in sound:
            unsound = "without some of its filters the rest of the network computes something else"
            left_dense |= dict.fromkeys(group.members, unsound if group.channels > 1 else "it has one filter only")
    members = {name for group in sound for name in group.members}
    return sound, {name: reason for name, reason in left_dense.items() if name not in members}


def remove_filters(model: nn.Module, example_input: Tensor, removed: Mapping[str, Sequence[int]]) -> None:
    """Remove filters by convolution name, in place; of convolutions tied together any one may be named.

    A BenchError where a convolution cannot lose filters or would lose all, where weights are already encoded, and
    where the smaller network would not compute what the whole one does without these filters; the network is then
    as it was. Modes, dtypes, devices and `requires_grad` stay; the parameters are new, so optimisers come after.
    """
    _refuse_encoded(model)
    groups, left_dense = trace_groups(model, example_input, tied=True)
    by_name = {name: group for group in groups for name in group.convolutions}
    cuts: Cuts = {}
    for name, indices in removed.items():
        if name not in by_name:
            raise BenchError(f"'{name}' cannot lose filters: {left_dense.get(name, 'no such convolution')}")
        _check(name, indices, by_name[name].channels)
        cuts = merged([cuts, by_name[name].cuts(indices)])
    if not _holds(model, example_input, cuts):
        raise BenchError(f"removing filters of {listed(list(removed))} would change what the others compute")
    cut(model, cuts)


def remove_lowest(
    model: nn.Module,
    lab: Lab,
    score: Score,
    rates: Mapping[str, float],
    *,
    tied: bool = False,
    overall: bool = False,
) -> None:
    """Remove from every layer its share of filters, those with the lowest scores, and note it in the per-layer table.

    `rates` is by convolution name (`layer_rates`); tied convolutions take the lowest of theirs. `overall`, one share
    of all filters of layers whose rate is not 0 goes instead, wherever the lowest are. Of equal scores the first
    filter goes first.
    """
    groups, left_dense = filter_groups(model, lab.example_input, tied=tied)
    shares = [min(rates[name] for name in group.convolutions) for group in groups]
    if overall:
        chosen = _lowest_of_all(groups, shares, only_rate(rates), score)
    else:
        chosen = _lowest_of_each(groups, shares, score)
    remove_chosen(model, lab, groups, chosen, left_dense)


def _lowest_of_each(groups: list[FilterGroup], shares: list[float], score: Score) -> list[list[int]]:
    gone: Cuts = {}
    chosen: list[list[int]] = []
    for group, share in zip(groups, shares, strict=True):
        scores = score(group, {owner: positions for (owner, axis), positions in gone.items() if axis == 1})
        order = scores.cpu().sort(stable=True).indices
        chosen.append(order[: removed_count(group.channels, share)].tolist())
        gone = merged([gone, group.cuts(chosen[-1])])
    return chosen


def _lowest_of_all(groups: list[FilterGroup], shares: list[float], rate: float, score: Score) -> list[list[int]]:
    """Of the groups that are not left alone."""
    concerned = [index for index, share in enumerate(shares) if share > 0]
    filters = sum(groups[index].channels for index in concerned)
    count = floor(filters * Fraction(str(rate)))
    lowest = _lowest([score(groups[index], {}) for index in concerned], count)
    chosen: list[list[int]] = [[] for _ in groups]
    for index, indices in zip(concerned, lowest, strict=True):
        chosen[index] = indices
    return chosen


def remove_lowest_overall(
    model: nn.Module, lab: Lab, score: Callable[[FilterGroup], Tensor], count: int, *, tied: bool = False
) -> int:
    """Remove the `count` filters with the lowest scores of the whole network, note it, and return how many went.

    `score(group)` is one finite number for each filter, [channels]; filters tied together go together and count once.
    In every layer the filter with the highest score stays, so fewer go where no more can. Of equal scores the first
    filter goes first.
    """
    groups, left_dense = filter_groups(model, lab.example_input, tied=tied)
    chosen = _lowest([score(group) for group in groups], count)
    remove_chosen(model, lab, groups, chosen, left_dense)
    return sum(map(len, chosen))


def remove_chosen(
    model: nn.Module,
    lab: Lab,
    groups: Sequence[FilterGroup],
    chosen: Sequence[Sequence[int]],
    left_dense: Mapping[str, str],
) -> None:
    """Remove these filters of each group, and note what became of each layer.

    `groups` and `left_dense` are what `filter_groups` found; `chosen` are filters of each group. A BenchError where
    the smaller network would not compute what the whole one does without all of them.
    """
    cuts = merged([group.cuts(indices) for group, indices in zip(groups, chosen, strict=True)])
    if not _holds(model, lab.example_input, cuts):  # each group alone can be cut, as the groups show
        raise BenchError("removing filters of all these layers at once would change what the others compute")
    cut(model, cuts)
    for group, indices in zip(groups, chosen, strict=True):
        _note_kept(lab, group, group.channels - len(indices))
    for name, reason in left_dense.items():
        lab.note(name, f"all filters kept: {reason}")


def _lowest(scores: Sequence[Tensor], count: int) -> list[list[int]]:
    """By layer, which of all filters are the `count` lowest; each layer's highest is none of them."""
    scores = [layer.detach().double().cpu() for layer in scores]
    owners = [(layer, j) for layer, values in enumerate(scores) for j in values.sort(stable=True).indices[:-1].tolist()]
    values = torch.stack([scores[layer][j] for layer, j in owners]) if owners else torch.zeros(0)
    if not values.isfinite().all():
        raise BenchError("the score of a filter is no number, so filters cannot be ranked")
    chosen: list[list[int]] = [[] for _ in scores]
    for position in values.sort(stable=True).indices[:count].tolist():
        layer, j = owners[position]
        chosen[layer].append(j)
    return chosen


def _note_kept(lab: Lab, group: FilterGroup, kept: int) -> None:
    for name in group.convolutions:
        lab.note(name, f"{kept} of {group.channels} filters kept")
    for name in group.followers:
        lab.note(name, f"follows {listed(list(group.convolutions))}")


def _holds(model: nn.Module, example_input: Tensor, cuts: Cuts) -> bool:
    return not any(cuts.values()) or _Probe(model, example_input).holds(cuts)


class _Probe:
    """A copy of the network with random weights and statistics, in double precision, to try removals on."""

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = deepcopy(model).double().eval().requires_grad_(False)
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(_random_values(name, tensor.shape, generator))
        self.input = torch.randn(example_input.shape, generator=generator, dtype=torch.double).to(example_input.device)
        try:
            self.model(self.input)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # some networks make float32 tensors of their own
            self.model, self.input = self.model.float(), self.input.float()

    def sound(self, groups: list[FilterGroup]) -> list[FilterGroup]:
        """Those that can lose every third filter; halves are tried until the ones that cannot are out."""
        if not groups or self.holds(merged([group.cuts(range(1, group.channels, 3)) for group in groups])):
            return groups
        middle = len(groups) // 2
        return self.sound(groups[:middle]) + self.sound(groups[middle:]) if middle else []

    @torch.no_grad()
    def holds(self, cuts: Cuts) -> bool:
        """Whether the smaller network computes what the whole one does when nothing reads what goes."""
        try:
            smaller = deepcopy(self.model)
            cut(smaller, cuts)
            outputs = list(_flat(smaller(self.input)))
            del smaller  # one copy at a time: some networks are large
            whole = deepcopy(self.model)
            _ignore(whole, cuts)
            return all(map(_same, _flat(whole(self.input)), outputs))
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # a network that no longer runs, each in its own way
            return False


def _ignore(model: nn.Module, cuts: Cuts) -> None:
    """Let every layer that reads what goes read nothing of it."""
    for (owner, axis), positions in cuts.items():
        module = find(model, owner)
        if axis == 1 and isinstance(module, nn.Conv2d | nn.Linear):
            module.weight[:, sorted(positions)] = 0


def _random_values(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Such that no layer is dead and none explodes: fan-in scaling, positive scales and variances, small shifts."""
    values = torch.randn(shape, generator=generator, dtype=torch.double)
    if sum(size > 1 for size in shape) > 1:
        return values * sqrt(2 / shape[1:].numel())
    if name.endswith(("bias", "running_mean")):
        return values * 0.1
    return values.abs().clamp(0.2, 2)


def _same(expected: Tensor, got: Tensor) -> bool:
    tolerance = (1e-8 if expected.dtype == torch.double else 1e-4) * float(expected.abs().max())
    return expected.shape == got.shape and float((expected - got).abs().max()) <= tolerance


def _flat(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    else:
        for output in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _flat(output)


def _refuse_encoded(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            raise BenchError(
                f"filters are removed before weights are encoded, and those of '{name}' already are: "
                "put the method that removes filters first in the pipeline, l1+tic"
            )


def _check(name: str, indices: Sequence[int], channels: int) -> None:
    if bad := [index for index in indices if not 0 <= index < channels]:
        raise BenchError(f"'{name}' has filters 0 to {channels - 1}, not {bad[0]}")
    if len(set(indices)) >= channels:
        raise BenchError(f"'{name}' would lose all of its {channels} filters; one has to stay")
