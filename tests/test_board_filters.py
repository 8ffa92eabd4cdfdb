"""What can be asked of a board: conditions, an order, methods and tasks; and what stays as on the whole board."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas
import pytest

from bench.leaderboard.answer import answer
from bench.leaderboard.board import render_terminal, to_markdown, to_text
from bench.leaderboard.chart import draw
from bench.leaderboard.question import Question
from bench.leaderboard.summary import load_records, summarise
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BadArgument, BenchError
from bench.system.terminal import Screen

SETTINGS = {
    # top-1, size, MACs, latency with its half width, whether that is noisy, loss of the worst class
    "none": (0.94, 1.0, 1.0, 1.0, 0.01, False, 0.0),
    "quantize(bits=8)": (0.939, 3.997, 1.0, 1.3, 0.2, True, 0.002),
    "tic(k=64)": (0.935, 8.0, 1.1, 0.99, 0.01, False, 0.021),
    "tic(k=16)": (0.92, 16.0, 1.3, 1.02, 0.01, False, 0.05),
    "l1(rate=0.5)": (0.931, 2.0, 2.0, 1.6, 0.01, False, 0.03),
    "l1(rate=0.5)+tic(k=64, transforms=8)": (0.925, 12.0, 2.1, 1.5, 0.01, False, 0.04),
    "kse(G=4)": (0.93, 4.0, 2.5, 1.05, 0.01, False, 0.025),
    "random(rate=0.5)": (0.91, 2.0, 2.0, 1.6, 0.01, False, 0.06),
}


def make(setting: str, **changes: Any) -> Record:
    top1, size, macs, latency, half, noisy, worst = SETTINGS[setting]
    values: dict[str, Any] = {
        "status": "ok", "setting": setting, "model": "resnet20", "dataset": "ramps", "weights": "mine", "seed": 0,
        "method": "+".join(stage.split("(")[0] for stage in setting.split("+")), "budget_epochs": 1.0, "device": "cpu",
        "top1": top1, "top1_drop": 0.94 - top1, "compression_ratio": size, "macs_ratio": macs, "epochs_spent": 1.0,
        "latency_speedup": latency, "latency_speedup_low": latency - half, "latency_speedup_high": latency + half,
        "latency_noisy": noisy, "worst_class": "up", "worst_class_drop": worst,
        "started_at": "2026-01-01T00:00:00+00:00", "config": {"family": setting.split("(")[0]},
    } | changes  # fmt: skip
    key = "".join(str(values[name]) for name in ("setting", "model", "dataset", "budget_epochs"))
    return Record(fingerprint=sha256(key.encode()).hexdigest()[:16], **values)


TWO_TASKS = [
    *(make(setting) for setting in SETTINGS),
    *(make(setting, model="resnet56") for setting in ("none", "kse(G=4)", "random(rate=0.5)")),
]


def board(records: list[Record] | None = None) -> pandas.DataFrame:
    shown = [make(setting) for setting in SETTINGS] if records is None else records
    return summarise(pandas.DataFrame([vars(record) for record in shown]))


def settings(question: Question, summary: pandas.DataFrame | None = None) -> list[str]:
    return list(answer(board() if summary is None else summary, question).rows["setting"])


def refused(question: Question, summary: pandas.DataFrame | None = None) -> str:
    with pytest.raises(BenchError) as raised:
        answer(board() if summary is None else summary, question)
    return str(raised.value)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for record in TWO_TASKS:
        with Store(tmp_path / "runs").prepare(record.fingerprint) as folder:
            write_record(record, folder)
    return tmp_path / "runs"


# Conditions ----------------------------------------------------------------------------------------------------------


def test_conditions_are_in_the_units_of_the_board() -> None:
    assert settings(Question(min=["size=8"])) == ["tic(k=64)", "l1(rate=0.5)+tic(k=64, transforms=8)", "tic(k=16)"]
    assert settings(Question(max=["drop=0.5"])) == ["none", "quantize(bits=8)", "tic(k=64)"]
    assert settings(Question(min=["top1=93.5"])) == ["none", "quantize(bits=8)", "tic(k=64)"]
    assert settings(Question(min=["size=4", "macs=2"], max=["drop=1"])) == ["kse(G=4)"]
    assert settings(Question(min=["size=4,macs=2"], max=["drop=1,worst-class=2.5"])) == ["kse(G=4)"]
    assert settings(Question(max=["worst class=0.2"])) == ["none", "quantize(bits=8)"]


def test_a_figure_counts_as_the_board_shows_it() -> None:
    """3.997 is shown as 4.00×; whoever reads 4.00× and asks for 4 expects the row."""
    assert "quantize(bits=8)" in settings(Question(min=["size=4"]))
    assert "quantize(bits=8)" not in settings(Question(min=["size=4.01"]))


@pytest.mark.parametrize("name", ["worst-class", "worst class", "worst_class", "Worst Class", "worst_class_drop"])
def test_a_column_goes_by_its_name_its_header_and_its_field(name: str) -> None:
    assert settings(Question(max=[f"{name}=2"])) == settings(Question(max=["worst-class=2.0"]))


def test_words_that_people_try_first() -> None:
    assert settings(Question(min=["accuracy=93.5"])) == settings(Question(min=["top-1 %=93.5"])) != []
    assert settings(Question(sort="speedup")) == settings(Question(sort="latency"))


@pytest.mark.parametrize("value", ["4", "4.0", "4x", "4×", " 4 ", "4e0", "+4"])
def test_a_value_may_carry_its_unit(value: str) -> None:
    assert settings(Question(min=[f"size={value}"])) == settings(Question(min=["size=4"]))


def test_a_row_without_the_figure_meets_no_condition() -> None:
    summary = board([make("none"), make("kse(G=4)", macs_ratio=None), make("tic(k=64)")])
    assert settings(Question(max=["macs=9"]), summary) == ["none", "tic(k=64)"]
    assert settings(Question(min=["macs=0"]), summary) == ["none", "tic(k=64)"]


def test_a_noisy_timing_meets_no_condition_and_the_board_says_so() -> None:
    for question in (Question(min=["latency=1.2"]), Question(min=["latency=1.2", "size=1"])):
        found = answer(board(), question)
        assert list(found.rows["setting"])[:1] == ["l1(rate=0.5)"] and "quantize(bits=8)" not in set(
            found.rows["setting"]
        )
        assert "Left out, because a noisy timing meets no condition: quantize(bits=8)." in found.notes
    unasked = answer(board(), Question(min=["size=3"]))
    assert "quantize(bits=8)" in set(unasked.rows["setting"]) and not any("noisy" in note for note in unasked.notes)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (Question(min=["sise=4"]), "min='sise=4': the board has no such column; did you mean 'size'? There are: "),
        (Question(max=["robust=4"]), "max='robust=4': not measured on this board. There are: "),
        (Question(sort="dropp"), "sort='dropp': the board has no such column; did you mean 'drop'?"),
        (Question(min=["size"]), "min='size': expected NAME=VALUE, as in size=4 or drop=1"),
        (Question(min=["size=4,"]), "min='size=4,': expected NAME=VALUE"),
        (Question(min=[""]), "min='': expected NAME=VALUE"),
        (Question(min=["size=big"]), "min='size=big': expected a gain over dense, as in size=2"),
        (Question(min=["size=nan"]), "expected a gain over dense"),
        (Question(min=["size=1e999"]), "expected a gain over dense"),
        (Question(max=["latency=5ms"]), "expected a gain over dense, as in latency=2"),
        (Question(min=["top1=0.93"]), "min='top1=0.93': expected percent, as in top1=90"),
        (Question(max=["drop=1pp"]), "expected points, as in drop=1"),
        (Question(max=["seeds=many"]), "expected a number, as in seeds=1"),
        (Question(sort="-size"), "the board has no such column"),
        (Question(method=["tik"]), "method='tik': no such method on the board; did you mean 'tic'? There are: dense, "),
        (Question(method=["tic(k=65)"]), "no such setting on the board; nearest: tic(k=64), "),
        (Question(method=["tic,"]), "expected names, separated by commas"),
        (Question(model=["resnet2"]), "model='resnet2': the board has no such model; did you mean 'resnet20'?"),
        (Question(dataset=["cifar10"]), "the board has no such dataset"),
    ],
)
def test_mistakes(question: Question, message: str) -> None:
    with pytest.raises(BadArgument) as raised:
        answer(board(), question)
    assert message in str(raised.value)


# No row left ---------------------------------------------------------------------------------------------------------


def test_the_condition_that_no_row_meets_and_the_nearest_row() -> None:
    assert refused(Question(min=["size=9"], max=["drop=1"])) == (
        "max='drop=1': no setting is left; the lowest drop of the 2 settings with size at least 9× is 1.5 points: "
        "l1(rate=0.5)+tic(k=64, transforms=8)"
    )
    assert "of the only setting with size at least 15×" in refused(Question(min=["size=15"], max=["drop=1"]))
    assert refused(Question(min=["size=20"])) == (
        "min='size=20': no setting is left; the highest size of the 8 settings is 16×: tic(k=16)"
    )


def test_the_nearest_row_meets_every_other_condition_where_one_does() -> None:
    """By size alone nothing is left; the row that is told of is one that also keeps within the drop."""
    message = refused(Question(min=["size=99", "macs=2"], max=["drop=1"]))
    assert message.startswith("min='size=99': ")
    assert "with macs" not in message and "with MACs at least 2× and drop at most 1 point is 4×: kse(G=4)" in message


def test_where_no_single_condition_is_to_blame_they_count_in_turn() -> None:
    message = refused(Question(min=["size=99", "macs=99"], max=["drop=1"]))
    assert message == "min='size=99': no setting is left; the highest size of the 8 settings is 16×: tic(k=16)"


def test_noisy_timings_that_would_do_are_told_of() -> None:
    message = refused(Question(min=["latency=1.2"], method=["quantize,kse"]))
    assert (
        "the highest latency of the 2 settings is 1.05×: kse(G=4); noisy timings do not count: quantize(bits=8)"
        in message
    )
    message = refused(Question(min=["latency=1.2"], method=["quantize"]))
    assert "there is no latency that counts of the only setting; noisy timings do not count" in message


def test_no_setting_on_a_front() -> None:
    assert refused(Question(front=True, method=["random"])) == "no setting is left: none of 1 is on a Pareto front"


def test_several_tasks_name_the_one_of_the_nearest_row() -> None:
    summary = board(TWO_TASKS)
    assert refused(Question(min=["size=20"]), summary).endswith("tic(k=16), resnet20 on ramps, weights mine")


# Order, methods, tasks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("size", "tic(k=16)"),
        ("top1", "none"),
        ("drop", "none"),
        ("worst-class", "none"),
        ("macs", "kse(G=4)"),
        ("latency", "l1(rate=0.5)"),
    ],
)
def test_the_best_comes_first(name: str, first: str) -> None:
    assert settings(Question(sort=name))[0] == first


def test_noisy_timings_and_rows_without_a_figure_come_last() -> None:
    summary = board([make("none"), make("quantize(bits=8)"), make("kse(G=4)"), make("tic(k=64)", latency_speedup=None)])
    assert settings(Question(sort="latency"), summary) == ["kse(G=4)", "none", "quantize(bits=8)", "tic(k=64)"]
    notes = answer(summary, Question(sort="latency")).notes
    assert notes == ("Sorted by latency, best first; noisy timings come last.",)


def test_an_order_leaves_nothing_out_and_stays_within_tasks() -> None:
    summary = board(TWO_TASKS)
    found = answer(summary, Question(sort="macs"))
    assert not found.narrowed and len(found.rows) == len(summary)
    assert list(found.rows["model"]) == list(summary["model"])
    assert list(found.rows["setting"])[-3:] == ["kse(G=4)", "random(rate=0.5)", "none"]
    assert list(found.shown["setting"])[-3:] == ["none", "kse(G=4)", "random(rate=0.5)"], "dense stays on top"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tic"], ["tic(k=64)", "l1(rate=0.5)+tic(k=64, transforms=8)", "tic(k=16)"]),
        (["tic(k=64)"], ["tic(k=64)"]),
        (["l1+tic"], ["l1(rate=0.5)+tic(k=64, transforms=8)"]),
        (["tic(k=64,transforms=8)"], ["l1(rate=0.5)+tic(k=64, transforms=8)"]),
        (["kse,dense"], ["none", "kse(G=4)"]),
        (["kse", "none"], ["none", "kse(G=4)"]),
    ],
)
def test_a_method_stands_for_its_settings_and_pipelines(names: list[str], expected: list[str]) -> None:
    assert settings(Question(method=names)) == expected


def test_tasks_are_chosen_by_model_and_dataset() -> None:
    summary = board(TWO_TASKS)
    found = answer(summary, Question(model=["resnet56"], dataset=["ramps"]))
    assert set(found.rows["model"]) == {"resnet56"} and not found.narrowed
    assert set(answer(summary, Question(model=["resnet56,resnet20"])).rows["model"]) == {"resnet20", "resnet56"}
    told_apart = summary.assign(model=summary["model"] + " (3f2a1b)")
    assert len(answer(told_apart, Question(model=["resnet20"])).rows) == len(SETTINGS)
    apart = board([make("kse(G=4)"), make("kse(G=4)", model="resnet56", dataset="waves")])
    assert refused(Question(model=["resnet20"], dataset=["waves"]), apart) == (
        "the board has no such model with such a dataset; it has resnet20 on ramps, resnet56 on waves"
    )


# What stays ----------------------------------------------------------------------------------------------------------


def test_dots_and_front_mean_the_same() -> None:
    summary = board()
    dotted = {line.split("|")[2].strip() for line in to_markdown(summary).splitlines() if line.startswith("| ● |")}
    shown = ["dense" if setting == "none" else setting for setting in settings(Question(front=True), summary)]
    assert dotted == set(shown) and 2 < len(dotted) < len(summary)
    assert (summary["front"] == summary[["pareto", "pareto_macs", "pareto_latency"]].any(axis=1)).all()


def test_a_filter_changes_no_rank_and_no_dot() -> None:
    summary = board()
    summary["rank_low"], summary["rank_high"] = range(1, len(summary) + 1), range(1, len(summary) + 1)
    question = Question(min=["size=4"], method=["tic", "kse"])
    whole = {line for line in to_markdown(summary).splitlines() if line.startswith("| ")}
    narrowed = to_markdown(summary, None, answer(summary, question))
    rows = [line for line in narrowed.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 1 + 4 and set(rows) <= whole, "a header, dense and four rows, all as on the whole board"
    assert "Ranks and ● are among all settings of a task, including those left out." in narrowed


def test_dense_is_shown_for_reference_and_is_no_row_of_the_answer() -> None:
    found = answer(board(), Question(min=["size=8"], sort="drop"))
    assert list(found.shown["setting"]) == ["none", "tic(k=64)", "l1(rate=0.5)+tic(k=64, transforms=8)", "tic(k=16)"]
    assert "none" not in set(found.rows["setting"])
    assert (
        found.notes[0] == "3 of 8 settings: size at least 8×."
        and "The dense network is shown for reference." in found.notes
    )
    met = answer(board(), Question(max=["drop=1"]))
    assert met.notes[0] == "5 of 8 settings: drop at most 1 point." and not any(
        "reference" in note for note in met.notes
    )


def test_tables_that_compare_all_settings_are_left_out() -> None:
    summary = board([*TWO_TASKS, make("tic(k=64)", model="resnet56")])
    assert "At equal size" in to_text(summary) and "Methods across 2 tasks" in to_text(summary)
    narrowed = to_text(summary, None, answer(summary, Question(min=["size=3.99"])))
    assert "At equal" not in narrowed and "across" not in narrowed and "are left out" in " ".join(narrowed.split())


def test_tasks_without_such_a_setting_are_named() -> None:
    found = answer(board(TWO_TASKS), Question(min=["size=8"]))
    assert "No such setting: resnet56 on ramps, weights mine." in found.notes
    assert set(found.shown["model"]) == {"resnet20"}


def test_a_column_that_is_asked_for_is_shown_in_a_narrow_terminal() -> None:
    for question, expected in ((Question(min=["size=1"]), False), (Question(max=["worst-class=9"]), True)):
        screen = Screen(width=80, file=io.StringIO(), color_system=None)
        with screen.capture() as printed:
            screen.print(render_terminal(board(), None, answer(board(), question)))
        assert ("worst class" in printed.get().split("\n\n")[1]) == expected


def test_the_picture_keeps_the_fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.leaderboard import chart

    summary = board()
    drawn: list[int] = []
    monkeypatch.setattr(chart, "_draw_panel", lambda panel, rows, gain, front, look: drawn.append(len(front)))
    draw(summary)
    draw(summary, answer(summary, Question(method=["kse"])))
    assert drawn[:3] == drawn[3:] == [int(summary[name].sum()) for name in ("pareto", "pareto_macs", "pareto_latency")]


# The command ---------------------------------------------------------------------------------------------------------


def test_the_board_answers(store: Path, bench_command: Callable[..., Any]) -> None:
    asked = "--min size=4 --max drop=1 --sort latency --method kse,quantize --model resnet20".split()
    said = bench_command("leaderboard", "--store", store, *asked)
    text = " ".join(said.out.split())
    assert said.code == 0 and text.startswith(
        "2 of 8 settings: with kse or quantize; size at least 4×, drop at most 1 "
    )
    assert text.index("dense 94.00") < text.index("kse(G=4) 93.00") < text.index("quantize(bits=8) 93.90")
    assert "~1.30× ±0.20" in text and "noisy timings come last" in text


def test_files_for_programs_hold_the_rows_asked_for(
    store: Path, bench_command: Callable[..., Any], tmp_path: Path
) -> None:
    asked = ["leaderboard", "--store", store, "--min", "size=8", "--sort", "latency"]
    rows = json.loads(bench_command(*asked, "--format", "json").out)
    assert [row["setting"] for row in rows] == ["l1(rate=0.5)+tic(k=64, transforms=8)", "tic(k=16)", "tic(k=64)"]
    assert bench_command(*asked, "--format", "csv").out.count("\n") == 1 + 3
    timed = bench_command("leaderboard", "--store", store, "--min", "latency=1.2", "--format", "json")
    assert timed.err == "Left out, because a noisy timing meets no condition: quantize(bits=8).\n"
    bench_command(*asked, "--format", "parquet", "--out", tmp_path / "x.parquet")
    assert list(pandas.read_parquet(tmp_path / "x.parquet")["setting"]) == [row["setting"] for row in rows]
    bench_command(*asked, "--format", "png", "--out", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    bench_command(*asked, "--format", "pdf", "--out", tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert "l1(rate=0.5)+tic(k=64" in bench_command(*asked, "--format", "md").out


def test_a_mistake_is_told_in_one_line(store: Path, bench_command: Callable[..., Any]) -> None:
    said = bench_command("leaderboard", "--store", store, "--min", "size=4", "--max", "drop=0.1", "--method", "tic")
    assert said.mistake.startswith(
        "--max drop=0.1: no setting is left; the lowest drop of the 3 settings with size at "
    )
    assert bench_command("leaderboard", "--store", store, "--min", "sise=4").mistake.startswith(
        "--min sise=4: the board"
    )


def test_an_empty_store_has_no_answer(tmp_path: Path, bench_command: Callable[..., Any]) -> None:
    (tmp_path / "records").mkdir()
    empty = summarise(load_records(tmp_path))
    assert answer(empty, Question(min=["size=4"])).rows.empty
    assert "bench run" in to_markdown(empty, None, answer(empty, Question(min=["size=4"])))
    for words in ("--min size=4", "--sort size --model resnet20", ""):
        said = bench_command("leaderboard", "--store", tmp_path, *words.split())
        assert said.code == 0 and "No records yet" in said.out
