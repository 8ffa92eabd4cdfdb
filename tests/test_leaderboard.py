import io
import json
import math
import random
import statistics
import subprocess
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
import scipy.stats
from rich.console import Console

from bench.leaderboard.across import compare_methods
from bench.leaderboard.board import render_terminal, to_markdown, to_text
from bench.leaderboard.exports import to_csv, to_json, to_parquet
from bench.leaderboard.summary import load_records, pareto_front, summarise
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError


def make_record(
    setting: str, seed: int = 0, top1: float | None = None, ratio: float | None = None, **changes: Any
) -> Record:
    dataset = changes.get("dataset", "fashion-mnist")
    values: dict[str, Any] = {
        "fingerprint": sha256(f"{setting} {seed} {dataset}".encode()).hexdigest()[:16],
        "status": "ok" if top1 is not None else "failed",
        "method": setting.split("(")[0],
        "setting": setting,
        "model": "resnet20",
        "dataset": dataset,
        "weights": "shipped",
        "seed": seed,
        "budget_epochs": 1.0,
        "device": "cpu",
        "top1": top1,
        "top1_drop": None if top1 is None else 0.94 - top1,
        "compression_ratio": ratio,
        "started_at": "2026-01-01T00:00:00+00:00",
        "config": {"command": "bench run"},
    }
    return Record(**{**values, **changes})


RECORDS = [
    make_record("none", 0, 0.94, 1.0, epochs_spent=1.0, macs_ratio=1.0, latency_speedup=1.0),
    make_record("tic(k=64)", 0, 0.92, 10.0, epochs_spent=1.0, macs_ratio=2.5, latency_speedup=0.98),
    make_record("tic(k=64)", 1, 0.93, 10.0, epochs_spent=1.0, macs_ratio=2.5, latency_speedup=1.0),
    make_record("tic(k=64)", 2, 0.94, 10.0, epochs_spent=1.0, macs_ratio=2.5, latency_speedup=1.02),
    make_record("kse(G=4)", 0, 0.925, 5.0),
    make_record("kse(G=4)", 1, error="out of\nmemory"),
    make_record("l1(granularity=kernel, rate=0.5)+tic(k=128)", 0, 0.9, 20.0),
    make_record("dynamic(rate=0.5)", 0, error="diverged"),
    make_record("tic(k=64)", 0, 0.8, 3.0, dataset="cifar10", budget_epochs=10.0),
]

