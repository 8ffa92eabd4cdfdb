"""Mistakes in what is asked of a board, questions that no row answers, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from bench.leaderboard.answer import answer
from bench.leaderboard.board import to_markdown
from bench.leaderboard.question import Question
from bench.leaderboard.summary import load_records, summarise
from bench.system.errors import BadArgument

from .filtered_boards import TWO_TASKS, board, refused
from .filtered_boards import store as store


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
