"""The board as a page of its own, kept among the artifacts of the board's run."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bench.leaderboard import COLUMNS, LEGEND, TASK

if TYPE_CHECKING:
    from pandas import DataFrame

STYLE = "body{font:15px system-ui;margin:2em}td,th{padding:.2em .8em;text-align:right}"


def to_page(summary: DataFrame) -> str:
    """HTML that needs nothing besides itself; of the same summary the same, which is how a change is seen."""
    boards = "\n".join(_board(task, rows) for task, rows in summary.groupby(TASK, sort=False))
    head = f"<!doctype html><meta charset='utf-8'><title>Leaderboard</title><style>{STYLE}</style>"
    return f"{head}{boards}<p>{escape(LEGEND)}</p>\n"


def _board(task: object, rows: DataFrame) -> str:
    measured = rows[rows["seeds"] > 0]
    head = "".join(f"<th>{escape(column.header)}" for column in COLUMNS)
    lines = ["".join(f"<td>{escape(column.write(row))}" for column in COLUMNS) for _, row in measured.iterrows()]
    title = ", ".join(map(str, task if isinstance(task, tuple) else (task,)))
    return f"<h2>{escape(title)}</h2><table><tr>{head}{''.join(f'<tr>{line}' for line in lines)}</table>"
