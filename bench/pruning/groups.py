"""Which filters can only be removed together: the one module that knows Torch-Pruning.

Torch-Pruning (https://github.com/VainF/Torch-Pruning) traces which axes of which tensors shrink together. It treats
every operation that it does not know as element-wise, so its groups may be wrong: `bench.pruning.filters` tries each
group on a copy of the network before it offers it.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.networks.layers import convolutions
from bench.networks.surgery import BatchNorm, Cuts, is_channelwise
from bench.system.text import listed

LAYERS = (nn.Conv2d, nn.Linear, BatchNorm, nn.PReLU)
"""Layers that can be made smaller."""
MOST = 1 << 16
"""Positions along one axis, at most; no convolution has more."""


@dataclass(frozen=True)
class Slice:
    """An axis that shrinks with a group: `positions[j]` along it go with filter j.

    Axis 0 of a layer holds its own channels, axis 1 the weights with which it reads another's.
    """

    owner: str
    axis: int
    positions: tuple[tuple[int, ...], ...] = field(repr=False)


@dataclass(frozen=True)
class FilterGroup:
    """Filters that can only be removed together: filter j of each of `convolutions`, for each j in range(`channels`).

    This is one convolution inside a block, or several whose outputs are added. Layers are given by name.
    """

    convolutions: tuple[str, ...]
    channels: int
    followers: tuple[str, ...] = ()
    """Convolutions that lose the same channels but do not decide which: depthwise ones, and those that compute a gate
    for these channels. A convolution may follow several groups."""
    batch_norms: tuple[str, ...] = ()
    """Batch norms whose channel j is filter j, in order of execution: those of the convolutions and of their
    followers. `model.get_submodule(name).weight` holds their scales, [channels]. Empty where there is none, and where
    batch norm comes only after a concatenation."""
    slices: tuple[Slice, ...] = field(default=(), repr=False)
    gone: Mapping[str, frozenset[int]] = field(default_factory=dict, repr=False, compare=False)
    """Input channels that each convolution has already lost when the group is scored, by name: `remove_lowest` with a
    rate or count for each layer goes through the groups in order of execution."""

    @property
    def members(self) -> tuple[str, ...]:
        """Every convolution that loses filters with the group."""
        return self.convolutions + self.followers

    def cuts(self, indices: Iterable[int]) -> Cuts:
        """All channels and weights that go with these filters."""
        chosen = tuple(indices)
        return {(s.owner, s.axis): {position for j in chosen for position in s.positions[j]} for s in self.slices}


def trace_groups(model: nn.Module, example_input: Tensor, *, tied: bool) -> tuple[list[FilterGroup], dict[str, str]]:
    """Groups in order of execution, not yet tested, and why each other convolution is in none."""
    try:
        trace = _Trace(model, example_input)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a network may raise anything
        reason = f"Torch-Pruning cannot trace the network ({type(error).__name__})"
        return [], dict.fromkeys(convolutions(model), reason)
    return trace.groups(tied)


class _Mixed(Exception):
    """One position belongs to several channels, so they cannot be removed one by one."""


class _Trace:
    """Torch-Pruning's graph of a copy of the network."""

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        import torch_pruning  # type: ignore[import-untyped]  # seconds to import, and few commands need it

        self.index = torch_pruning._helpers._HybridIndex
        self.model = deepcopy(model).requires_grad_(True).eval()
        self.names: dict[Any, str] = {module: name for name, module in self.model.named_modules()}
        self.parameters: dict[Any, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        self.order: dict[Any, int] = {}
        hooks = [module.register_forward_hook(self._ran) for module in self.model.modules()]
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its guesses are tested afterwards
            self.graph: Any = torch_pruning.DependencyGraph()
            try:
                self.graph.build_dependency(self.model, (example_input,), verbose=False)
            except (TypeError, ZeroDivisionError):
                if not getattr(self.graph, "module2node", None):
                    raise
                self._map_what_can_be(torch_pruning.dependency.index_mapping.update_index_mapping)
        for hook in hooks:
            hook.remove()

    def _map_what_can_be(self, update: Callable[[Any], None]) -> None:
        """Map every concatenation and reshaping that can be mapped; Torch-Pruning stops at the first that fails.

        The others are treated as element-wise, like every operation that Torch-Pruning does not know.
        """
        for module, node in self.graph.module2node.items():
            alone = copy(self.graph)
            alone.module2node = {module: node}
            with suppress(TypeError, ZeroDivisionError):
                update(alone)

    def _ran(self, module: nn.Module, *_: object) -> None:
        self.order.setdefault(module, len(self.order))

    def groups(self, tied: bool) -> tuple[list[FilterGroup], dict[str, str]]:
        names = {module: name for name, module in convolutions(self.model).items()}
        left_dense = {name: "the network does not run it" for module, name in names.items() if module not in self.order}
        groups: list[FilterGroup] = []
        done: set[str] = set()
        for module in sorted(names.keys() & self.order.keys(), key=self.order.__getitem__):
            if names[module] in done or any(names[module] in group.followers for group in groups):
                continue
            group, obstacle = self._group(module, tied)
            if obstacle:
                left_dense |= dict.fromkeys([names[module], *group.members], obstacle)
            else:
                groups.append(group)
            done |= {names[module], *group.convolutions}
        return groups, left_dense

    def _group(self, root: nn.Conv2d, tied: bool) -> tuple[FilterGroup, str]:
        """The group around one convolution, and why nothing can be removed from it ('' if it can)."""
        if root not in self.graph.module2node:
            return FilterGroup((), root.out_channels), "its outputs cannot be followed through the network"
        try:
            reached = self._follow(root)
        except _Mixed:
            return FilterGroup((), root.out_channels), "its channels are mixed with others"
        items = [(node, axis, places) for (node, axis), places in reached.items()]
        writers = {node: places for node, axis, places in items if axis == 0}
        layers = {node for node in writers if isinstance(node.module, nn.Conv2d | nn.Linear)}
        through = {node for node in layers if is_channelwise(node.module)}
        gates = self._gates(set(writers), layers - through)
        sources = self._in_order(layers - through - gates)
        whole = {node for node in layers if writers[node] == {j: j for j in range(len(node.module.weight))}}
        group = FilterGroup(
            convolutions=self._convolutions(node for node in sources if node in whole),
            channels=root.out_channels,
            followers=self._convolutions(self._in_order(through | gates)),
            batch_norms=self._batch_norms(writers, root.out_channels),
            slices=tuple(self._slices(items, root.out_channels)),
        )
        return group, self._obstacle(items) or self._tie(sources, whole, tied)

    def _follow(self, root: nn.Conv2d) -> dict[tuple[Any, int], dict[int, int]]:
        """By node and axis, which filter of `root` each position belongs to; _Mixed if one belongs to several.

        Torch-Pruning's own walk does not end on attention.
        """
        start = [self.index(idx=j, root_idx=j) for j in range(root.out_channels)]
        stack = [(self.graph.module2node[root], self.graph.get_pruner_of_module(root).prune_out_channels, start)]
        reached: dict[tuple[Any, int], dict[int, int]] = defaultdict(dict)
        while stack:
            node, handler, places = stack.pop()
            known = reached[node, _axis(handler)]
            if any(known.get(place.idx, place.root_idx) != place.root_idx for place in places):
                raise _Mixed
            new = [place for place in places if place.idx not in known]
            known.update((place.idx, place.root_idx) for place in new)
            for dependency in node.dependencies if new else ():
                if dependency.is_triggered_by(handler) and (mapped := _mapped(dependency, new)):
                    stack.append((dependency.target, dependency.handler, mapped))
        return dict(reached)

    def _obstacle(self, items: list[Any]) -> str:
        """The first thing in a group that cannot lose channels."""
        for node, axis, _ in items:
            module, name = node.module, self.names.get(node.module, "")
            if axis == 0 and not node.outputs:
                return "its filters are the network's outputs"
            if isinstance(module, nn.Conv2d) and module.groups > 1 and not is_channelwise(module):
                return f"its channels meet the grouped convolution {name}"
            if isinstance(module, nn.LayerNorm | nn.GroupNorm):
                return f"{name} normalises over its channels"
            if name and not isinstance(module, LAYERS) and list(module.parameters()):
                return f"{name} ({type(module).__name__}) cannot lose channels"
        return ""

    def _tie(self, sources: list[Any], whole: set[Any], tied: bool) -> str:
        """Whether sums tie these filters to others that have to stay."""
        if len(sources) > 1 and not tied:
            return f"tied by sums to one another: {listed([self.names[node.module] for node in sources])}"
        if partial := [self.names[node.module] for node in sources if node not in whole]:
            return f"tied to some of the channels of {listed(partial)}"
        if other := [self.names[node.module] for node in sources if not isinstance(node.module, nn.Conv2d)]:
            return f"tied to {listed(other)}, no convolution"
        return ""

    def _slices(self, items: list[Any], channels: int) -> Iterator[Slice]:
        for node, axis, places in items:
            if node.module in self.parameters:
                owner, axis = self.parameters[node.module], node.pruning_dim
            elif isinstance(node.module, LAYERS):
                owner = self.names[node.module]
            else:
                continue
            positions: list[list[int]] = [[] for _ in range(channels)]
            for position, root in sorted(places.items()):
                positions[root].append(position)
            yield Slice(owner, axis, tuple(map(tuple, positions)))

    def _batch_norms(self, writers: Mapping[Any, dict[int, int]], channels: int) -> tuple[str, ...]:
        """Those with exactly these channels; after a concatenation a batch norm has others beside them."""
        same = {j: j for j in range(channels)}
        nodes = [
            node
            for node, places in writers.items()
            if isinstance(node.module, BatchNorm) and node.module.num_features == channels and places == same
        ]
        return tuple(self.names[node.module] for node in self._in_order(nodes))

    def _gates(self, writers: set[Any], layers: set[Any]) -> set[Any]:
        """Layers that only scale what others compute, as in squeeze-and-excitation: the later factor of a product."""
        gates: set[Any] = set()
        for node in writers:
            if str(getattr(node.module, "_grad_fn", "")).startswith("MulBackward"):
                factors = [_upstream(factor, writers, layers) for factor in node.inputs if factor in writers]
                if len(factors) == 2 and all(factors) and not factors[0] & factors[1]:
                    gates |= max(factors, key=lambda nodes: max(self.order[node.module] for node in nodes))
        return gates

    def _in_order(self, nodes: Iterable[Any]) -> list[Any]:
        return sorted(nodes, key=lambda node: self.order[node.module])

    def _convolutions(self, nodes: Iterable[Any]) -> tuple[str, ...]:
        return tuple(self.names[node.module] for node in nodes if isinstance(node.module, nn.Conv2d))


def _upstream(node: Any, writers: set[Any], layers: set[Any]) -> set[Any]:
    """The layers of a group that compute a node's channels."""
    reached, seen, stack = set(), set(), [node]
    while stack:
        node = stack.pop()
        if node in layers:
            reached.add(node)
        elif node in writers and node not in seen:
            seen.add(node)
            stack += node.inputs
    return reached


def _axis(handler: Any) -> int:
    """0 for the channels that a node gives, 1 for those that it reads; a layer such as batch norm has only one kind."""
    return int(handler.__name__ == "prune_in_channels")


def _mapped(dependency: Any, places: list[Any]) -> list[Any]:
    for mapping in dependency.index_mapping:
        if len(places) * getattr(mapping, "_stride", 1) > MOST:
            raise _Mixed
        try:
            places = mapping(places) if mapping is not None and places else places
        except IndexError:  # more parts than a split was seen to make
            raise _Mixed from None
    if any(place.root_idx is None for place in places):  # a mapping that loses track
        raise _Mixed
    return places
