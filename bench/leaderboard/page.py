"""The board as a page that works offline and from a file: a folder with one page per setting, or a single file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.leaderboard.across import compare_methods
from bench.leaderboard.answer import LEFT_OUT
from bench.leaderboard.assets import SCRIPTS, STYLES, assets
from bench.leaderboard.board import EMPTY, across_title, board_title
from bench.leaderboard.columns import ACROSS_COLUMNS, ACROSS_LEGEND, ALL_COUNT, Row, columns_of, label, legend, rows_of
from bench.leaderboard.exports import to_csv, to_parquet
from bench.leaderboard.glossary import terms
from bench.leaderboard.grouping import LINE, TASK, last_measured
from bench.leaderboard.headline import legend_of_points
from bench.leaderboard.operating_points import Table as Points
from bench.leaderboard.operating_points import tables_of, with_leaders
from bench.leaderboard.origin import origin
from bench.leaderboard.page_data import data, embed, harmless, points_tables
from bench.leaderboard.setting_page import SettingPage, page_name
from bench.leaderboard.summary import records_folder, summarise
from bench.leaderboard.verdict import Named, findings
from bench.system.files import write_atomically, write_if_new
from bench.system.text import encoded

if TYPE_CHECKING:
    from jinja2 import Environment
    from pandas import DataFrame

MOST_PAGES = 5_000
"""Settings that get a page of their own; each takes 20 kB."""


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
    write_atomically(out / "index.html", encoded(_render(summary, False, points, records)))


def _pages(summary: DataFrame) -> list[str]:
    """The name of each setting's page. Of very many settings, those on a front and the best of each task have one."""
    place = summary.groupby(TASK, sort=False).cumcount()
    chosen = set(
        summary.assign(_place=place, _off=~summary["front"]).sort_values(["_off", "_place"]).index[:MOST_PAGES]
    )
    rows = zip(summary.index, rows_of(summary), strict=True)
    return [page_name(row) if index in chosen else "" for index, row in rows]


def to_page(summary: DataFrame, records: DataFrame | None = None) -> str:
    """The board as one HTML file of about 2 MB, including the libraries, without the settings' pages.

    `records` are those that the summary was made from, if the page is to say when they were measured.
    """
    return _render(summary, True, None, None if records is None else last_measured(records))


def _render(summary: DataFrame, inline: bool, points: list[Points] | None, records: DataFrame | None) -> str:
    """`points` are the summary's tables at equal size and MACs, by default without marks."""
    columns = columns_of(summary)
    points = tables_of(summary) if points is None else points
    template = _environment().get_template("board.html")
    return template.render(
        root="",
        inline=assets() if inline else {},
        scripts=SCRIPTS,
        styles=STYLES,
        empty=EMPTY if summary.empty else "",
        data=embed(data(summary, columns)),
        counts=_counts(summary),
        verdict=_verdict(summary, points, records),
        glossary=terms(),
        legend=(legend(columns, summary) + ALL_COUNT).removeprefix("● "),
        left_out=LEFT_OUT,
        points=points_tables(summary, points),
        points_legend=legend_of_points(points),
        across=[{"title": across_title(block), "rows": rows_of(block.board)} for block in compare_methods(summary)],
        across_columns=ACROSS_COLUMNS,
        across_legend=ACROSS_LEGEND,
        linked="page" in summary,
    )


def _counts(summary: DataFrame) -> dict[str, int]:
    pages = sum(map(bool, summary["page"])) if "page" in summary else 0
    return {"settings": len(summary), "tasks": len(summary[TASK].drop_duplicates()), "pages": pages}


def _verdict(summary: DataFrame, points: list[Points], records: DataFrame | None) -> list[dict[str, Any]]:
    """For each task, in the order of the page's data: what was measured, and which method is best, in words."""
    pages = {tuple(row[name] for name in LINE): row["page"] for row in rows_of(summary) if "page" in row}
    told = []
    for task, rows in summary.groupby(TASK, sort=False):
        own = None if records is None else records[(records[TASK] == list(task)).all(axis=1)]
        tables = [table for table in points if table.task == task]
        answers = [
            (finding.question, [_part(part, pages) for part in finding.sentence]) for finding in findings(rows, tables)
        ]
        told.append({"title": board_title(rows_of(rows)), "origin": origin(rows, own), "answers": answers})
    return told


def _part(part: str | Named, pages: dict[tuple[Any, ...], str]) -> dict[str, str]:
    """Text, or a setting with the name of its page."""
    if isinstance(part, str):
        return {"text": part, "setting": "", "page": ""}
    return {"text": "", "setting": label(part.setting), "page": pages.get(part.line, "")}


def _write_assets(folder: Path) -> None:
    for name, text in assets().items():
        write_atomically(folder / name, encoded(text))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("bench.leaderboard", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _write_settings(records: DataFrame, summary: DataFrame, out: Path, folders: Path) -> None:
    trials: dict[tuple[Any, ...], list[Row]] = {}
    for record in rows_of(records):
        trials.setdefault(tuple(record[key] for key in LINE), []).append(record)
    template = _environment().get_template("setting.html")
    (out / "settings").mkdir(parents=True, exist_ok=True)
    for row in filter(lambda row: row["page"], rows_of(summary)):
        page = SettingPage(row, trials[tuple(row[key] for key in LINE)], folders)
        pictures = page.copy_pictures(out / "pictures")
        shown = {"page": page, "pictures": pictures, "models": page.models(out / "settings")}
        text = template.render(root="../", inline={}, styles=STYLES, **shown)
        write_if_new(out / "settings" / row["page"], encoded(text))
