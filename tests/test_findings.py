"""What the README concludes from the committed results, sentence by sentence."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench.leaderboard.board import to_markdown
from bench.leaderboard.compare import compare
from bench.leaderboard.operating_points import Table, tables_of, with_leaders
from bench.leaderboard.summary import load_records, summarise

ROOT = Path(__file__).parents[1]
STORE = ROOT / "results" / "fashion-mnist"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@cache
def tables() -> dict[str, Table]:
    records = load_records(STORE)
    return {table.measure: table for table in with_leaders(tables_of(summarise(records, STORE)), records, STORE)}


@cache
def rows() -> dict[str, dict[str, Any]]:
    return {row["setting"]: row for row in summarise(load_records(STORE), STORE).to_dict("records")}


def size(family: str, target: int) -> Any:
    """The cell of a family in the table at equal size."""
    table = tables()["size"]
    return table.cells[family][table.targets.index(target)]


def drop(row: dict[str, Any]) -> float:
    """Points of top-1 lost, as the README writes them."""
    return round(100 * row["top1_drop"], 1)


@pytest.mark.parametrize("measure", ["size", "macs"])
def test_the_tables_are_those_of_the_committed_records(measure: str) -> None:
    records = load_records(STORE)
    summary = summarise(records, STORE)
    table = tables()[measure]
    shown = to_markdown(summary, [table]).split("\n\n")[1]
    assert shown.startswith("| method |") and shown in README


def test_eight_bits_cost_nothing_that_can_be_told_and_four_hardly_more() -> None:
    for setting, lost, ratio in (("quantize(bits=8)", 0.3, 3.9), ("quantize(bits=4)", 0.2, 7.4)):
        row = rows()[setting]
        assert (drop(row), round(row["compression_ratio"], 1), row["rank_low"]) == (lost, ratio, 1)
        assert not compare(setting, "none(train=True)", STORE).differs
    floats = [row for row in rows().values() if "quantize" not in row["setting"] and row["compression_ratio"] > 7.4]
    assert floats and max(row["top1"] for row in floats) < rows()["quantize(bits=4)"]["top1"]


def test_at_a_quarter_of_the_size_what_keeps_every_filter_is_ahead() -> None:
    for family in ("magnitude", "tic", "sharing", "quantize(bits=8)"):
        assert size(family, 4).leads
    lost = {family: drop(rows()[size(family, 4).setting]) for family in ("l1", "l1(granularity=kernel)", "kse(G=4)")}
    assert lost == {"l1": 8.3, "l1(granularity=kernel)": 7.6, "kse(G=4)": 2.7}
    assert not any(size(family, 4).leads for family in lost)


def test_at_a_sixteenth_zeros_and_shared_weights_together_are_ahead() -> None:
    best = size("magnitude+sharing(k=32)", 16)
    assert best.leads and round(100 * best.top1, 1) == 93.2
    assert [cell.setting for cell in tables()["size"].settings if cell.leads and cell.ratio > 15] == [best.setting]
    behind = [round(100 * size(f"{family}+quantize(bits=8)", 16).top1, 1) for family in ("magnitude", "tic")]
    assert behind == [92.5, 92.1]
    assert round(100 * size("magnitude", 16).top1) == 69


def test_speed_comes_from_filters() -> None:
    half, quarter = rows()["l1(rate=0.495)"], rows()["l1(rate=0.736)"]
    assert (round(half["latency_speedup"], 1), round(half["throughput_speedup"], 1), drop(half)) == (1.1, 1.3, 2.1)
    assert (round(quarter["latency_speedup"], 1), round(quarter["throughput_speedup"], 1)) == (1.2, 1.5)
    assert not any(row[f"{name}_noisy"] for row in (half, quarter) for name in ("latency", "throughput"))
    shared = rows()["fixed(keep=0.505, train=True)"]
    assert round(shared["throughput_speedup"], 1) == 1.1 and round(shared["latency_speedup"], 1) == 1.0


def test_the_ranking_of_filters_matters_most_at_high_rates() -> None:
    half, quarter = (compare(f"l1(rate={rate})", f"random(rate={rate})", STORE) for rate in (0.495, 0.736))
    assert not half.differs and min(half.by_seed) > 0
    assert quarter.differs
    assert [round(100 * value, 1) for value in (quarter.difference, quarter.low, quarter.high)] == [5.0, 1.0, 9.0]


def test_a_loss_is_not_spread_evenly() -> None:
    row = rows()["l1(rate=0.495)"]
    assert (row["worst_class"], round(100 * row["worst_class_drop"], 1)) == ("shirt", 7.4)
    row = rows()["taylor(rate=0.6923)"]
    assert (drop(row), row["worst_class"], round(100 * row["worst_class_drop"], 1)) == (9.7, "shirt", 44.5)
