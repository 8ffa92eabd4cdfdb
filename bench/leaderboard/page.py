"""The board as a page that works offline and from a file: a folder with one page per setting, or a single file."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.leaderboard.across import compare_methods
from bench.leaderboard.answer import LEFT_OUT
from bench.leaderboard.board import EMPTY, across_title, board_title
from bench.leaderboard.columns import (
    ACROSS_COLUMNS,
    ACROSS_LEGEND,
    ALL_COUNT,
    Column,
    Row,
    columns_of,
    label,
    legend,
    rows_of,
)
from bench.leaderboard.conditions import measures_of
from bench.leaderboard.exports import plain, to_csv, to_parquet
from bench.leaderboard.grouping import DENSE, LINE, TASK, last_measured
from bench.leaderboard.headline import (
    LEADS,
    MEASURES,
    UNKNOWN,
    columns_of_points,
    legend_of_points,
    points_place,
    rows_of_points,
)
from bench.leaderboard.operating_points import Table as Points
from bench.leaderboard.operating_points import tables_of, with_leaders
from bench.leaderboard.setting_page import SPACES, SettingPage, page_name
from bench.leaderboard.summary import FRONTS, records_folder, summarise
from bench.system.files import write_atomically, write_if_new
from bench.system.text import encoded, printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from pandas import DataFrame, Series

TEMPLATES = files("bench.leaderboard") / "pages"
SCRIPTS = ("theme.js", "ask.js", "board.js")
STYLE = "board.css"
MOST_PAGES = 5_000
"""Settings that get a page of their own; each takes 20 kB."""
DIGITS = 6
"""Digits of a figure in a chart; the files beside the page have all digits."""
CHARTED = ["front", "top1", "top1_ci95", "top1_drop", *FRONTS, "latency_speedup_ci95", "latency_noisy"]


def write_html(frame: DataFrame, out: Path, root: Path, summary: DataFrame | None = None) -> None:
    """Write the records' board into the folder `out`: index.html, a page per setting, and the board as CSV and Parquet.

    `root` is the store that the records come from; layers and pictures are taken from the records' folders there, if
    they exist. Files in `out` may be overwritten, but are never deleted. `summary` is that of the records, if it is
    known.
    """
    records = last_measured(frame)
    summary = summarise(frame, root) if summary is None else summary.copy()
    summary["page"] = _pages(summary)
    _write_assets(out / "assets")
    write_atomically(out / "board.csv", encoded(to_csv(summary)))
    write_atomically(out / "board.parquet", to_parquet(summary))
    _write_settings(records, summary, out, records_folder(root))
    points = with_leaders(tables_of(summary), frame, root)
    # Last, so that every link leads somewhere.
    write_atomically(out / "index.html", encoded(_render(summary, inline=False, points=points)))


def _pages(summary: DataFrame) -> list[str]:
    """The name of each setting's page. Of very many settings, those on a front and the best of each task have one."""
    place = summary.groupby(TASK, sort=False).cumcount()
    chosen = set(
        summary.assign(_place=place, _off=~summary["front"]).sort_values(["_off", "_place"]).index[:MOST_PAGES]
    )
    rows = zip(summary.index, rows_of(summary), strict=True)
    return [page_name(row) if index in chosen else "" for index, row in rows]


def to_page(summary: DataFrame) -> str:
    """The board as one HTML file of about 5 MB, including the libraries, without the settings' pages."""
    return _render(summary, inline=True)


