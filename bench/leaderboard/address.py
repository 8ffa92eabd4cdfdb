"""The part of the page's address that holds a question, so that the page opens with its filters set. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from bench.leaderboard.columns import columns_of
from bench.leaderboard.conditions import measures_of, named, parsed
from bench.leaderboard.grouping import DENSE
from bench.leaderboard.question import Question, of_methods, of_tasks
from bench.system.errors import BadArgument

if TYPE_CHECKING:
    from pandas import DataFrame


def fragment(summary: DataFrame, question: Question) -> str:
    """What follows `#`; empty where nothing is asked. BadArgument for what the page has no control for."""
    measures = measures_of(columns_of(summary))
    board = of_tasks(summary, question)
    parts = [*_one("model", question.model, board), *_one("dataset", question.dataset, board)]
    parts += [("method", name) for name in _whole_methods(board, question)]
    conditions = [*parsed("min", question.min, measures), *parsed("max", question.max, measures)]
    parts += [(f"{condition.kind}-{condition.measure.name}", f"{condition.bound:g}") for condition in conditions]
    if question.sort is not None:
        parts.append(("sort", named(question.sort, measures, "sort", question.sort).name))
    return urlencode([*parts, *([("front", "1")] if question.front else [])])


def _one(name: str, texts: object, board: DataFrame) -> list[tuple[str, str]]:
    """The page shows one model or dataset, or all."""
    values = list(dict.fromkeys(map(str, board[name]))) if texts else []
    if len(values) > 1:
        raise BadArgument(name, ",".join(values), "the page shows one or all; name one")
    return [(name, value) for value in values]


def _whole_methods(board: DataFrame, question: Question) -> list[str]:
    if not question.method:
        return []
    found = of_methods(board, question.method)
    methods = list(dict.fromkeys(map(str, found["method"])))
    compressed = board[board["setting"] != DENSE]
    if len(compressed[compressed["method"].isin(methods)]) > len(found[found["setting"] != DENSE]):
        raise BadArgument("method", ",".join(question.method), "the page shows whole methods; leave the options out")
    return methods
