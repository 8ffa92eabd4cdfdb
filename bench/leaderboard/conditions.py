"""Conditions on the columns of a board, as in `size=4`, and whether a row meets them. Needs no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.leaderboard.columns import Column, Row
from bench.leaderboard.summary import ELSEWHERE
from bench.system.errors import BadArgument
from bench.system.text import did_you_mean

MEASURES: dict[str, tuple[str, Literal["higher", "lower"], str]] = {
    "top1": ("top1", "higher", "%"),
    "rank_low": ("rank", "lower", ""),
    "top1_drop": ("drop", "lower", " points"),
    "worst_class_drop": ("worst-class", "lower", " points"),
    "compression_ratio": ("size", "higher", "×"),
    "compressed_ratio": ("compressed", "higher", "×"),
    "macs_ratio": ("macs", "higher", "×"),
    "latency_speedup": ("latency", "higher", "×"),
    "throughput_speedup": ("images/s", "higher", "×"),
    "robust_top1": ("robust", "higher", "%"),
    "attack_success_rate": ("fooled", "lower", "%"),
    "budget_epochs": ("budget", "lower", " epochs"),
    "epochs_spent": ("epochs", "lower", ""),
    "seeds": ("seeds", "higher", ""),
}
"""By column of the board: the name it is asked by, the direction that is better, and the unit that is shown."""
ALIASES = {"accuracy": "top1", "throughput": "images/s", "speedup": "latency"}
"""Other words that people try first."""
EXAMPLES = {"×": "a gain over dense, as in {}=2", "%": "percent, as in {}=90", " points": "points, as in {}=1"}
"""Of values in each unit."""
NOISY = {"latency_speedup": "latency_noisy", "throughput_speedup": "throughput_noisy"}
"""The columns of a summary that say which timings are noisy."""
_FIGURE = re.compile(r"~?(-?[\d.]+(?:e[-+]?\d+)?)")
_VALUE = re.compile(
    r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?:[x×%]|points?|epochs?|seeds?)?\s*", re.IGNORECASE
)


@dataclass(frozen=True)
class Measure:
    """A column that can be asked for by `name`."""

    name: str
    column: Column
    better: Literal["higher", "lower"]
    unit: str

    @property
    def words(self) -> str:
        return self.column.header.removesuffix(" %")

    @property
    def noisy(self) -> str | None:
        """The summary's column that says which figures are noisy."""
        return NOISY.get(self.column.name)

    def figure(self, row: Row) -> float:
        """As the board shows it, in its unit and rounded; of a range of ranks the first; NaN where none is shown."""
        found = _FIGURE.match(self.column.write(row))
        return float(found[1]) if found else math.nan

    def is_noisy(self, row: Row) -> bool:
        return self.noisy is not None and bool(row[self.noisy])

    def written(self, value: float) -> str:
        """A value in the measure's unit: `4×`, `1 point`."""
        unit = self.unit.removesuffix("s") if value == 1 else self.unit
        return f"{value:g}{unit}"


@dataclass(frozen=True)
class Condition:
    """A bound on a measure; `text` is what the reader wrote."""

    measure: Measure
    bound: float
    kind: Literal["min", "max"]
    text: str

    @property
    def words(self) -> str:
        """`size at least 4×`."""
        return f"{self.measure.words} at {'least' if self.kind == 'min' else 'most'} {self.measure.written(self.bound)}"

    def reached(self, row: Row) -> bool:
        """Whether the figure that is shown lies within the bound, noisy or not. None is shown: it does not."""
        figure = self.measure.figure(row)
        return figure >= self.bound if self.kind == "min" else figure <= self.bound

    def met(self, row: Row) -> bool:
        """Whether the figure lies within the bound, and is not a noisy timing."""
        return self.reached(row) and not self.measure.is_noisy(row)


def measures_of(columns: Iterable[Column]) -> list[Measure]:
    """What can be asked of a board with these columns."""
    found = []
    for column in columns:
        if column.name in MEASURES:
            name, better, unit = MEASURES[column.name]
            found.append(Measure(name, column, better, unit))
        elif column.name.startswith(ELSEWHERE):
            found.append(Measure(column.header.replace(" ", "-"), column, "higher", "×"))
    return found


def named(text: str, measures: Iterable[Measure], argument: str, value: str) -> Measure:
    """The measure of this name, header or field. BadArgument, about a `value` of `argument`, where there is none."""
    measures = list(measures)
    text = ALIASES.get(text.strip().lower(), text)
    for measure in measures:
        if _plain(text) in {_plain(known) for known in (measure.name, measure.column.header, measure.column.name)}:
            return measure
    hint = did_you_mean(text.strip(), [measure.name for measure in measures])
    unmeasured = {_plain(name) for name, _, _ in MEASURES.values()} | {_plain(field) for field in MEASURES}
    problem = "not measured on this board" if _plain(text) in unmeasured else "the board has no such column"
    raise BadArgument(argument, value, problem + hint)


def parsed(kind: Literal["min", "max"], texts: Iterable[str], measures: Iterable[Measure]) -> Iterator[Condition]:
    """The conditions in texts like `size=4` or `drop=1,worst-class=3`. BadArgument for anything else."""
    measures = list(measures)
    for text in texts:
        for part in text.split(","):
            name, equals, value = part.partition("=")
            number = _VALUE.fullmatch(value)
            if not equals or not name.strip():
                raise BadArgument(kind, text, "expected NAME=VALUE, as in size=4 or drop=1")
            measure = named(name, measures, kind, text)
            bound = float(number[1]) if number else math.nan
            is_share = kind == "min" and measure.unit == "%" and 0 < bound <= 1
            if not math.isfinite(bound) or is_share:
                example = EXAMPLES.get(measure.unit, "a number, as in {}=1").format(measure.name)
                raise BadArgument(kind, text, f"expected {example}")
            yield Condition(measure, bound, kind, part.strip())


def _plain(name: str) -> str:
    """`worst class`, `worst-class` and `Worst_class` are one name, and so are `top-1 %` and `top1`."""
    return re.sub(r"(?<!^)[\s_%-]", "", name.strip().lower())
