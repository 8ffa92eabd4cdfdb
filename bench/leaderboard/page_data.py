"""What the board's page holds: the figures for its scripts, and the tables that its template writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.leaderboard.board import board_title
from bench.leaderboard.columns import Column, Row, label, rows_of
from bench.leaderboard.conditions import measures_of
from bench.leaderboard.curves import curves
from bench.leaderboard.exports import plain
from bench.leaderboard.grouping import DENSE, LINE, TASK
from bench.leaderboard.headline import LEADS, MEASURES, UNKNOWN, columns_of_points, points_place, rows_of_points
from bench.leaderboard.operating_points import Table as Points
from bench.leaderboard.setting_page import SPACES
from bench.leaderboard.style import style_of
from bench.leaderboard.summary import FRONTS
from bench.system.text import printable

if TYPE_CHECKING:
    from pandas import DataFrame, Series

DIGITS = 6
"""Digits of a figure in a chart; the files beside the page have all digits."""
CHARTED = ["front", "top1", "top1_ci95", "top1_drop", *FRONTS, "latency_speedup_ci95", "latency_noisy"]


def points_tables(summary: DataFrame, tables: list[Points]) -> list[dict[str, Any]]:
    """For the template: the tables at equal size and MACs, each with the number of its task."""
    tasks = list(dict.fromkeys(summary[TASK].itertuples(index=False, name=None)))
    pages = {tuple(row[name] for name in LINE): row["page"] for row in rows_of(summary) if "page" in row}
    shown = []
    for table in tables:
        _, *columns = columns_of_points(table)
        rows = [(row["method"], _points_cells(row, columns, table, pages)) for row in rows_of_points(table)]
        what = {"what": f"At equal {MEASURES[table.measure]}", "place": points_place(table)}
        headers = [column.header for column in columns]
        spread = any(cell["spread"] for _, cells in rows for cell in cells)
        shown.append({"task": tasks.index(table.task), **what, "targets": headers, "rows": rows, "spread": spread})
    return shown


def _points_cells(
    row: Row, columns: list[Column], table: Points, pages: dict[tuple[Any, ...], str]
) -> list[dict[str, Any]]:
    """The parts of each cell as the terminal shows it, with its setting and the setting's page."""
    cells = []
    for column in columns:
        text, cell = column.write(row), row[column.name]
        figure, _, spread = text.lstrip(f"{LEADS}{UNKNOWN} ").partition(" ±")
        cells.append(
            {
                "mark": text[0],
                "figure": figure,
                "spread": spread,
                "setting": f"{label(cell.setting)}, {cell.ratio:.2f}×" if cell else "",
                "page": pages.get(table.line(cell), "") if cell else "",
            }
        )
    return cells


def data(summary: DataFrame, columns: list[Column]) -> dict[str, Any]:
    """What the script reads: one list per column, which is compact and quick to parse."""
    rows = rows_of(summary)
    tasks: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        tasks.setdefault(tuple(row[name] for name in TASK), []).append(row)
    place = {task: index for index, task in enumerate(tasks)}
    return {
        "tasks": [dict(zip(TASK, task, strict=True), title=board_title(of)) for task, of in tasks.items()],
        "columns": [{"name": c.name, "header": c.header, "numeric": c.numeric} for c in columns],
        "measures": [
            {
                "name": measure.name,
                "column": measure.column.name,
                "words": measure.words,
                "unit": measure.unit,
                "higher": measure.better == "higher",
                "timed": measure.noisy is not None,
            }
            for measure in measures_of(columns)
        ],
        "fronts": FRONTS,
        "styles": {method: _style(method) for method in dict.fromkeys(row["method"] for row in rows)},
        "task": [place[tuple(row[name] for name in TASK)] for row in rows],
        "method": [row["method"] for row in rows],
        "dense": [int(row["setting"] == DENSE) for row in rows],
        "curve": curves(summary).tolist(),
        "page": list(summary.get("page", [])),
        "error": [plain(row["error"]) for row in rows],
        "failed": [row["failed"] for row in rows],
        "values": {
            name: _figures(summary[name])
            for name in dict.fromkeys([*CHARTED, *FRONTS.values(), *(c.name for c in columns if c.numeric)])
        },
        "shown": {column.name: [column.write(row) for row in rows] for column in columns},
    }


def _style(method: str) -> dict[str, str]:
    style = style_of(method)
    return {"light": style.light, "dark": style.dark, "symbol": style.marker, "outline": style.outline}


def _figures(column: Series[Any]) -> list[float | int | None]:
    return [None if value != value else _shortest(f"{value:.{DIGITS}g}") for value in column.astype("float64")]


def _shortest(digits: str) -> float | int:
    return int(digits) if digits.isdecimal() else float(digits)


def embed(data: Any) -> str:
    """JSON for a script element: no text in it can end the element, and it has no control characters."""
    written = json.dumps(_harmless_within(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c")


def _harmless_within(data: Any) -> Any:
    if isinstance(data, dict):
        return {harmless(name): _harmless_within(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_harmless_within(value) for value in data]
    return harmless(data)


def harmless(value: Any) -> Any:
    """Text without control characters; the templates' escaping then takes care of its markup."""
    return printable(value, keep=SPACES) if type(value) is str else value  # markup is of another type