def _render(summary: DataFrame, inline: bool, points: list[Points] | None = None) -> str:
    """`points` are the summary's tables at equal size and MACs, by default without marks."""
    columns = columns_of(summary)
    points = tables_of(summary) if points is None else points
    template = _environment().get_template("board.html")
    return template.render(
        root="",
        inline=_assets() if inline else {},
        empty=EMPTY if summary.empty else "",
        data=_embed(_data(summary, columns)),
        counts={
            "settings": len(summary),
            "tasks": len(summary[TASK].drop_duplicates()),
            "pages": sum(map(bool, summary["page"])) if "page" in summary else 0,
        },
        legend=(legend(columns, summary) + ALL_COUNT).removeprefix("● "),
        left_out=LEFT_OUT,
        points=_points(summary, points),
        points_legend=legend_of_points(points),
        across=[{"title": across_title(block), "rows": rows_of(block.board)} for block in compare_methods(summary)],
        across_columns=ACROSS_COLUMNS,
        across_legend=ACROSS_LEGEND,
        linked="page" in summary,
    )


def _points(summary: DataFrame, tables: list[Points]) -> list[dict[str, Any]]:
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


def _data(summary: DataFrame, columns: list[Column]) -> dict[str, Any]:
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
        "task": [place[tuple(row[name] for name in TASK)] for row in rows],
        "method": [row["method"] for row in rows],
        "dense": [int(row["setting"] == DENSE) for row in rows],
        "page": list(summary.get("page", [])),
        "error": [plain(row["error"]) for row in rows],
        "failed": [row["failed"] for row in rows],
        "values": {
            name: _figures(summary[name])
            for name in dict.fromkeys([*CHARTED, *FRONTS.values(), *(c.name for c in columns if c.numeric)])
        },
        "shown": {column.name: [column.write(row) for row in rows] for column in columns},
    }


def _figures(column: Series[Any]) -> list[float | int | None]:
    return [None if value != value else _shortest(f"{value:.{DIGITS}g}") for value in column.astype("float64")]


def _shortest(digits: str) -> float | int:
    return int(digits) if digits.isdecimal() else float(digits)


def _embed(data: Any) -> str:
    """JSON for a script element: no text in it can end the element, and it has no control characters."""
    written = json.dumps(_harmless_within(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c")


def _harmless_within(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _harmless_within(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_harmless_within(value) for value in data]
    return _harmless(data)


def _write_assets(folder: Path) -> None:
    for name, text in _assets().items():
        write_atomically(folder / name, encoded(text))


@cache
def _assets() -> dict[str, str]:
    """The libraries' assets and our own, in the order in which they load."""
    own = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in (*SCRIPTS, STYLE)}
    plotly = files("plotly") / "package_data" / "plotly.min.js"
    return {"plotly.min.js": plotly.read_text(encoding="utf-8"), "datatables.js": _data_tables(), **own}


def _data_tables() -> str:
    """DataTables as itables ships it, turned into a plain script, because browsers load no module from a file."""
    source = (files("itables") / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    script, exports = re.subn(r"\bexport\s*\{[^}]*?([\w$]+) as default[^}]*\};?", r"window.DataTable = \1;", source)
    if exports != 1:
        raise RuntimeError("this version of itables ships DataTables in an unknown form; version 2.9 works")
    return f'(() => {{ "use strict";\n{script}\n}})();\n'


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("bench.leaderboard", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _harmless(value: Any) -> Any:
    """Text without control characters; `autoescape` then takes care of its markup."""
    return printable(value, keep=SPACES) if type(value) is str else value  # markup is of another type


def _write_settings(records: DataFrame, summary: DataFrame, out: Path, folders: Path) -> None:
    trials: dict[tuple[Any, ...], list[Row]] = {}
    for record in rows_of(records):
        trials.setdefault(tuple(record[key] for key in LINE), []).append(record)
    template = _environment().get_template("setting.html")
    (out / "settings").mkdir(parents=True, exist_ok=True)
    for row in filter(lambda row: row["page"], rows_of(summary)):
        page = SettingPage(row, trials[tuple(row[key] for key in LINE)], folders)
        pictures = page.copy_pictures(out / "pictures")
        text = template.render(root="../", inline={}, page=page, pictures=pictures)
        write_if_new(out / "settings" / row["page"], encoded(text))
