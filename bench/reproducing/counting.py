"""Published figures that follow from the structure of a network: they are counted, and have to match."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

import torch
from torch import nn

from bench.clustering.kmeans import roughly
from bench.data.feed import Feed
from bench.data.images import Pixels
from bench.data.recipe import Recipe
from bench.isolation.randomness import seeded
from bench.measuring import cost
from bench.networks import zoo
from bench.networks.zoo import Preprocessing
from bench.reproducing.published import Row
from bench.training.lab import Lab

SIZE = (3, 32, 32)
CLASSES = 10
"""The networks of these rows are for CIFAR-10. Their weights are random, because counts do not depend on them."""


@dataclass(frozen=True)
class Counted:
    """A published figure and the one counted here."""

    row: str
    setting: str
    model: str
    figure: str
    published: str
    ours: float | None

    @property
    def matches(self) -> bool:
        return self.ours is not None and agrees(self.published, self.ours)


def count(row: Row) -> list[Counted]:
    """Compress the row's network without training, and count it."""
    with seeded(0), roughly():  # how rough a clustering is does not change what has to be stored
        dense = zoo.create_model(row.model, CLASSES, SIZE[0]).eval()
        lab = _lab()
        compressed = row.pipeline.compress(copy.deepcopy(dense), lab).eval()
        figures = _figures(dense, compressed, lab)
    return [
        Counted(row.row, row.setting, row.model, name, published, figures[name])
        for name, published in row.published.items()
    ]


def _figures(dense: nn.Module, compressed: nn.Module, lab: Lab) -> dict[str, float | None]:
    counted = cost.compare(dense, compressed, SIZE, lab.notes, lab.reachable)
    return {
        "macs": counted.macs,
        "params": counted.params,
        "kernel_ratio": counted.kernel_ratio,
        "formula_ratio": counted.formula_ratio,
        "macs_ratio": counted.macs_ratio,
        "macs_full_ratio": counted.macs_full_ratio,
    }


def _lab() -> Lab:
    """A lab without a budget, with a few random images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (CLASSES, *SIZE), generator=generator, dtype=torch.uint8)
    shown = Preprocessing(SIZE, (0.5,) * SIZE[0], (0.25,) * SIZE[0])
    feed = Feed(Pixels(images, torch.arange(CLASSES)), shown, torch.device("cpu"), Recipe(epochs=1, batch_size=CLASSES))
    return Lab(feed, epochs=0, seed=0, tuning=feed)


def agrees(published: str, ours: float) -> bool:
    """Whether a number is the published one, rounded or cut off to the digits that were printed."""
    printed = Decimal(published)
    unit = Decimal((0, (1,), int(printed.as_tuple().exponent)))
    return any(Decimal(ours).quantize(unit, rounding=kind) == printed for kind in (ROUND_HALF_UP, ROUND_DOWN))
