"""`bench list` and `bench show`: the methods, models and datasets to choose from."""

from __future__ import annotations

from typing import TypeVar

from rich.table import Table

from bench.plugins import declared
from bench.system.errors import BenchError
from bench.system.grid import Grid, Heading
from bench.system.terminal import output, styled
from bench.system.text import did_you_mean, one_line, shortened

T = TypeVar("T", Table, Grid)


def show(kind: str, match: str) -> None:
    """Print every method, model or dataset whose name contains `match`."""
    {"methods": _methods, "models": _models, "datasets": _datasets}[kind](match)


def _methods(match: str) -> None:
    table = Table("method", "what it does", "paper", box=None, pad_edge=False)
    for name, method in declared.methods().items():
        if match.lower() in name.lower():
            table.add_row(name, method.summary, method.paper or ("control" if method.control else ""))
    output().print(_nonempty(table, "method", match))


def _datasets(match: str) -> None:
    table = Table("dataset", "what it is", box=None, pad_edge=False)
    for name, summary in declared.datasets().items():
        if match.lower() in name.lower():
            table.add_row(name, summary)
    output().print(_nonempty(table, "dataset", match))


def _models(match: str) -> None:
    table = Grid([Heading("model", right=False, folds=True), Heading("from", right=False, folds=False)], ruled=False)
    for library, known in declared.models().items():
        for name in known:
            if match.lower() in name.lower():
                table.add_row([one_line(name), library])
    output().print(_nonempty(table, "model", match))


def _nonempty(table: T, kind: str, match: str) -> T:
    if not (table.rows if isinstance(table, Grid) else table.row_count):
        raise BenchError(f"--match {match}: no {kind} has a name that contains this")
    return table


def show_method(name: str) -> None:
    """Print a method's summary, its paper, its options and the docstring of its module."""
    known, console = declared.methods(), output()
    if name not in known:
        raise BenchError(f"bench show: there is no method '{shortened(name)}'{did_you_mean(name, known)}")
    method = known[name]
    console.print(styled(name, "bold") + styled(f"  {method.summary}"), soft_wrap=True)
    if method.paper:
        console.print(f"\nPaper: {method.paper}", soft_wrap=True)
    if method.options:
        table = Table("option", "type", "default", "meaning", box=None, pad_edge=False)
        for row in method.options:
            table.add_row(*row)
        console.print()
        console.print(table)
    if method.strength:
        console.print(f"\n`bench run --at` chooses {method.strength}.", soft_wrap=True)
    if method.details:
        console.print(f"\n{method.details}", soft_wrap=True)
