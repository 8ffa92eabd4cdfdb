"""The rows of a board that answer a question, in the order asked for. Needs no torch.

Ranks and fronts are not computed anew: they stay those of the whole board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.leaderboard.columns import Row, columns_of, label, rows_of
from bench.leaderboard.conditions import Condition, Measure, measures_of, named, parsed
from bench.leaderboard.grouping import DENSE, TASK, task_title
from bench.leaderboard.question import LISTED, NEAR, Question, of_methods, of_tasks, split
from bench.system.errors import BadArgument, BenchError
from bench.system.text import counted, listed, one_line

if TYPE_CHECKING:
    from pandas import DataFrame

LEFT_OUT = "Tables that compare methods by all their settings are left out."
REFERENCE = "The dense network is shown for reference."
FRONT = "on a Pareto front"


@dataclass(frozen=True)
class Answer:
    """Rows of a summary: `rows` that were asked for, and `shown`, the same below the dense networks of their tasks.

    `notes` are sentences for people on what is shown, and `columns` those that the question names. `narrowed`: rows of
    a task may be left out. `noise` is the sentence on those that a noisy timing keeps out.
    """

    rows: DataFrame
    shown: DataFrame
    notes: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    narrowed: bool = False
    noise: str = ""


def answer(summary: DataFrame, question: Question) -> Answer:
    """The rows that a question asks for; those without a figure, or with a noisy timing, meet no condition on it.

    BenchError where no row is left: it names the condition that no row meets, and the row that is nearest to it.
    BadArgument for what the board does not have.
    """
    if summary.empty:
        return Answer(summary, summary)
    measures = measures_of(columns_of(summary))
    conditions = [*parsed("min", question.min, measures), *parsed("max", question.max, measures)]
    order = None if question.sort is None else named(question.sort, measures, "sort", question.sort)
    board = of_tasks(summary, question)
    candidates = of_methods(board, question.method)
    if question.front and not candidates["front"].any():
        raise BenchError(f"no setting is left: none of {len(candidates)} is {FRONT}")
    candidates = candidates[candidates["front"]] if question.front else candidates
    rows = rows_of(candidates)
    met = [all(condition.met(row) for condition in conditions) for row in rows]
    if not any(met):
        raise _no_row(rows, conditions)
    asked = _sorted(candidates[met], order)
    shown = _below_dense(asked, board if question.narrows else asked)
    notes = [_count(asked, board, question, conditions)] if question.narrows else []
    noise = _on_noise(rows, conditions)
    notes += ([noise] if noise else []) + _on_order(asked, order)
    notes += _on_gaps(board, asked, shown) if question.narrows else []
    named_columns = frozenset(each.column.name for each in [*(c.measure for c in conditions), order] if each)
    asked, shown = asked.reset_index(drop=True), shown.reset_index(drop=True)
    return Answer(asked, shown, tuple(notes), named_columns, question.narrows, noise)


def _sorted(rows: DataFrame, order: Measure | None) -> DataFrame:
    """In each task the best first, then noisy timings, then rows without the figure; equal ones stay as they were."""
    if order is None:
        return rows
    keys: dict[str, Any] = {
        "task": rows.groupby(TASK, sort=False).ngroup(),
        "unknown": rows[order.column.name].isna(),
        "noisy": rows[order.noisy].eq(True) if order.noisy else False,
        "figure": rows[order.column.name] * (1 if order.better == "lower" else -1),
    }
    return rows.loc[rows[[]].assign(**keys).sort_values(list(keys), kind="stable").index]


def _below_dense(rows: DataFrame, board: DataFrame) -> DataFrame:
    """The rows of each task below the dense networks that the board has there."""
    import pandas

    dense = board[board["setting"] == DENSE]
    parts = []
    for task, own in rows.groupby(TASK, sort=False):
        parts += [dense[(dense[TASK] == list(task)).all(axis=1)], own[own["setting"] != DENSE]]
    return pandas.concat(parts)


def _count(asked: DataFrame, board: DataFrame, question: Question, conditions: list[Condition]) -> str:
    """`7 of 41 settings: with tic; on a Pareto front; size at least 4×, drop at most 1 point.`"""
    methods = " or ".join(split("method", question.method))
    words = [f"with {methods}"] if methods else []
    words += [FRONT] if question.front else []
    words += [", ".join(condition.words for condition in conditions)] if conditions else []
    return one_line(f"{len(asked)} of {counted(len(board), 'setting', 'settings')}: {'; '.join(words)}.")


def _on_noise(rows: list[Row], conditions: list[Condition]) -> str:
    """The rows that only a noisy timing keeps out."""
    out = [row for row in rows if all(c.reached(row) for c in conditions) and not all(c.met(row) for c in conditions)]
    names = one_line(listed([label(row["setting"]) for row in out], NEAR))
    return f"Left out, because a noisy timing meets no condition: {names}." if out else ""


def _on_order(asked: DataFrame, order: Measure | None) -> list[str]:
    if order is None:
        return []
    noisy = order.noisy is not None and asked[order.noisy].eq(True).any()
    return [f"Sorted by {order.words}, best first{'; noisy timings come last' if noisy else ''}."]


def _on_gaps(board: DataFrame, asked: DataFrame, shown: DataFrame) -> list[str]:
    """What is not shown, and what is shown besides."""
    with_rows = set(asked[TASK].itertuples(index=False, name=None))
    tasks = dict.fromkeys(board[TASK].itertuples(index=False, name=None))
    without = [task_title(task) for task in tasks if task not in with_rows]
    notes = [f"No such setting: {one_line(listed(without, LISTED))}."] if without else []
    return [*notes, *([REFERENCE] if len(shown) > len(asked) else []), LEFT_OUT]


def _no_row(rows: list[Row], conditions: list[Condition]) -> BadArgument:
    """Of the condition that no row meets: preferably the last one without which rows would be left."""
    for culprit in reversed(conditions):
        others = [condition for condition in conditions if condition is not culprit]
        left = [row for row in rows if all(condition.met(row) for condition in others)]
        if left:
            return _unmet(culprit, others, left)
    left, passed = rows, list[Condition]()
    for culprit in conditions:
        kept = [row for row in left if culprit.met(row)]
        if not kept:
            break
        left, passed = kept, [*passed, culprit]
    return _unmet(culprit, passed, left)


def _unmet(culprit: Condition, others: list[Condition], left: list[Row]) -> BadArgument:
    """How near the rows that meet the `others` come to the condition."""
    measure, several = culprit.measure, len({tuple(row[name] for name in TASK) for row in left}) > 1
    given = " and ".join(condition.words for condition in others)
    of = f" of the {'only setting' if len(left) == 1 else f'{len(left)} settings'}{f' with {given}' if given else ''}"
    known = [row for row in left if measure.figure(row) == measure.figure(row) and not measure.is_noisy(row)]
    if not known:
        problem = f"no setting is left; there is no {measure.words} that counts{of}"
    else:
        end = max if culprit.kind == "min" else min
        nearest = end(known, key=measure.figure)
        name = label(nearest["setting"]) + (f", {task_title(nearest[key] for key in TASK)}" if several else "")
        what = f"the {'highest' if end is max else 'lowest'} {measure.words}{of} is"
        problem = f"no setting is left; {what} {measure.written(measure.figure(nearest))}: {name}"
    noisy = [label(row["setting"]) for row in left if culprit.reached(row) and measure.is_noisy(row)]
    problem += f"; noisy timings do not count: {listed(noisy, NEAR)}" if noisy else ""
    return BadArgument(culprit.kind, culprit.text, one_line(problem))
