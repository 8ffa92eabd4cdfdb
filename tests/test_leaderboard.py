"""The leaderboard's figures: records read, means, intervals and Pareto fronts."""

import json
import math
import random
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import pytest
import scipy.stats

from bench.leaderboard.across import compare_methods
from bench.leaderboard.exports import to_json
from bench.leaderboard.summary import load_records, pareto_front, summarise
from bench.records.record import Record
from bench.system.errors import BenchError

from .board_records import RECORDS, make_record
from .board_records import store as store
from .board_records import summary as summary


def row_of(summary: pandas.DataFrame, setting: str) -> dict[str, Any]:
    rows = summary[(summary["setting"] == setting) & (summary["dataset"] == "fashion-mnist")].to_dict(orient="records")
    assert len(rows) == 1
    return dict(rows[0])


def test_a_row_a_record_with_numbers_as_numbers(store: Path) -> None:
    records = load_records(store)
    assert len(records) == len(RECORDS)
    assert records["top1"].dtype == "float64" and records["macs"].dtype == "Int64" and records["seed"].dtype == "Int64"
    assert records["config"][0] == {"command": "bench run"}


def test_records_are_read_from_stores_folders_and_files(store: Path, tmp_path: Path) -> None:
    rows = [json.loads(record.to_json()) for record in RECORDS]
    results = tmp_path / "results"
    results.mkdir()
    (results / "list.json").write_text(json.dumps(rows[:3]))
    (results / "one.json").write_text(json.dumps(rows[3]))
    (results / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[4:]))
    single = store / "records" / RECORDS[0].fingerprint / "record.json"
    everything = to_json(load_records(store).sort_values("fingerprint"))
    assert to_json(load_records(store / "records").sort_values("fingerprint")) == everything
    assert to_json(load_records(results).sort_values("fingerprint")) == everything
    assert to_json(load_records(str(store), results).sort_values("fingerprint")) == everything
    assert list(load_records(single)["setting"]) == ["none"]


def test_of_two_records_of_a_trial_the_last_measured_counts(tmp_path: Path) -> None:
    older = make_record("tic(k=64)", top1=0.5, ratio=1.0)
    newer = make_record("tic(k=64)", top1=0.9, ratio=2.0, started_at="2026-01-02T00:00:00+00:00")
    for order in ([older, newer], [newer, older]):
        (tmp_path / "r.jsonl").write_text("".join(json.dumps(json.loads(r.to_json())) + "\n" for r in order))
        assert list(load_records(tmp_path / "r.jsonl")["top1"]) == [0.9]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"setting": "tic"}'])
def test_what_holds_no_records_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(BenchError, match=r"x\.json: not records"):
        load_records(tmp_path / "x.json")
    with pytest.raises(BenchError, match="nowhere: no such store"):
        load_records(tmp_path / "nowhere")


def test_means_and_interval_against_a_hand_count(summary: pandas.DataFrame) -> None:
    row = row_of(summary, "tic(k=64)")
    assert row["seeds"] == 3 and row["failed"] == 0
    assert row["top1"] == pytest.approx(0.93)
    assert row["top1_ci95"] == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert row["latency_speedup"] == pytest.approx(1.0)
    assert math.isnan(row["throughput_speedup"])


def test_one_seed_has_no_interval_and_failures_do_not_count(summary: pandas.DataFrame) -> None:
    row = row_of(summary, "kse(G=4)")
    assert row["seeds"] == 1 and row["failed"] == 1 and row["error"] == "out of memory"
    assert row["top1"] == 0.925 and math.isnan(row["top1_ci95"])


def test_tasks_are_ranked_apart(summary: pandas.DataFrame) -> None:
    front = summary[summary["pareto"]]
    assert list(zip(front["dataset"], front["method"], strict=True)) == [
        ("cifar10", "tic"),
        ("fashion-mnist", "none"),
        ("fashion-mnist", "tic"),
        ("fashion-mnist", "l1"),
    ]


def test_pareto_front_with_ties_and_gaps() -> None:
    top1 = pandas.Series([0.9, 0.9, 0.8, 0.7, 0.9, math.nan, 0.95])
    ratio = pandas.Series([4.0, 3.0, 5.0, 5.0, 4.0, 9.0, math.nan])
    assert list(pareto_front(top1, ratio)) == [True, False, True, False, True, False, False]


