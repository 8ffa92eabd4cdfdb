"""What is asked for: a figure to improve, and bounds that others must keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.records.record import Record
from bench.system.errors import BadArgument, BenchError
from bench.system.text import did_you_mean

Kind = Literal["least", "most"]


@dataclass(frozen=True)
class Figure:
    """A figure of a record that can be asked for by `name`; `unit` is how its values are written.

    A record's value times `scale` is what people write: accuracies are percent, and losses points.
    """

    name: str
    field: str
    words: str
    unit: str = ""
    scale: float = 1

    def value(self, record: Record) -> float:
        """In the unit that people write; NaN if it was not measured."""
        value = getattr(record, self.field)
        return math.nan if value is None else float(value) * self.scale

    def written(self, value: float) -> str:
        """A value with its unit: `1 point`, `4x`, `102,400 bytes`."""
        unit = self.unit.removesuffix("s") if value == 1 else self.unit
        return f"{value:,.0f}{unit}" if value >= 1000 else f"{value:.3g}{unit}"

    @property
    def is_accuracy(self) -> bool:
        return self.scale != 1

    @property
    def is_timed(self) -> bool:
        return self.field.startswith(("latency_", "throughput_"))


GAINS = {
    each.name: each
    for each in (
        Figure("size", "compression_ratio", "size", "x"),
        Figure("compressed", "compressed_ratio", "size after zstandard", "x"),
        Figure("macs", "macs_ratio", "MACs", "x"),
        Figure("latency", "latency_speedup", "speed for one image", "x"),
        Figure("throughput", "throughput_speedup", "speed for a batch", "x"),
        Figure("top1", "top1", "top-1", " %", 100),
    )
}
"""Figures of which more is better; ratios are dense / compressed."""
COSTS = {
    each.name: each
    for each in (
        Figure("size", "artifact_bytes", "file", " bytes"),
        Figure("compressed", "artifact_compressed_bytes", "file after zstandard", " bytes"),
        Figure("macs", "macs", "MACs"),
        Figure("params", "params", "parameters"),
        Figure("latency", "latency_ms_p50", "latency", " ms"),
        Figure("drop", "top1_drop", "top-1 lost", " points", 100),
    )
}
"""Figures of which less is better."""
BEST = {
    "size": "the smallest file",
    "compressed": "the smallest file after zstandard",
    "macs": "the fewest MACs",
    "latency": "the fastest for one image",
    "throughput": "the fastest for a batch",
    "top1": "the highest top-1",
}
"""What each gain asks for."""
SMALLEST = ("size", "compressed", "macs")
FASTEST = ("latency", "throughput")
MULTIPLES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_VALUE = re.compile(r"\s*(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)\s*([kmg]?)(?:b|bytes|ms|x|×|%|points?)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """A figure that must be at least, or at most, so large."""

    figure: Figure
    kind: Kind
    limit: float

    def violation(self, value: float) -> float:
        """By how much a value breaks the bound: in points for accuracies, else in doublings; 0 if it keeps it.

        A figure that was not measured keeps no bound.
        """
        if math.isnan(value):
            return math.inf
        ends = (value, self.limit) if self.kind == "most" else (self.limit, value)
        if self.figure.is_accuracy:
            return max(0.0, ends[0] - ends[1])
        return max(0.0, math.log2(ends[0] / ends[1])) if min(ends) > 0 else math.inf

    def __str__(self) -> str:
        return f"{self.figure.words} at {self.kind} {self.figure.written(self.limit)}"


@dataclass(frozen=True)
class Goal:
    """The gain to improve within bounds. If no gain is named, top-1 is to be as high as possible."""

    gain: Figure
    bounds: tuple[Bound, ...]

    @property
    def is_timed(self) -> bool:
        return any(figure.is_timed for figure in (self.gain, *(bound.figure for bound in self.bounds)))

    @property
    def prefers_stronger(self) -> bool:
        """Whether, of two settings that keep the bounds, the stronger compression is the better answer."""
        return self.gain.field != "top1"

    def violation(self, record: Record, *, of_accuracy: bool) -> float:
        """The sum over the bounds on accuracy, in points, or over the others, in doublings."""
        wanted = [bound for bound in self.bounds if bound.figure.is_accuracy == of_accuracy]
        return sum(bound.violation(bound.figure.value(record)) for bound in wanted)

    def keeps(self, record: Record) -> bool:
        return all(bound.violation(bound.figure.value(record)) == 0 for bound in self.bounds)

    def worth(self, record: Record) -> float:
        """How good a record is: doublings of a ratio, or points of top-1."""
        value = self.gain.value(record)
        return value if self.gain.is_accuracy else math.log2(value) if value > 0 else -math.inf

    def __str__(self) -> str:
        return f"{BEST[self.gain.name]} with {' and '.join(map(str, self.bounds))}"


def goal_of(
    *,
    within: float | None = None,
    smallest: str | None = None,
    fastest: str | None = None,
    at_least: Iterable[str] = (),
    most: Iterable[str] = (),
) -> Goal:
    """The goal that the options name: `within` is the limit on lost top-1 in points. BadArgument for anything else."""
    if smallest is not None and fastest is not None:
        raise BadArgument("fastest", fastest, f"smallest={smallest} is asked for, too; one of the two is improved")
    gain = GAINS["top1"]
    for argument, name, known in (("smallest", smallest, SMALLEST), ("fastest", fastest, FASTEST)):
        if name is not None:
            gain = GAINS[_named(argument, name, name, known)]
    bounds = [*_bounds("at_least", at_least), *_bounds("most", most)]
    if within is not None:
        if not (math.isfinite(within) and 0 <= within <= 100):
            raise BadArgument("within", f"{within:g}", "expected points of top-1, from 0 to 100, as in 1.0")
        bounds.append(Bound(COSTS["drop"], "most", within))
    if gain.field != "top1" and not any(bound.figure.is_accuracy for bound in bounds):
        raise BenchError(f"{BEST[gain.name]} without a limit on accuracy would be useless; name one: within 1.0 points")
    if gain.field == "top1" and all(bound.figure.is_accuracy for bound in bounds):
        raise BenchError("what is to be found? The smallest, the fastest, or the highest top-1 at least size=4")
    return Goal(gain, tuple(bounds))


def _bounds(argument: str, texts: Iterable[str]) -> list[Bound]:
    known, kind = (GAINS, "least") if argument == "at_least" else (COSTS, "most")
    example = "size=4 or top1=90" if argument == "at_least" else "size=100kB, macs=20e6 or latency=5ms"
    found = []
    for text in texts:
        for part in text.split(","):
            name, equals, written = part.partition("=")
            number = _VALUE.fullmatch(written)
            if not equals or number is None:
                raise BadArgument(argument, text, f"expected NAME=VALUE, as in {example}")
            figure = known[_named(argument, name.strip(), text, known)]
            limit = float(number[1]) * MULTIPLES[number[2].lower()]
            if not 0 < limit < math.inf:
                raise BadArgument(argument, text, f"expected a number above 0, as in {example}")
            found.append(Bound(figure, "least" if kind == "least" else "most", limit))
    return found


def _named(argument: str, name: str, text: str, known: Iterable[str]) -> str:
    names = list(known)
    if name not in names:
        raise BadArgument(argument, text, f"there is no figure '{name}' here{did_you_mean(name, names)}")
    return name
