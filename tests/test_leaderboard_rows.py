"""What is one row of the leaderboard, and what are two: measured again, elsewhere, otherwise or by another version."""

import math
from dataclasses import asdict
from pathlib import Path

import pandas
import pytest

from bench.leaderboard.board import to_markdown
from bench.leaderboard.summary import load_records, summarise
from bench.records.record import Record

from .board_records import make_record
from .board_records import store as store
from .board_records import summary as summary


def test_a_trial_measured_again_in_another_way_is_no_second_seed(tmp_path: Path) -> None:
    for fingerprint, started, top1 in (("a", "2026-01-01", 0.9), ("b", "2026-01-02", 0.5)):
        folder = tmp_path / "records" / fingerprint
        folder.mkdir(parents=True)
        record = Record(
            fingerprint=fingerprint,
            status="ok",
            method="tic",
            setting="tic(k=64)",
            model="resnet20",
            dataset="ramps",
            weights="mine",
            seed=0,
            budget_epochs=1,
            device="cpu",
            started_at=started,
            top1=top1,
        )
        (folder / "record.json").write_text(record.to_json())
    (row,) = summarise(load_records(tmp_path)).to_dict("records")
    assert (row["seeds"], row["top1"]) == (1, 0.5)


def test_a_run_without_an_attack_hides_none_and_attacks_of_another_kind_are_not_mixed() -> None:
    def attacked(seed: int, hour: int, distance: int | None, robust: float | None) -> Record:
        told = {"attack_images": distance and 50, "attack_distance": distance, "robust_top1": robust}
        return make_record("l1", seed, 0.9, 2.0, started_at=f"2026-01-01T0{hour}:00:00+00:00", **told)

    records = [attacked(0, 1, 8, 0.0), attacked(0, 2, 2, 0.5), attacked(0, 3, None, None), attacked(1, 1, 8, 0.1)]
    (row,) = summarise(pandas.DataFrame([asdict(record) for record in records])).to_dict("records")
    assert (row["seeds"], row["robust_top1"], row["attack_distance"]) == (2, 0.5, 2)


def test_what_one_name_stands_for_twice_is_told_apart() -> None:
    def of(setting: str, top1: float, **digests: str) -> Record:
        return make_record(setting, 0, top1, 2.0, config=digests, fingerprint=f"{setting} {digests}")

    first, again = {"dataset_digest": "d" * 16, "weights_digest": "a" * 16}, {"weights_digest": "b" * 16}
    records = [of("none", 0.94, **first), of("tic", 0.93, **first), of("none", 0.91, **first | again)]
    summary = summarise(pandas.DataFrame([asdict(record) for record in records]))
    assert set(summary["dataset"]) == {"fashion-mnist"}
    assert list(zip(summary["weights"], summary["setting"], strict=True)) == [
        ("shipped (aaaaaa)", "none"),
        ("shipped (aaaaaa)", "tic"),
        ("shipped (bbbbbb)", "none"),
    ]


def test_a_mean_is_of_one_version_of_a_method() -> None:
    def of(seed: int, top1: float, day: int, source: str) -> Record:
        started = f"2026-01-0{day}T00:00:00+00:00"
        return make_record("tic", seed, top1, 2.0, started_at=started, config={"sources": [source]})

    records = [of(0, 0.9, 1, "old"), of(1, 0.9, 1, "old"), of(0, 0.6, 2, "new")]
    (row,) = summarise(pandas.DataFrame([asdict(record) for record in records])).to_dict("records")
    assert (row["seeds"], row["top1"]) == (1, 0.6)


def test_a_seed_measured_on_two_devices_is_one_seed_of_one_row() -> None:
    def of(setting: str, seed: int, top1: float | None, device: str, speedup: float, hour: int) -> Record:
        started = f"2026-01-01T{hour:02}:00:00+00:00"
        ok = {} if top1 is not None else {"status": "failed", "error": "out of memory"}
        name = f"{setting} {seed} {device}"
        return make_record(
            setting, seed, top1, 2.0, device=device, latency_speedup=speedup, started_at=started, fingerprint=name, **ok
        )

    records = [
        of("tic", 0, 0.90, "cpu", 2.0, 1),
        of("tic", 0, 0.91, "cuda", 5.0, 2),
        of("tic", 1, 0.93, "cpu", 4.0, 3),
        of("tic", 1, None, "cuda", 1.0, 4),
        of("kse", 0, 0.80, "cuda", 7.0, 5),
        of("none", 0, 0.94, "cpu", 1.0, 6),
    ]
    summary = summarise(pandas.DataFrame([asdict(record) for record in records]))
    rows = summary.set_index("setting")
    assert len(rows) == 3 and list(rows["device"]) == ["cpu"] * 3
    # Accuracy is the last measured that succeeded; latency is the main device's, and has one column for the other.
    assert rows.loc["tic", "seeds"] == 2 and rows.loc["tic", "failed"] == 0
    assert rows.loc["tic", "top1"] == pytest.approx((0.91 + 0.93) / 2)
    assert rows.loc["tic", "latency_speedup"] == 3.0 and rows.loc["tic", "latency_speedup on cuda"] == 5.0
    assert math.isnan(rows.loc["kse", "latency_speedup"]) and rows.loc["kse", "latency_speedup on cuda"] == 7.0
    text = to_markdown(summary)
    assert "| latency | latency 2 |" in text and "latency 2: on cuda." in text
    assert text.count("**resnet20 on") == 1 and "| tic | 92.00 ±12.71 |" in text


def test_a_budget_is_a_row_and_not_a_task() -> None:
    records = [
        make_record("none", 0, 0.94, 1.0),
        make_record("tic", 0, 0.90, 2.0),
        make_record("tic", 1, 0.92, 2.0),
        make_record("tic", 0, 0.93, 2.0, budget_epochs=10.0, fingerprint="longer"),
    ]
    summary = summarise(pandas.DataFrame([asdict(record) for record in records]))
    assert list(summary[["setting", "budget_epochs", "seeds"]].itertuples(index=False, name=None)) == [
        ("none", 1.0, 1),
        ("tic", 10.0, 1),
        ("tic", 1.0, 2),
    ]
    assert summary["top1"].tolist() == pytest.approx([0.94, 0.93, 0.91])
    text = to_markdown(summary)
    assert "**resnet20 on fashion-mnist, weights shipped, cpu**" in text and "| budget |" in text
    alone = to_markdown(summary[summary["budget_epochs"] == 1])
    assert "weights shipped, budget 1 epoch, cpu**" in alone and "| budget |" not in alone


def test_a_mean_is_of_one_protocol(tmp_path: Path) -> None:
    records = [
        make_record("tic", seed, 0.5 + 0.1 * seed, 2.0, started_at=f"2026-01-0{seed + 1}T00:00:00+00:00",
                    config={"protocol": 1 if seed < 2 else 2, "sources": ["a"]})
        for seed in range(3)
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(record.to_json().replace("\n", "") + "\n" for record in records))
    row = summarise(load_records(tmp_path / "r.jsonl")).iloc[0]
    assert row["seeds"] == 1 and row["top1"] == pytest.approx(0.7)
