"""What plugins declare about themselves, for listings and completion: known without importing them a second time."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from bench.system.remembered import remembered

if TYPE_CHECKING:
    from bench.plugins.method import Method

PLAIN = {"str": "text", "tuple": "list", "SettingText": "setting"}
"""The names of types in plain words."""


@dataclass(frozen=True)
class Declared:
    """A method: a summary, its paper, and the docstring of its module. `options` are names, types, defaults, meanings.

    `strength` says which option `bench run --at` chooses, from where to where; empty if there is none.
    """

    summary: str
    paper: str
    control: bool
    options: list[list[str]]
    strength: str
    details: str
    style: list[str] = field(default_factory=list)
    """Its colour and its marker, if it has chosen them."""


def methods() -> dict[str, Declared]:
    """Every installed method by its name."""
    return {name: Declared(**about) for name, about in remembered("methods", _find_methods).items()}


def datasets() -> dict[str, str]:
    """A summary of every installed dataset by its name."""
    found: dict[str, str] = remembered("datasets", _find_datasets)
    return found


def models() -> dict[str, list[str]]:
    """The names of networks by the library that they come from."""
    found: dict[str, list[str]] = remembered("models", _find_models)
    return found


def _find_methods() -> tuple[dict[str, Any], set[str] | None]:
    from bench.plugins import registry

    kinds = registry.methods()
    return {name: asdict(_declared(kind)) for name, kind in kinds.items()}, _packages(kinds)


def _find_datasets() -> tuple[dict[str, str], set[str] | None]:
    from bench.plugins import registry

    kinds = registry.datasets()
    return {name: _summary(kind) for name, kind in kinds.items()}, _packages(kinds)


def _find_models() -> tuple[dict[str, list[str]], set[str]]:
    from bench.networks.zoo import model_names

    return model_names(), set()


def _packages(kinds: Mapping[str, type]) -> set[str] | None:
    """The packages that the plugins come from; None if one could not be imported, which must be told every time."""
    from bench.plugins import registry

    return None if registry.faults else {kind.__module__.partition(".")[0] for kind in kinds.values()}


def _declared(method: type[Method]) -> Declared:
    strength = method.strength
    ends = f"{strength.option}, from {strength.weakest:g} to {strength.strongest:g}" if strength else ""
    details = inspect.getdoc(inspect.getmodule(method)) or ""
    style = list(method.style or ())
    return Declared(_summary(method), method.paper, method.control, _options(method), ends, details, style)


def _options(method: type[Method]) -> list[list[str]]:
    hints = get_type_hints(method, include_extras=True)
    rows = []
    for option in fields(method):
        hint = hints[option.name]
        kind, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        rows.append([option.name, _type_name(kind, metadata), _default(option), _meaning(metadata)])
    return rows


def _summary(plugin: type) -> str:
    """The first paragraph of the class's docstring, or of its module's if the class has none."""
    own = plugin.__doc__ or ""
    text = own if own and not own.startswith(f"{plugin.__name__}(") else inspect.getdoc(inspect.getmodule(plugin)) or ""
    summary = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return re.sub(r"^`\w+`: (.)", lambda start: start[1].upper(), summary)


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return repr(field.default_factory())
    return "required" if field.default is MISSING else repr(field.default)


def _meaning(metadata: list[Any]) -> str:
    return " ".join(item for item in metadata if isinstance(item, str))


def _type_name(kind: Any, metadata: list[Any]) -> str:
    """`int >= 1`, `float >= 0 and < 1, or none`, `1 | 2 | 4 | 8`"""
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    named = [PLAIN.get(part.__name__, part.__name__) for part in kinds if part is not NoneType]
    rules = [rule for item in metadata for rule in _rules(item)]
    described = " ".join([" | ".join(named), " and ".join(rules)]).strip()
    return f"{described}, or none" if NoneType in kinds else described


def _rules(constraint: Any) -> list[str]:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = {sign: getattr(constraint, key, None) for key, sign in signs.items()}
    return [f"{sign} {value}" for sign, value in bounds.items() if value is not None]
