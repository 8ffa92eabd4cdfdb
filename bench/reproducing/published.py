"""What papers published: YAML files, found through the entry-point group `bench.papers` as plugins are.

    title: "Li et al.: Pruning Filters for Efficient ConvNets, ICLR 2017"
    url: https://arxiv.org/abs/1608.08710
    counts:                        # follow from the structure of a network alone
      - {row: ResNet-56-A, model: resnet56, setting: l1(rate=0.1), published: {macs: 1.12e8}}
    results:                       # have to be measured
      metric: best epoch on the test images
      epochs: 40
      dataset: cifar10
      rows:
        - {row: ResNet-56-A, model: resnet56, setting: l1(rate=0.1), published: {top1: 93.10}}

Figures have the names of a record's fields; accuracies are percent. They keep the digits that the paper printed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import yaml
from annotated_types import Ge
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench.plugins.setting import Pipeline, parse
from bench.system.errors import BenchError
from bench.system.text import did_you_mean, shown

GROUP = "bench.papers"
PERCENT = ("top1", "top5", "top1_dense")
"""Figures that are published in percent."""
COUNTED = ("macs", "params", "kernel_ratio", "formula_ratio", "macs_ratio", "macs_full_ratio")
"""Figures that follow from the structure of a network."""

Digits = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(e\d+)?$"), BeforeValidator(str)]
"""A number as it was printed."""


class Row(BaseModel):
    """A row of a paper's table: what the paper calls it, the setting that stands for it, and the published figures."""

    model_config = ConfigDict(extra="forbid")

    row: str
    model: str
    setting: str
    published: dict[str, Digits]
    at: str = ""
    """The operating point that chooses the setting's strength, if the paper names that and no option."""
    dataset: str = ""
    weights: str = ""
    epochs: Annotated[float, Ge(0)] | None = None

    @property
    def pipeline(self) -> Pipeline:
        (pipeline,) = parse(self.setting, self.row)
        return pipeline


class Results(BaseModel):
    """Rows that have to be measured, and what they have in common: how the paper measured them."""

    model_config = ConfigDict(extra="forbid")

    rows: list[Row]
    dataset: str
    epochs: Annotated[float, Ge(0)] | None = None
    """Passes over the training images after compression; None if that is not known."""
    metric: str = ""
    """How the published accuracy was taken, if not on all test images after the last epoch."""
    weights: str = ""
    """What the authors started from, in words; empty for a baseline of their own."""
    recalibrate: bool = True
    note: str = ""

    @property
    def complete(self) -> list[Row]:
        """The rows with what they have in common filled in."""
        common: dict[str, Any] = {"dataset": self.dataset, "weights": self.weights, "epochs": self.epochs}
        return [
            row.model_copy(update={name: value for name, value in common.items() if getattr(row, name) in ("", None)})
            for row in self.rows
        ]


class Paper(BaseModel):
    """The published figures of one paper."""

    model_config = ConfigDict(extra="forbid")

    title: str
    url: str = ""
    counts: list[Row] = []
    results: Results | None = None


@cache
def papers() -> dict[str, Paper]:
    """Every paper that an installed package describes, by its name. BenchError for a file that cannot be read."""
    found: dict[str, Paper] = {}
    for point in entry_points(group=GROUP):
        for folder in import_module(point.value).__path__:
            for file in Path(folder).glob("*.yaml"):
                found[file.stem] = _read(file.name, file.read_text(encoding="utf-8"))
    return dict(sorted(found.items()))


def paper(name: str) -> Paper:
    """The paper of this name. BenchError if there is none."""
    known = papers()
    if name not in known:
        raise BenchError(f"{shown(name)}: there is no such paper{did_you_mean(name, known)}")
    return known[name]


def _read(name: str, text: str) -> Paper:
    try:
        return Paper.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise BenchError(f"{name}: not a description of a paper ({' '.join(str(error).split())})") from error
