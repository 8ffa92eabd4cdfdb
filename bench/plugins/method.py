"""What a compression method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.plugins.strength import Strength
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from torch import nn

    from bench.training.lab import Lab

WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
"""Words that stand for a value other than text, in upper or lower case."""

FINITE = ConfigDict(allow_inf_nan=False, strict=True)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A compression method. Its fields are its hyper-parameters and nothing else.

    A subclass is a frozen dataclass with keyword-only fields, a `name` and `compress`. The annotation of a field holds
    both its rule and its description, as in `k: Annotated[int, Ge(1), "centroids"] = 64`. `bench show` prints them. A
    value that breaks the rule raises BenchError, on the command line and in Python alike.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    """Authors, title, venue and year; empty for a control."""
    control: ClassVar[bool] = False
    """Whether this is a control, something to compare with, and not a proposed method."""
    style: ClassVar[tuple[str, str] | None] = None
    """Colour and marker on pages and in pictures, by their names in `bench.leaderboard.style`; readers know a method by
    them, so they never change. Without a style, both follow from the method's name."""
    tested: ClassVar[tuple[str, ...]] = ()
    """Settings for the contract tests, if the defaults are too slow or too large for a network with few channels:
    `("tic(k=4)",)`. The first is tested on every network; the others, such as `fixed(train=True)`, only where training
    matters."""
    finishes: ClassVar[bool] = False
    """Whether it may follow any other method, as the last stage of a pipeline; `bench find` then proposes that."""
    searched: ClassVar[tuple[str, ...]] = ()
    """Options of a few words, such as `granularity`, that `bench find` chooses beside the strength."""
    strength: ClassVar[Strength | None] = None
    """The option whose value `bench run --at size=4` chooses, and its range: `Strength("rate", 0.0, 0.99)`. None if the
    method has no such option; `--at` then refuses it."""

    @abstractmethod
    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        """Compress `model`, which may be changed, and return the compressed network.

        Usually `model` is changed in place and returned. Another module of the same class, such as a changed copy, may
        be returned instead. A module of another class, such as a wrapper, could not be stored and is refused, and so is
        None.

        `lab` provides everything else: images, training, random numbers, and the budget that pays for them. Raise
        BenchError, in one line, if the method cannot be applied to this network.
        """

    @property
    def trains(self) -> bool:
        """Whether `compress` trains. In a pipeline, the methods that train share the budget.

        Override it if an option decides: `return self.train`.
        """
        return True

    def __init_subclass__(cls) -> None:
        name = vars(cls).get("name", "a")
        if not (isinstance(name, str) and name.isascii() and name.isidentifier() and not iskeyword(name)):
            raise TypeError(
                f"{cls.__qualname__}: the name {name!r} cannot be written in a setting; letters, digits and _"
            )

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, _rules(type(self))[field.name].validate_python(value))
            except ValidationError as error:
                rule = error.errors()[0]["msg"].removeprefix("Input ").removeprefix("Value error, ")
                raise BenchError(f"{self.name}({field.name}={_written(value)}): {field.name} {rule}") from None

    def __str__(self) -> str:
        """The setting as the command line reads it, with all options that differ from their defaults and, unless it is
        a switch, the first option."""
        return self.written()

    def written(self, without: str = "") -> str:
        """The setting as text, leaving out the option named `without`."""
        shown = [
            f"{field.name}={_written(value)}"
            for index, field in enumerate(fields(self))
            for value in [getattr(self, field.name)]
            if (index == 0 and not isinstance(value, bool)) or value != field.default or field.default is MISSING
            if field.name != without
        ]
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    @property
    def options(self) -> dict[str, Any]:
        """Every hyper-parameter by name, defaults included."""
        return asdict(self)


@cache
def _rules(kind: type[Method]) -> dict[str, TypeAdapter[Any]]:
    """What checks each field; made once for each method, since a sweep makes thousands of settings."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: TypeAdapter(hints[field.name], config=FINITE) for field in fields(kind)}


def _written(value: object) -> str:
    return repr(value) if isinstance(value, str) and not _is_bare(value) else str(value)


def _is_bare(text: str) -> bool:
    """Whether the command line reads this text without quotes."""
    return text.isascii() and text.isidentifier() and not iskeyword(text) and text.lower() not in WORDS
