"""`bench list` and `bench show`: the methods, models and datasets to choose from."""

from __future__ import annotations

import re

from bench.plugins import declared
from bench.system.errors import BenchError
from bench.system.grid import Grid, Heading
from bench.system.terminal import output, styled
from bench.system.text import did_you_mean, one_line, shortened


def show(kind: str, match: str) -> None:
    """Print every method, model or dataset whose name contains `match`."""
    {"methods": _methods, "models": _models, "datasets": _datasets}[kind](match)


def _methods(match: str) -> None:
    table = _table("method", "what it does", "paper")
    for name, method in declared.methods().items():
        if match.lower() in name.lower():
            paper = method.paper or ("control" if method.control else "")
            table.add_row([one_line(text) for text in (name, method.summary, paper)])
    output().print(_nonempty(table, "method", match))


def _datasets(match: str) -> None:
    table = _table("dataset", "what it is")
    for name, summary in declared.datasets().items():
        if match.lower() in name.lower():
            table.add_row([one_line(name), one_line(summary)])
    output().print(_nonempty(table, "dataset", match))


def _models(match: str) -> None:
    table = _table("model", "from")
    for library, known in declared.models().items():
        for name in known:
            if match.lower() in name.lower():
                table.add_row([one_line(name), library])
    output().print(_nonempty(table, "model", match))


def _table(*headers: str) -> Grid:
    """A table without a rule, in which every column but the first may fold."""
    return Grid([Heading(header, folds=place > 0) for place, header in enumerate(headers)], ruled=False)


def _nonempty(table: Grid, kind: str, match: str) -> Grid:
    if not table.rows:
        raise BenchError(f"--match {match}: no {kind} has a name that contains this")
    return table


def show_method(name: str) -> None:
    """Print a method's summary, its paper, its options and the docstring of its module."""
    known, console = declared.methods(), output()
    if name not in known:
        raise BenchError(f"bench show: there is no method '{shortened(name)}'{did_you_mean(name, known)}")
    method = known[name]
    console.print(styled(name, "bold") + styled(f"  {method.summary}"))
    if method.paper:
        console.print(f"\nPaper: {method.paper}")
    if method.options:
        table = _table("option", "type", "default", "meaning")
        for row in method.options:
            table.add_row(list(map(one_line, row)))
        console.print()
        console.print(table)
    if method.strength:
        console.print(f"\n`bench run --at` chooses {method.strength}.")
    if method.details:
        console.print(f"\n{flowing(method.details)}")


def flowing(text: str) -> str:
    """The text with a line for each paragraph, for a screen of any width; lists and indented lines stay as they are."""
    paragraphs = [
        paragraph if re.search(r"^[\s*-]", paragraph, re.MULTILINE) else " ".join(paragraph.split())
        for paragraph in text.split("\n\n")
    ]
    return "\n\n".join(paragraphs)
