"""Latency on the board: means over seeds and their intervals, noisy timings, and dense as it is defined."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pandas
import pytest
import scipy.stats

from bench.leaderboard.across import compare_methods
from bench.leaderboard.board import to_markdown
from bench.leaderboard.chart import draw
from bench.leaderboard.page import to_page
from bench.leaderboard.summary import summarise
from bench.records.record import Record

BASE = Record(
    fingerprint="0",
    status="ok",
    method="none",
    setting="none",
    model="resnet20",
    dataset="ramps",
    weights="scratch",
    seed=0,
    budget_epochs=1.0,
    device="cpu",
    top1=0.94,
    top1_drop=0.0,
    compression_ratio=1.0,
    macs_ratio=1.0,
    started_at="2026-01-01T00:00:00+00:00",
)


def record(setting: str, seed: int, speedup: float, half: float, noisy: bool | None = False, **more: Any) -> Record:
    figures = {"latency_speedup": speedup, "latency_speedup_low": speedup - half, "latency_noisy": noisy}
    return replace(
        BASE,
        fingerprint=f"{setting}-{seed}",
        method=setting,
        setting=setting,
        seed=seed,
        **figures | {"latency_speedup_high": speedup + half} | more,
    )


def board(*records: Record) -> pandas.DataFrame:
    return summarise(pandas.DataFrame([asdict(each) for each in records]))


def row_of(*records: Record) -> Any:
    return board(*records).set_index("setting").loc["l1"]


def test_one_seed_has_the_interval_of_its_rounds() -> None:
    row = row_of(record("l1", 0, 1.5, 0.04))
    assert row["latency_speedup_ci95"] == pytest.approx(0.04)


def test_seeds_that_agree_keep_the_noise_within_each() -> None:
    row = row_of(*(record("l1", seed, 1.5, 0.04) for seed in range(4)))
    assert row["latency_speedup_ci95"] == pytest.approx(0.04 / 2)  # of a mean of four


def test_seeds_that_differ_count_by_their_spread() -> None:
    speedups = [1.1, 2.8, 1.95]
    row = row_of(*(record("l1", seed, speedup, 0.01) for seed, speedup in enumerate(speedups)))
    low, high = scipy.stats.t.interval(0.95, 2, loc=1.95, scale=scipy.stats.sem(speedups))
    assert row["latency_speedup_ci95"] == pytest.approx((high - low) / 2)
    # A mean of 1.95 with lower bounds above 1 in every seed, and still nothing that is certain.
    dense = record("none", 0, 1, 0, top1=0.95)
    assert not board(dense, *(record("l1", s, x, 0.01) for s, x in enumerate(speedups)))["pareto_latency"][1]


def test_noisy_seeds_count_only_where_there_are_no_others() -> None:
    some = row_of(record("l1", 0, 1.5, 0.02), record("l1", 1, 9.0, 3.0, noisy=True))
    assert (some["latency_speedup"], some["latency_noisy"], some["seeds"]) == (1.5, False, 2)
    none = row_of(record("l1", 0, 4.0, 1.0, noisy=True), record("l1", 1, 2.0, 1.0, noisy=True))
    assert (none["latency_speedup"], none["latency_noisy"]) == (3.0, True)


def test_a_noisy_setting_is_marked_and_has_no_place() -> None:
    dense = record("none", 0, 1.0, 0.0)
    noisy, quiet = record("l1", 0, 3.0, 0.5, noisy=True), record("tic", 0, 2.0, 0.1, top1=0.9, top1_drop=0.04)
    summary = board(dense, noisy, quiet)
    assert dict(zip(summary["setting"], summary["pareto_latency"], strict=True)) == {
        "none": True,
        "l1": False,
        "tic": True,
    }
    assert "| \\~3.00× ±0.50 |" in to_markdown(summary) and "| 2.00× ±0.10 |" in to_markdown(summary)
    elsewhere = [replace(item, fingerprint=f"other {item.method}", model="resnet56") for item in (dense, noisy, quiet)]
    (block,) = compare_methods(board(dense, noisy, quiet, *elsewhere))
    across = block.board.set_index("method")
    assert pandas.isna(across.loc["l1", "rank_latency"]) and across.loc["tic", "rank_latency"] == 1
    assert '"latency_noisy":[0,1,0]' in to_page(summary)
    assert draw(summary) != draw(board(dense, replace(noisy, latency_noisy=False), quiet))


def test_dense_is_as_fast_as_itself_whatever_was_measured() -> None:
    summary = board(record("none", 0, 1.55, 0.4, noisy=True), record("none", 1, 1.1, 0.05), record("l1", 0, 1.2, 0.1))
    dense = summary.set_index("setting").loc["none"]
    assert (dense["latency_speedup"], dense["latency_noisy"], dense["pareto_latency"]) == (1.0, False, False)
    assert "| 1.00× | – |" in to_markdown(summary)


def test_records_of_before_are_not_noisy() -> None:
    row = row_of(record("l1", 0, 1.5, 0.04, noisy=None))
    assert not row["latency_noisy"]
    assert Record.from_json(BASE.to_json()).latency_noisy is None