def test_pareto_front_against_its_definition() -> None:
    points = [((7 * i) % 11, (5 * i * i) % 13) for i in range(60)]
    beaten = [any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in points) for p in points]
    top1, ratio = (pandas.Series(figures, dtype=float) for figures in zip(*points, strict=True))
    assert list(pareto_front(top1, ratio)) == [not value for value in beaten]


def test_intervals_against_scipy(tmp_path: Path) -> None:
    draw = random.Random(0)
    samples = {f"tic(k={count})": [draw.gauss(0.8, 0.05) for _ in range(count)] for count in (1, 2, 3, 10)}
    samples["same"] = [0.5, 0.5]
    lines = [
        make_record(setting, seed, value, 2.0, latency_speedup=2 * value).to_json().replace("\n", "")
        for setting, values in samples.items()
        for seed, value in enumerate(values)
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    rows = summarise(load_records(tmp_path / "r.jsonl")).set_index("setting")
    for setting, values in samples.items():
        if len(values) == 1:
            assert math.isnan(rows["top1_ci95"][setting]) and math.isnan(rows["latency_speedup_ci95"][setting])
            continue
        low, high = scipy.stats.t.interval(
            0.95, len(values) - 1, statistics.mean(values), max(scipy.stats.sem(values), 1e-300)
        )
        assert rows["top1_ci95"][setting] == pytest.approx((high - low) / 2, abs=1e-12)
        assert rows["latency_speedup_ci95"][setting] == pytest.approx(high - low, abs=1e-12)


def test_each_gain_has_its_front(tmp_path: Path) -> None:
    records = [
        make_record("none", 0, 0.94, 1.0, macs_ratio=1.0, latency_speedup=1.0),
        make_record("small", 0, 0.93, 9.0, macs_ratio=1.0, latency_speedup=1.0),
        make_record("light", 0, 0.92, 2.0, macs_ratio=4.0, latency_speedup=0.9),
        make_record("quick", 0, 0.91, 2.0, macs_ratio=3.0, latency_speedup=2.0),
    ]
    (tmp_path / "r.json").write_text(json.dumps([json.loads(record.to_json()) for record in records]))
    summary = summarise(load_records(tmp_path))
    fronts = {name: set(summary["setting"][summary[name]]) for name in ("pareto", "pareto_macs", "pareto_latency")}
    assert fronts == {
        "pareto": {"none", "small"},
        "pareto_macs": {"none", "light"},
        "pareto_latency": {"none", "quick"},
    }


def test_noise_is_no_gain_in_latency() -> None:
    def of(setting: str, top1: float, speedup: float, half: float) -> Record:
        interval = {"latency_speedup_low": speedup - half, "latency_speedup_high": speedup + half}
        return make_record(setting, 0, top1, 2.0, latency_speedup=speedup, **interval)

    records = [of("none", 0.94, 1.0, 0.02), of("lucky", 0.93, 1.03, 0.04), of("fast", 0.92, 1.5, 0.04)]
    frame = pandas.DataFrame([asdict(record) for record in records])
    rows = summarise(frame).set_index("setting")
    assert dict(rows["pareto_latency"]) == {"none": True, "lucky": False, "fast": True}
    (block,) = compare_methods(summarise(pandas.concat([frame, frame.assign(dataset="cifar10")])))
    board = block.board.set_index("method")
    assert board.loc["lucky", "hypervolume_latency"] == 0 < board.loc["fast", "hypervolume_latency"]


def test_a_mean_of_equal_figures_is_equal_to_them(tmp_path: Path) -> None:
    """Three times 0.9412 has the mean 0.9411999999999999, and the dense network would stand beside a smaller equal."""
    records = [make_record("none", 0, 0.9412, 1.0), *(make_record("same", seed, 0.9412, 1.02) for seed in range(3))]
    (tmp_path / "r.jsonl").write_text("".join(record.to_json().replace("\n", "") + "\n" for record in records))
    rows = summarise(load_records(tmp_path / "r.jsonl")).set_index("setting")
    assert rows["pareto"].to_dict() == {"none": False, "same": True}