MARKDOWN = """\
**resnet20 on cifar10, weights shipped, budget 10 epochs, cpu**

|  | setting | top-1 % | rank | drop | size | MACs | latency | images/s | epochs | seeds |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| ● | tic(k=64) | 80.00 | – | 14.00 | 3.00× | – | – | – | – | 1 |

**resnet20 on fashion-mnist, weights shipped, budget 1 epoch, cpu**

|  | setting | top-1 % | rank | drop | size | MACs | latency | images/s | epochs | seeds |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| ● | dense | 94.00 | – | 0.00 | 1.00× | 1.00× | 1.00× | – | 1 | 1 |
| ● | tic(k=64) | 93.00 ±2.48 | – | 1.00 | 10.00× | 2.50× | 1.00× ±0.05 | – | 1 | 3 |
|  | kse(G=4) | 92.50 | – | 1.50 | 5.00× | – | – | – | – | 1 |
| ● | l1(granularity=kernel, rate=0.5)+tic(k=128) | 90.00 | – | 4.00 | 20.00× | – | – | – | – | 1 |

- failed: kse(G=4), 1 of 2 seeds: out of memory
- failed: dynamic(rate=0.5), 1 of 1 seeds: diverged

● on a Pareto front: of top-1 and size, MACs or latency. rank: by top-1; settings whose ranks overlap cannot all be \
told apart (95%, paired on the same test images). drop: points of top-1 lost. size, MACs, latency, images/s: gain over \
dense, so 2× is half the file or twice as fast. ±: 95% interval over seeds, of latency and images/s over rounds, too. \
~: noisy, on no front of latency. –: not measured.
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for record in RECORDS:
        with Store(tmp_path / "runs").prepare(record.fingerprint) as folder:
            write_record(record, folder)
    return tmp_path / "runs"


@pytest.fixture
def summary(store: Path) -> pandas.DataFrame:
    return summarise(load_records(store))


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


@pytest.mark.parametrize(
    ("full", "shown"),
    [(0.83, "2.29× (0.83×)"), (2.06, "2.29× (2.06×)"), (2.07, "2.29×"), (2.29, "2.29×"), (None, "2.29×")],
)
def test_ignored_additions_are_shown_where_they_take_more_than_a_tenth(full: float | None, shown: str) -> None:
    record = make_record("kse(G=4)", 0, 0.9, 2.0, macs_ratio=2.29, macs_full_ratio=full)
    summary = summarise(pandas.DataFrame([vars(record)]))
    assert f"| 2.00× | {shown} | – |" in to_markdown(summary)
    assert f"  {shown}  " in to_text(summary)


def test_without_macs_there_are_no_additions_to_show() -> None:
    summary = summarise(pandas.DataFrame([vars(make_record("kse(G=4)", 0, 0.9, 2.0))]))
    assert "| 2.00× | – | – |" in to_markdown(summary)


def test_markdown(summary: pandas.DataFrame) -> None:
    assert to_markdown(summary) == MARKDOWN


def test_csv_leaves_nested_fields_out_and_gaps_empty(store: Path, summary: pandas.DataFrame) -> None:
    lines = to_csv(
        summary[summary["method"] == "tic"][["setting", "seeds", "pareto", "top1", "top1_ci95", "macs_ratio"]]
    )
    assert lines == (
        "setting,seeds,pareto,top1,top1_ci95,macs_ratio\n"
        "tic(k=64),1,True,0.8,,\n"
        "tic(k=64),3,True,0.93,0.02484137712,2.5\n"
    )
    header = to_csv(load_records(store)).splitlines()[0].split(",")
    assert "top1" in header and not {"config", "versions", "notes"} & set(header)


def test_json_keeps_numbers_and_nulls(summary: pandas.DataFrame) -> None:
    rows = json.loads(to_json(summary))
    dense = next(row for row in rows if row["method"] == "none")
    assert dense["top1"] == 0.94 and dense["seeds"] == 1 and dense["pareto"] is True
    assert dense["top1_ci95"] is None and dense["throughput_speedup"] is None and dense["error"] is None


def test_parquet_holds_what_was_measured_and_null_for_the_rest(store: Path, summary: pandas.DataFrame) -> None:
    pandas.testing.assert_frame_equal(pandas.read_parquet(io.BytesIO(to_parquet(summary))), summary)
    records = load_records(store)
    read = pandas.read_parquet(io.BytesIO(to_parquet(records)))
    assert list(read["config"].map(json.loads)) == list(records["config"])
    plain = [name for name in records if name not in ("config", "versions", "notes")]
    pandas.testing.assert_frame_equal(read[plain], records[plain])
    table = pyarrow.parquet.read_table(io.BytesIO(to_parquet(records)))
    assert table["macs"].null_count == len(records) and table["top1"].null_count == 2


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_terminal_table_fits_and_loses_no_figure(summary: pandas.DataFrame, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render_terminal(summary))
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    for text in ("93.00 ±2.48", "20.00×", "+tic(k=128)", "dense", "failed: dynamic(rate=0.5), 1 of 1 seeds: diverged"):
        assert text in printed
    assert "…" not in printed


@pytest.mark.parametrize(("ratio", "shown"), [(0.01, "0.01×"), (9999.99, "10000×")])
@pytest.mark.parametrize("attacked", [False, True])
@pytest.mark.parametrize(
    "setting", ["l1(granularity=kernel, rate=0.123456)+tic(k=1024, transforms=8)+kse(G=4)", "x" * 150]
)
def test_a_board_fits_100_columns_whatever_is_on_it(setting: str, attacked: bool, ratio: float, shown: str) -> None:
    figures: dict[str, Any] = dict.fromkeys(("macs_ratio", "latency_speedup", "throughput_speedup"), ratio)
    figures["macs_full_ratio"] = 0.5 * ratio
    if attacked:
        figures |= {"attack_images": 100, "attack_distance": 8, "robust_top1": 0.1234, "attack_success_rate": 1.0}
    records = [
        make_record(setting, seed, (seed + 1) / 4, ratio, dataset=data, epochs_spent=123.456, method=setting, **figures)
        for seed in range(3)
        for data in ("fashion-mnist", "folder:/data/" + "flowers" * 20)
    ]
    lines = to_text(summarise(pandas.DataFrame([vars(record) for record in records]))).splitlines()
    assert max(map(len, lines)) <= 100 and not any("…" in line for line in lines)
    assert sum(line.startswith("●  ") and shown in line for line in lines) == 2
    assert any("robust %" in line and "fooled %" in line for line in lines) == attacked
    folded = "".join(line[3:].split("  ")[0].rstrip() for line in lines[3:] if line[:3].strip() in ("", "●"))
    assert setting.replace(" ", "") in folded.replace(" ", "")


def test_an_empty_board_says_what_to_do(tmp_path: Path) -> None:
    summary = summarise(load_records(tmp_path))
    assert "bench run" in to_markdown(summary) and to_json(summary) == "[]\n"
    assert "bench run" in str(render_terminal(summary))


def test_the_module_loads_neither_torch_nor_pandas() -> None:
    heavy = "{'torch', 'pandas', 'mlflow', 'rich'}"
    code = f"import bench.leaderboard.summary, sys; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


def test_a_picture_of_what_was_not_measured_and_of_odd_names() -> None:
    from bench.leaderboard.chart import draw

    records = [
        make_record("none", 0, 0.0, 1.0, dataset="a$x^$ b$\\foo$"),
        make_record("$^tic", 0, 0.5, 3.0, dataset="a$x^$ b$\\foo$"),
    ]
    assert draw(summarise(pandas.DataFrame([asdict(record) for record in records]))).startswith(b"\x89PNG")
    with pytest.raises(BenchError, match="no measured records"):
        draw(summarise(pandas.DataFrame([asdict(make_record("tic", error="died"))])))


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


def test_only_what_is_on_a_front(store: Path, summary: pandas.DataFrame, bench_command: Any) -> None:
    rows = json.loads(bench_command("leaderboard", "--store", store, "--format", "json", "--front").out)
    wanted = summary[summary[["pareto", "pareto_macs", "pareto_latency"]].any(axis=1)]
    assert [(row["dataset"], row["setting"]) for row in rows] == list(
        wanted[["dataset", "setting"]].itertuples(index=False, name=None)
    )
    assert 0 < len(rows) < len(summary)


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


def test_a_mean_is_of_one_protocol(tmp_path: Path) -> None:
    records = [
        make_record("tic", seed, 0.5 + 0.1 * seed, 2.0, started_at=f"2026-01-0{seed + 1}T00:00:00+00:00",
                    config={"protocol": 1 if seed < 2 else 2, "sources": ["a"]})
        for seed in range(3)
    ]  # fmt: skip
    (tmp_path / "r.jsonl").write_text("".join(record.to_json().replace("\n", "") + "\n" for record in records))
    row = summarise(load_records(tmp_path / "r.jsonl")).iloc[0]
    assert row["seeds"] == 1 and row["top1"] == pytest.approx(0.7)
