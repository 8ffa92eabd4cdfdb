"""The leaderboard as text, Markdown, CSV, JSON, Parquet and a picture."""

import io
import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
from rich.console import Console

from bench.leaderboard.answer import Answer, answer
from bench.leaderboard.board import render_terminal, to_markdown, to_text
from bench.leaderboard.columns import columns_of
from bench.leaderboard.exports import to_csv, to_json, to_parquet
from bench.leaderboard.question import Question
from bench.leaderboard.summary import load_records, summarise
from bench.system.errors import BenchError

from .board_records import make_record
from .board_records import store as store
from .board_records import summary as summary

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
dense, so 2× is half the file or twice as fast. ±: 95% interval over seeds; for latency and images/s, over rounds too. \
~: noisy, on no front of latency. –: not measured.
"""


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


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_terminal_table_fits_and_names_what_it_leaves_out(summary: pandas.DataFrame, width: int) -> None:
    printed = on_a_screen(summary, width)
    assert max(map(len, printed.splitlines())) <= width and "…" not in printed
    for text in ("93.00", "±2.48", "tic(k=128)", "dense", *(["20.00×"] if width >= 60 else [])):
        assert text in printed
    assert "failed: dynamic(rate=0.5), 1 of 1 seeds: diverged" in " ".join(printed.split())
    wide = {column.header.replace(" %", "") for column in columns_of(summary)}
    (heads,) = {tuple(line.split()) for line in printed.splitlines() if line.split()[:1] == ["setting"]}
    _, named, rest = " ".join(printed.split()).partition(f"because a line has {width} characters: ")
    left_out = set(rest.split(".")[0].split(", ")) if named else set()
    assert not left_out & set(heads) and wide == {"", *heads} - {"%"} | left_out
    assert bool(left_out) == (width <= 100)


def test_the_width_that_the_line_names_has_room_for_every_column(summary: pandas.DataFrame) -> None:
    needed = re.search(r"COLUMNS=(\d+)", on_a_screen(summary, 60))
    assert needed and "because a line has" not in on_a_screen(summary, int(needed[1]))
    assert "because a line has" in on_a_screen(summary, int(needed[1]) - 1)


def test_columns_that_a_question_names_are_left_out_last(summary: pandas.DataFrame) -> None:
    asked = answer(summary, Question(max=["drop=9"], sort="seeds"))
    for question, named in ((None, False), (asked, True)):
        shown = on_a_screen(summary, 60, question)
        (heads,) = {tuple(line.split()) for line in shown.splitlines() if line.split()[:1] == ["setting"]}
        assert ("drop" in heads, "seeds" in heads, "rank" in heads) == (named, named, False)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_committed_board_fits_whole_words(width: int) -> None:
    store = Path(__file__).parents[1] / "results" / "fashion-mnist"
    shown = on_a_screen(summarise(load_records(store), store), width)
    assert max(map(len, shown.splitlines())) <= width
    for setting in ("magnitude(rate=0.6535)", "granularity=weight)", "+quantize(bits=8)"):
        assert setting in shown
    targets = [line.split()[1:] for line in shown.splitlines() if line.startswith("method ")]
    assert targets[0] == ["2×", "4×", "8×", "16×"]
    (heads,) = {tuple(line.split()) for line in shown.splitlines() if line.split()[:1] == ["setting"]}
    assert {"top-1", "size", "MACs", "latency"} <= set(heads)


def test_methods_across_tasks_fit_too() -> None:
    records = [
        make_record(setting, 0, top1, ratio, dataset=data, macs_ratio=ratio, latency_speedup=ratio)
        for data in ("one", "two")
        for setting, top1, ratio in (("tic(k=64)", 0.93, 4.0), ("kse(G=4)", 0.92, 6.0), ("none", 0.94, 1.0))
    ]
    for width in (40, 60, 80, 100):
        shown = on_a_screen(summarise(pandas.DataFrame([vars(record) for record in records])), width)
        assert max(map(len, shown.splitlines())) <= width
        across = shown.partition("Methods across")[2]
        assert "kse" in across and ("rank" in across) and ("settings" in across.split("Only methods")[0])


def on_a_screen(summary: pandas.DataFrame, width: int, asked: Answer | None = None) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render_terminal(summary, answer=asked))
    printed: str = console.file.getvalue()  # type: ignore[attr-defined]
    return printed


@pytest.mark.parametrize(("seeds", "told"), [(1, False), (2, True), (3, False)])
def test_an_interval_from_two_seeds_is_explained(seeds: int, told: bool) -> None:
    tops = [0.92, 0.94, 0.93][:seeds]
    records = [make_record("tic(k=64)", seed, top1, 4.0) for seed, top1 in enumerate(tops)]
    records += [make_record("kse(G=4)", seed, top1 - 0.1, 4.0) for seed, top1 in enumerate(tops)]
    summary = summarise(pandas.DataFrame([vars(record) for record in records]))
    if told:
        assert summary["top1_ci95"].iloc[0] == pytest.approx(6.353 * 0.02, rel=1e-3)
    for text in (to_markdown(summary), " ".join(to_text(summary).split())):
        assert text.count("With two seeds, an interval is very wide: ± is 6.4 times their difference") == 2 * told


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
    assert any("robust" in line and "fooled" in line and "top-1" in line for line in lines) == attacked
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


def test_a_picture_of_what_was_not_measured_and_of_odd_names() -> None:
    from bench.leaderboard.chart import draw

    records = [
        make_record("none", 0, 0.0, 1.0, dataset="a$x^$ b$\\foo$"),
        make_record("$^tic", 0, 0.5, 3.0, dataset="a$x^$ b$\\foo$"),
    ]
    assert draw(summarise(pandas.DataFrame([asdict(record) for record in records]))).startswith(b"\x89PNG")
    with pytest.raises(BenchError, match="no measured records"):
        draw(summarise(pandas.DataFrame([asdict(make_record("tic", error="died"))])))


def test_only_what_is_on_a_front(store: Path, summary: pandas.DataFrame, bench_command: Any) -> None:
    rows = json.loads(bench_command("leaderboard", "--store", store, "--format", "json", "--front").out)
    for form in ("table", "md"):
        words = ("leaderboard", "--store", store, "--format", form)
        whole, asked = (bench_command(*words, *front).out.splitlines() for front in ((), ("--front",)))
        dots = [sum(line.startswith(("●  ", "| ● |")) for line in lines) for lines in (whole, asked)]
        assert dots == [len(rows)] * 2
    wanted = summary[summary[["pareto", "pareto_macs", "pareto_latency"]].any(axis=1)]
    assert [(row["dataset"], row["setting"]) for row in rows] == list(
        wanted[["dataset", "setting"]].itertuples(index=False, name=None)
    )
    assert 0 < len(rows) < len(summary)
