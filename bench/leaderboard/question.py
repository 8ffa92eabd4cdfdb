"""What a reader asks of a board, and the tasks and methods that its names stand for. Needs no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.leaderboard.columns import Row, label, rows_of
from bench.records.record import ON
from bench.system.errors import BadArgument, BenchError
from bench.system.text import did_you_mean, listed, one_line, shortened

if TYPE_CHECKING:
    from pandas import DataFrame

NEAR = 3
"""Settings that a message proposes."""
LISTED = 6
"""Tasks that a message names."""
_COMMA, _PLUS = (re.compile(sign + r"(?![^(]*\))") for sign in (",", r"\+"))
"""Outside of brackets."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question as a reader writes it.

    `min` and `max` hold conditions like `size=4,macs=2`. `sort` names a column: the best row by it comes first.
    `method` holds names of methods, pipelines or settings; a method stands for every setting that it has a part in.
    Several names of methods, models or datasets are alternatives. `front`: only rows on a Pareto front.
    """

    min: Sequence[str] = ()
    max: Sequence[str] = ()
    sort: str | None = None
    method: Sequence[str] = ()
    model: Sequence[str] = ()
    dataset: Sequence[str] = ()
    front: bool = False

    @property
    def narrows(self) -> bool:
        """Whether rows of a task may be left out."""
        return bool(self.min or self.max or self.method or self.front)


def of_tasks(summary: DataFrame, question: Question) -> DataFrame:
    """The rows of the tasks asked for. BadArgument for names that the board does not have.

    A name also stands for those that the board tells apart by what is added to it, as in `resnet20 (3f2a1b)`.
    """
    if summary.empty:
        return summary
    board = summary
    for name, texts in (("model", question.model), ("dataset", question.dataset)):
        if names := split(name, texts):
            known = list(dict.fromkeys(map(str, summary[name])))
            for each in names:
                if not any(_is_named(value, each) for value in known):
                    problem = f"the board has no such {name}{did_you_mean(each, map(one_line, known))}"
                    raise BadArgument(name, each, problem)
            board = board[[any(_is_named(value, each) for each in names) for value in board[name]]]
    if board.empty:
        tasks = dict.fromkeys(f"{row['model']} on {row['dataset']}" for row in rows_of(summary))
        there = one_line(listed(list(tasks), LISTED))
        raise BenchError(f"the board has no such model with such a dataset; it has {there}")
    return board


def of_methods(board: DataFrame, texts: Sequence[str]) -> DataFrame:
    """The rows that one of the names stands for. BadArgument for a name that stands for none."""
    wanted = split("method", texts)
    if not wanted:
        return board
    names = [_names(row) for row in rows_of(board)]
    for name in wanted:
        if not any(_plain(name) in own for own in names):
            raise BadArgument("method", name, _unknown(name, board))
    return board[[any(_plain(name) in own for name in wanted) for own in names]]


def split(argument: str, texts: Sequence[str]) -> list[str]:
    """The names in texts, separated by commas, each once. BadArgument for an empty one."""
    names = [part.strip() for text in texts for part in _COMMA.split(text)]
    if "" in names:
        raise BadArgument(argument, ",".join(texts), "expected names, separated by commas")
    return list(dict.fromkeys(names))


def _is_named(value: str, wanted: str) -> bool:
    return value == wanted or value.startswith(f"{wanted} ")


def _names(row: Row) -> set[str]:
    """What a row answers to: its setting, its method, the setting without its strength, and each stage of these."""
    texts: Iterable[str] = (row["method"], *(text.split(ON)[0] for text in (row["setting"], row["family"])))
    names = {name for text in texts for name in (text, *_PLUS.split(text))}
    return {_plain(label(name)) for name in names} | set(map(_plain, names))


def _plain(name: str) -> str:
    return name.replace(" ", "")


def _unknown(name: str, board: DataFrame) -> str:
    if "(" in name:
        near = difflib.get_close_matches(shortened(name), sorted(set(board["setting"])), n=NEAR, cutoff=0)
        return f"no such setting on the board; nearest: {', '.join(map(one_line, near))}"
    known = {one_line(label(stage)) for method in board["method"] for stage in method.split("+")}
    return f"no such method on the board{did_you_mean(name, known)}"
