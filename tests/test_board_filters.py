"""What can be asked of a board: conditions, an order, methods and tasks; and what stays as on the whole board."""

from __future__ import annotations

import io

import pytest

from bench.leaderboard.answer import answer
from bench.leaderboard.board import render_terminal, to_markdown, to_text
from bench.leaderboard.chart import draw
from bench.leaderboard.question import Question
from bench.system.terminal import Screen

from .filtered_boards import SETTINGS, TWO_TASKS, board, make, refused, settings

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
        assert ("  worst  " in printed.get().split("\n\n")[1]) == expected


def test_the_picture_keeps_the_fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.leaderboard import chart

    summary = board()
    drawn: list[int] = []
    monkeypatch.setattr(chart, "_draw_panel", lambda panel, rows, gain, front, look: drawn.append(len(front)))
    draw(summary)
    draw(summary, answer(summary, Question(method=["kse"])))
    assert drawn[:3] == drawn[3:] == [int(summary[name].sum()) for name in ("pareto", "pareto_macs", "pareto_latency")]
