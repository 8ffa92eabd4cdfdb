"""The part of a decoded weight that has to be computed: filters that differ, from inputs that are read.

Only the decoded weight is looked at, whatever encoding it came from. Filters that share one of k stored ones decode to
the same numbers to the last bit, and kernels that an encoding dropped decode to zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WIDTH = 8
"""Channels that CPU kernels compute at a time; a count that is not a multiple can be slower than the next multiple."""


@dataclass(frozen=True)
class Smaller:
    """A smaller weight, and how the layer's outputs come from it.

    `weight` is [k, c, h, w] of a convolution with `groups` groups, or [k, c] of a linear layer. `inputs` int64
    [groups * c] are the input channels that it reads; None: all of them. `outputs` int64 [Co] name the filter that
    computes each output, where k stands for an output that is zero; None: output j is that of filter j.
    """

    weight: Tensor
    groups: int
    inputs: Tensor | None
    outputs: Tensor | None

    @property
    def has_zeros(self) -> bool:
        """Whether some outputs are zero, whatever the input is."""
        return self.outputs is not None and bool((self.outputs == len(self.weight)).any())


def smaller(weight: Tensor, groups: int, *, filters: bool, inputs: bool) -> Smaller | None:
    """The same layer with less to compute; None if nothing can be left out.

    `weight` is [Co, Ci / groups, h, w] or [Co, Ci]. With `filters`, equal filters of a group are computed once, and
    filters and groups of zeros not at all. With `inputs`, channels to which no filter of their group gives a weight are
    not read. The groups of a convolution must have the same size, so all get the size of the group that needs most.
    """
    parts = weight.detach().unflatten(0, (groups, -1))
    plain = parts.cpu().float()
    each, width = plain.shape[1:3]
    used = [group for group in range(groups) if not filters or plain[group].any()] or [0]
    owners = [_owners(plain[group]) if filters else list(range(each)) for group in used]
    rows = _of_one_size([sorted({owner for owner in some if owner is not None}) for some in owners], each)
    if (len(used), len(rows[0])) == (groups, each):  # a group needs them all, so a copy would save nothing
        owners = [list(range(each))] * groups
    reads = [_read(plain[group]) if inputs else list(range(width)) for group in used]
    columns = _of_one_size(reads, width)
    if (len(used), len(rows[0]), len(columns[0])) == (groups, each, width):
        return None
    kept = [parts[group][row][:, column] for group, row, column in zip(used, rows, columns, strict=True)]
    sources = [group * width + position for group, column in zip(used, columns, strict=True) for position in column]
    computed = sum(map(len, rows))
    outputs = [computed] * len(weight)
    for place, (group, row, some) in enumerate(zip(used, rows, owners, strict=True)):
        for position, owner in enumerate(some):
            if owner is not None:
                outputs[group * each + position] = place * len(row) + row.index(owner)
    everything = sources == list(range(groups * width))
    return Smaller(
        weight=torch.cat(kept),
        groups=len(used),
        inputs=None if everything else torch.tensor(sources, device=weight.device),
        outputs=None if computed == len(weight) else torch.tensor(outputs, device=weight.device),
    )


def _owners(part: Tensor) -> list[int | None]:
    """For each filter the first that is equal to it; None for a filter of zeros."""
    first: dict[bytes, int] = {}
    owners = [first.setdefault(row.tobytes(), index) for index, row in enumerate(part.flatten(1).numpy())]
    alive = part.flatten(1).any(1).tolist()
    return [owner if some else None for owner, some in zip(owners, alive, strict=True)]


def _read(part: Tensor) -> list[int]:
    """The inputs to which any filter gives a weight."""
    return [int(position) for position in part.transpose(0, 1).flatten(1).any(1).nonzero()[:, 0]]


def _of_one_size(chosen: list[list[int]], most: int) -> list[list[int]]:
    """Each list filled up with other positions to the length of the longest, and at least 1, in ascending order."""
    size = max(1, *map(len, chosen))
    filled = []
    for some in chosen:
        known = set(some)
        others = (position for position in range(most) if position not in known)
        filled.append(
            sorted([*some, *(position for position, _ in zip(others, range(size - len(some)), strict=False))])
        )
    return filled
