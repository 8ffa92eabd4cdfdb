"""What a compression method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.system.errors import BenchError

if TYPE_CHECKING:
    from torch import nn

    from bench.training.lab import Lab

WORDS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
"""Values of options that are written as a bare word, in any case; every other bare word is text."""

FINITE = ConfigDict(allow_inf_nan=False, strict=True)


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A compression method; its fields are its hyper-parameters and nothing else.

    A field's annotation is its rule and its description, `k: Annotated[int, Ge(1), "centroids"] = 64`: `bench show`
    prints it, and a value that breaks it is a BenchError wherever the value comes from.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    """Authors, title, venue and year."""
    control: ClassVar[bool] = False
    """Whether this is something to compare with, not a proposal."""

    @abstractmethod
    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        """Compress a model that is yours to change, and return it."""

    def __init_subclass__(cls) -> None:
        name = vars(cls).get("name", "a")
        if not (isinstance(name, str) and name.isascii() and name.isidentifier() and not iskeyword(name)):
            raise TypeError(
                f"{cls.__qualname__}: the name {name!r} cannot be written in a setting; letters, digits and _"
            )

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                adapter: TypeAdapter[Any] = TypeAdapter(hints[field.name], config=FINITE)
                object.__setattr__(self, field.name, adapter.validate_python(value))
            except ValidationError as error:
                rule = error.errors()[0]["msg"].removeprefix("Input ").removeprefix("Value error, ")
                raise BenchError(f"{self.name}({field.name}={_written(value)}): {field.name} {rule}") from None

    def __str__(self) -> str:
        """As the command line takes it: the first option (but no switch), and those that differ from their defaults."""
        shown = [
            f"{field.name}={_written(value)}"
            for index, field in enumerate(fields(self))
            for value in [getattr(self, field.name)]
            if (index == 0 and not isinstance(value, bool)) or value != field.default or field.default is MISSING
        ]
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    @property
    def options(self) -> dict[str, Any]:
        """Every hyper-parameter by name, defaults included."""
        return asdict(self)


def _written(value: object) -> str:
    return repr(value) if isinstance(value, str) and not _is_bare(value) else str(value)


def _is_bare(text: str) -> bool:
    """Whether the command line reads it as text without quotes."""
    return text.isascii() and text.isidentifier() and not iskeyword(text) and text.lower() not in WORDS
