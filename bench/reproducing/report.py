"""A paper's figures beside ours as a terminal shows them, and the suite that measures its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from bench.reproducing.beside import Beside
from bench.reproducing.counting import Counted
from bench.reproducing.published import PERCENT, Results
from bench.system.grid import Grid, Heading
from bench.system.text import one_line


def counted_table(counted: Sequence[Counted]) -> Grid:
    """What follows from the structure of the networks."""
    table = _table("row", "setting", "figure", "published", "ours", "")
    for each in counted:
        ours = "–" if each.ours is None else written(each.figure, each.ours)
        verdict, style = ("same", "green") if each.matches else ("differs", "bold red")
        cells = [each.row, f"{each.model}, {each.setting}", each.figure, each.published, ours, verdict]
        table.add_row(list(map(one_line, cells)), styles=[""] * 5 + [style])
    return table


def beside_table(found: Sequence[Beside]) -> Grid:
    """What was measured."""
    table = _table("row", "setting", "figure", "published", "ours", "difference", "what differs")
    for each in found:
        sign = f"{each.difference:+.2f}" if each.figure in PERCENT else ""
        seeds = f" ({each.seeds} seed{'s' * (each.seeds > 1)})"
        ours = written(each.figure, each.ours) + seeds
        cells = [each.row, each.setting, each.figure, each.published, ours, sign, "; ".join(each.differs)]
        table.add_row(list(map(one_line, cells)))
    return table


def written(figure: str, value: float) -> str:
    return f"{value:,.0f}" if figure in ("macs", "params") else f"{value:.2f}"


def _table(*headers: str) -> Grid:
    right, folds = ("published", "ours", "difference"), ("row", "setting", "what differs")
    return Grid([Heading(header, header in right, header in folds) for header in headers])


def suite(results: Results, title: str, seeds: int) -> str:
    """The rows as a suite file: one run for each network, dataset and budget."""
    groups: dict[tuple[str, str, float | None, str], list[str]] = {}
    for row in results.complete:
        groups.setdefault((row.model, row.dataset, row.epochs, row.at), []).append(row.setting)
    runs: list[dict[str, Any]] = []
    for (model, dataset, epochs, at), settings in groups.items():
        run: dict[str, Any] = {"models": model, "dataset": dataset, "methods": settings}
        runs.append(run | ({} if epochs is None else {"epochs": epochs}) | ({"at": at} if at else {}))
    defaults: dict[str, Any] = {"seeds": seeds} | ({} if results.recalibrate else {"recalibrate": False})
    text = yaml.safe_dump({"defaults": defaults, "runs": runs}, sort_keys=False, width=120)
    return f"# {title}\n{text}"
