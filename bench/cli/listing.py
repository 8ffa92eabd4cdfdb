"""`bench list` and `bench show`: the methods, models and datasets to choose from."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from rich.table import Table

from bench.plugins.registry import datasets, look_up, methods
from bench.system.errors import BenchError
from bench.system.terminal import output, styled

PLAIN = {"str": "text", "tuple": "list", "SettingText": "setting"}
"""The names of types in plain words."""


def show(kind: str, match: str) -> None:
    """Print every method, model or dataset whose name contains `match`."""
    {"methods": _methods, "models": _models, "datasets": _datasets}[kind](match)


def _methods(match: str) -> None:
    table = Table("method", "what it does", "paper", box=None, pad_edge=False)
    for name, method in methods().items():
        if match.lower() in name.lower():
            table.add_row(name, _summary(method), method.paper or ("control" if method.control else ""))
    output().print(_nonempty(table, "method", match))


def _datasets(match: str) -> None:
    table = Table("dataset", "what it is", box=None, pad_edge=False)
    for name, dataset in datasets().items():
        if match.lower() in name.lower():
            table.add_row(name, _summary(dataset))
    output().print(_nonempty(table, "dataset", match))


def _models(match: str) -> None:
    from bench.networks.zoo import model_names

    table = Table("model", "from", box=None, pad_edge=False)
    for library, known in model_names().items():
        for name in known:
            if match.lower() in name.lower():
                table.add_row(name, library)
    output().print(_nonempty(table, "model", match))


def _nonempty(table: Table, kind: str, match: str) -> Table:
    if not table.row_count:
        raise BenchError(f"--match {match}: no {kind} has a name that contains this")
    return table


def _summary(plugin: type) -> str:
    """The first paragraph of the class's docstring, or of its module's if the class has none."""
    own = plugin.__doc__ or ""
    text = own if own and not own.startswith(f"{plugin.__name__}(") else inspect.getdoc(inspect.getmodule(plugin)) or ""
    summary = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return re.sub(r"^`\w+`: (.)", lambda start: start[1].upper(), summary)


def show_method(name: str) -> None:
    """Print a method's summary, its paper, its options and the docstring of its module."""
    method, console = look_up(name, methods(), "method", "bench show"), output()
    console.print(styled(name, "bold") + styled(f"  {_summary(method)}"), soft_wrap=True)
    if method.paper:
        console.print(f"\nPaper: {method.paper}", soft_wrap=True)
    table = Table("option", "type", "default", "meaning", box=None, pad_edge=False)
    hints = get_type_hints(method, include_extras=True)
    for field in fields(method):
        hint = hints[field.name]
        kind, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        table.add_row(field.name, _type_name(kind, metadata), _default(field), _meaning(metadata))
    if table.row_count:
        console.print()
        console.print(table)
    if strength := method.strength:
        ends = f"from {strength.weakest:g} to {strength.strongest:g}"
        console.print(f"\n`bench run --at` chooses {strength.option}, {ends}.", soft_wrap=True)
    details = inspect.getdoc(inspect.getmodule(method))
    if details:
        console.print(f"\n{details}", soft_wrap=True)


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
