"""What the page says in words: which method is best, when that was measured, and what every figure means."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pandas
import pytest

from bench.leaderboard.assets import assets
from bench.leaderboard.columns import COLUMNS
from bench.leaderboard.conditions import MEASURES
from bench.leaderboard.glossary import GROUPS, terms
from bench.leaderboard.operating_points import tables_of
from bench.leaderboard.origin import origin
from bench.leaderboard.page import to_page
from bench.leaderboard.summary import frame_of, summarise
from bench.leaderboard.verdict import Named, findings
from bench.records.record import FIGURES, Record

from .board_records import make_record


def timed(setting: str, drop: float, size: float, speed: float, half: float = 0.01, noisy: bool = False) -> Record:
    """A record of one seed that loses `drop` points; `speed` is its speed-up with the half width of its interval."""
    figures: dict[str, Any] = {"latency_speedup_low": speed - half, "latency_speedup_high": speed + half}
    return make_record(
        setting, 0, 0.94 - drop / 100, size, top1_drop=drop / 100, latency_speedup=speed, latency_noisy=noisy, **figures
    )


DENSE = make_record("none", 0, 0.94, 1.0, latency_speedup=1.0)


def said(*records: Record) -> dict[str, str]:
    """The answers by their questions, for a board of these records and the dense network."""
    summary = summarise(frame_of([DENSE, *records]))
    return {
        finding.question: "".join(part.setting if isinstance(part, Named) else part for part in finding.sentence)
        for finding in findings(summary, tables_of(summary))
    }


def test_the_smallest_file_among_those_that_lose_little() -> None:
    told = said(timed("tic", 0.9, 6.0, 1.0), timed("kse", 0.2, 3.0, 1.0), timed("l1", 1.2, 16.0, 1.0))["For size"]
    assert told == (
        "of the settings that lose at most 1 point, the smallest file is that of tic: 6.00× smaller, 0.90 points lost."
    )


def test_that_nothing_loses_little_enough_is_said() -> None:
    assert said(timed("l1", 1.2, 16.0, 1.0))["For size"] == "no setting loses at most 1 point."


def test_an_interval_that_reaches_past_the_limit_is_told() -> None:
    seeds = [timed("tic", 0.9 + spread, 6.0, 1.0) for spread in (-0.2, 0.0, 0.2)]
    told = said(*(replace(r, seed=s, fingerprint=f"{s:016x}") for s, r in enumerate(seeds)))["For size"]
    assert told.endswith("0.90 ±0.50 points lost. By its interval it may lose more than 1 point.")


def test_the_fastest_is_faster_for_certain_and_others_that_overlap_are_named() -> None:
    fast, near = timed("l1", 0.5, 2.0, 1.5, 0.05), timed("taylor", 0.6, 2.0, 1.42, 0.05)
    noisy, slow = timed("random", 0.1, 2.0, 3.0, noisy=True), timed("kse", 0.1, 2.0, 1.2, 0.01)
    assert said(fast, near, noisy, slow)["For speed"] == (
        "of the settings that lose at most 1 point, the fastest on single images is l1: 1.50× ±0.05 as fast as the "
        "dense network, 0.50 points lost. Its interval overlaps with that of taylor. 1 noisy timing takes no place."
    )


def test_a_gain_that_may_be_noise_is_none() -> None:
    told = said(timed("tic", 0.1, 4.0, 1.2, 0.3), timed("l1", 2.1, 2.0, 1.4), timed("taylor", 5.0, 3.0, 1.9))[
        "For speed"
    ]
    assert told == (
        "no setting that loses at most 1 point is shown to be faster than the dense network on one image. Of those "
        "that are faster, l1 loses least: 1.40× ±0.01 as fast, 2.10 points lost."
    )
    assert "For speed" not in said(make_record("tic", 0, 0.93, 4.0))


def test_at_a_quarter_methods_that_cannot_be_told_apart_are_named_together() -> None:
    records = [timed(name, drop, 4.0, 1.0) for name, drop in (("tic", 0.1), ("l1", 0.2), ("kse", 3.0))]
    summary = summarise(frame_of([DENSE, *records]))
    (table,) = tables_of(summary)

    def sentence(**leads: bool | None) -> str:
        cells = {name: [replace(c, leads=leads[name]) for c in row if c] for name, row in table.cells.items()}
        *_, last = findings(summary, [replace(table, cells=cells)])
        assert last.question == "At 4×"
        return "".join(part.setting if isinstance(part, Named) else part for part in last.sentence)

    start = "of 3 methods at a quarter of the size, the highest top-1 is that of tic: 93.90%."
    assert sentence(tic=True, l1=True, kse=False) == f"{start} It cannot be told apart from l1."
    assert sentence(tic=True, l1=False, kse=False) == f"{start} It is better than each of the others."
    unknown = " 2 others were not compared with it on the same images."
    assert sentence(tic=None, l1=None, kse=None) == start + unknown


def test_many_alike_are_counted() -> None:
    rows = [timed(f"m{n}", 0.5, 2.0, 1.5 - n / 1000, 0.05) for n in range(7)]
    assert "overlaps with that of m1, m2, m3, m4 and 2 more." in said(*rows)["For speed"]


def test_when_and_on_what_it_was_measured() -> None:
    tic, kse = timed("tic", 0.1, 4.0, 1.0), timed("kse", 0.1, 4.0, 1.0)
    tic = replace(tic, started_at="2026-01-03T10:00:00+00:00", versions={"torch": "2.6"})
    kse = replace(kse, started_at="2026-01-05T10:00:00+00:00", versions={"torch": "2.7"}, seed=1)
    records = frame_of([tic, kse])
    rows = summarise(records)
    told = origin(rows, records)
    assert told == "2 settings, 2 trials with up to 2 seeds, measured from 2026-01-03 to 2026-01-05, torch 2.6, 2.7."
    assert origin(rows) == "2 settings."
    assert "measured from 2026-01-03 to 2026-01-05" in to_page(rows, records)


def test_every_figure_is_explained_once_and_named_as_on_the_board() -> None:
    listed = [term.field for group in GROUPS.values() for term in group]
    assert sorted(listed) == sorted(FIGURES)
    headers = {column.name: column.header.removesuffix(" %") for column in COLUMNS}
    named = {term.field: term for group in GROUPS.values() for term in group if term.on_board}
    for field in set(named) & set(headers):
        assert named[field].name == headers[field]
        unit = MEASURES[field][2].strip()
        assert unit in ("", named[field].unit), field
    assert set(headers) - {"front", "setting", "rank_low", "budget_epochs", "seeds"} == set(named)
    assert all(meaning.endswith(".") for meaning in terms().values())


@pytest.mark.parametrize(
    ("field", "unit", "scale"), [("top1", "%", 100), ("top1_drop", "points", 100), ("macs", "", 1)]
)
def test_figures_have_the_boards_units(field: str, unit: str, scale: int) -> None:
    (term,) = (term for group in GROUPS.values() for term in group if term.field == field)
    assert (term.unit, term.scale) == (unit, scale)


def test_the_assets_stay_below_two_megabytes() -> None:
    assert sum(len(text.encode()) for text in assets().values()) < 2_000_000


def test_a_name_that_is_markup_stays_text() -> None:
    page = to_page(summarise(pandas.DataFrame([asdict(DENSE), asdict(timed("<b>x</b>", 0.1, 4.0, 1.0))])))
    assert "<strong>&lt;b&gt;x&lt;/b&gt;</strong>" in page and "<b>x</b>" not in page.split("<script")[1]
