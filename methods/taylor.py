"""`taylor`: removes a few filters at a time: those whose removal would change the loss least.

Pavlo Molchanov, Stephen Tyree, Tero Karras, Timo Aila, Jan Kautz: Pruning Convolutional Neural Networks for Resource
Efficient Inference, ICLR 2017, https://arxiv.org/abs/1611.06440. When a filter's feature map z is set to zero, the loss
C changes to first order by |dC/dz * z|, averaged over the positions of the map. z is read after batch norm and
activation. The score is averaged over images and divided by the layer's L2 norm. The lowest filters of the whole
network are removed, the remaining network is trained for a while, and so on.

The budget: the share `final` is kept for training after the last removal, and the rest is split evenly over the steps.
A ranking takes at most half of its step, in training batches. If that is less than one batch, as without a budget, the
ranking uses `batches` batches of images held out of the training set, and the per-layer table says so.

Scores are computed in evaluation mode, on batches that are not trained on at the same time. The paper's other criteria
are options; `bench oracle` compares them all. `legacy_signed` sums over images before the absolute value is taken, as
in J. Gildenblat's code (https://github.com/jacobgil/pytorch-pruning), so that opposite effects on two images cancel.
`macs_weight` counts a filter's own multiply-adds, and not those of the layers that read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from annotated_types import Ge, Interval
from torch import Tensor, nn

from bench import (
    BenchError,
    Criterion,
    FilterGroup,
    KeepAtLeast,
    Lab,
    Method,
    Rate,
    RoundTo,
    Strength,
    Tied,
    convolutions,
    fewest,
    filter_groups,
    filter_macs,
    group_scores,
    rank_filters,
    remove_lowest,
)


@dataclass(frozen=True, kw_only=True)
class Taylor(Method):
    name = "taylor"
    style = ("pink", "triangle-up")
    paper = (
        "Molchanov, Tyree, Karras, Aila, Kautz: "
        "Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017"
    )
    tested = ("taylor(steps=2)",)
    strength = Strength("rate", 0.0, 0.99)

    rate: Rate = 0.5
    steps: Annotated[int, Ge(1), "removals, with training between them"] = 10
    criterion: Annotated[Criterion, "what filters are ranked by; zeros: the average percentage of zeros"] = "taylor"
    normalise: Annotated[bool, "divide scores by their layer's L2 norm"] = True
    macs_weight: Annotated[float, Ge(0), "score lost for each million multiply-adds of the filter"] = 0.0
    tied: Tied = False
    round_to: RoundTo = 1
    keep_at_least: KeepAtLeast = 0.0
    batches: Annotated[int, Ge(1), "batches of images in a ranking"] = 10
    final: Annotated[float, Interval(ge=0, le=1), "share of the budget kept for after the last removal"] = 0.5
    legacy_signed: Annotated[bool, "sum signed changes over all images before the absolute value"] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.legacy_signed and self.criterion != "taylor":
            raise BenchError(f"{self}: legacy_signed goes with criterion=taylor")

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        filters = {name: layer.out_channels for name, layer in convolutions(model).items()}
        groups, _ = filter_groups(model, lab, tied=self.tied)
        limits = {name: fewest(count, self.keep_at_least) for name, count in filters.items()}
        widths = {"tied": self.tied, "round_to": self.round_to, "keep_at_least": limits}
        target, removed = round(self.rate * sum(group.channels for group in groups)), 0
        drawn = min(self.batches, int((1 - self.final) * lab.remaining_batches / self.steps / 2))
        rule = f", in multiples of {self.round_to}" if self.round_to > 1 else ""
        source = "" if drawn or self.criterion in ("weight", "random") else ", ranked on held-out images"
        with lab.share(1 - self.final):
            for step in range(1, self.steps + 1):
                with lab.share(1 / (self.steps + 1 - step)):
                    score = self._ranking(model, lab, drawn)
                    count = target * step // self.steps - removed
                    removed += remove_lowest(model, lab, score, count=count, **widths)
                    lab.fit(model)
        lab.fit(model)
        for name, layer in convolutions(model).items():
            if layer.out_channels < filters[name]:
                lab.note(name, f"{layer.out_channels} of {filters[name]} filters kept{rule}{source}")
        return model

    def _ranking(self, model: nn.Module, lab: Lab, drawn: int) -> Callable[[FilterGroup], Tensor]:
        scores = rank_filters(model, lab, self.criterion, self._images(lab, drawn), legacy_signed=self.legacy_signed)
        macs = filter_macs(model, lab)
        costs = {name: self.macs_weight * millions for name, millions in macs.items()}
        return lambda group: group_scores(group, scores, normalise=self.normalise, costs=costs)

    def _images(self, lab: Lab, drawn: int) -> Iterator[tuple[Tensor, Tensor]]:
        if drawn:
            yield from lab.batches(drawn)
            return
        try:
            yield from islice(lab.held_out(), self.batches)
        except BenchError as error:
            raise BenchError(f"{self}: {error}; criterion=weight ranks without images") from None
