"""The page answers what `bench leaderboard` answers: sliders, the order, the fronts, and the sentence on top."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas
import pytest

from bench.leaderboard.address import fragment
from bench.leaderboard.answer import answer
from bench.leaderboard.columns import label
from bench.leaderboard.page import to_page, write_html
from bench.leaderboard.question import Question
from bench.leaderboard.summary import frame_of, summarise
from bench.records.record import Record
from bench.system.errors import BadArgument

from .browsing import browser as browser
from .browsing import visit as visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

METHODS = ("tic", "kse", "l1", "l1+tic", "quantize")
QUESTIONS = [
    Question(min=["size=4"], max=["drop=1"]),
    Question(min=["size=2,macs=1.5"], max=["drop=2.05", "worst-class=3"], sort="macs"),
    Question(min=["latency=1.1"], sort="latency"),
    Question(max=["latency=1.5"], sort="images/s"),
    Question(sort="latency", method=["tic"]),
    Question(sort="drop", front=True),
    Question(front=True, method=["tic,l1"], max=["drop=3"]),
    Question(sort="rank"),
    Question(sort="worst-class", min=["top1=92.01"]),
]


def draw_records(model: str) -> Iterator[Record]:
    """Some timings are noisy and some figures missing; several round to a bound that is asked for."""
    draw = random.Random(model)
    known = {"status": "ok", "model": model, "dataset": "ramps", "weights": "mine", "seed": 0, "device": "cpu"}
    known |= {"budget_epochs": 1.0, "epochs_spent": 1.0, "started_at": "2026-01-01T00:00:00+00:00", "config": {}}
    dense = {"top1": 0.94, "top1_drop": 0.0, "compression_ratio": 1.0, "macs_ratio": 1.0, "latency_speedup": 1.0}
    yield Record(fingerprint=f"{model}-none", method="none", setting="none", **known | dense)
    for number in range(40):
        method = METHODS[number % len(METHODS)]
        drop = draw.choice([0.00996, 0.01004, 0.0204, draw.uniform(0, 0.03)])
        speed, rate = draw.uniform(0.8, 2), draw.choice([1.0, 1.5, draw.uniform(1, 5)])
        figures = {
            "top1": 0.94 - drop, "top1_drop": drop, "worst_class": "up", "worst_class_drop": 2 * drop,
            "compression_ratio": draw.choice([3.996, 4.004, draw.uniform(1, 17)]),
            "macs_ratio": None if number == 7 else rate,
            "latency_speedup": None if number == 11 else speed, "latency_speedup_low": speed - 0.05,
            "latency_speedup_high": speed + 0.05, "latency_noisy": draw.random() < 0.3,
            "throughput_speedup": speed * rate, "throughput_noisy": draw.random() < 0.3,
        }  # fmt: skip
        setting = f"{method.replace('+', '(rate=0.5)+')}(x={number})"
        yield Record(fingerprint=f"{model}-{number}", method=method, setting=setting, **known | figures)


@pytest.fixture(scope="module")
def summary() -> pandas.DataFrame:
    return ranked(frame_of([*draw_records("resnet20"), *draw_records("resnet56")]))


def ranked(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The board, with ranks as predictions would give them: three settings that cannot be told apart share theirs."""
    summary = summarise(frame)
    place = summary.groupby("model")["top1"].rank(method="first", ascending=False)
    return summary.assign(rank_low=(place - 1).clip(lower=1), rank_high=place + 1)


@pytest.fixture(scope="module")
def page_file(summary: pandas.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "board.html"
    path.write_text(to_page(summary), encoding="utf-8")
    return path


@pytest.fixture
def ask(visit: Callable[..., Page], page_file: Path) -> Callable[..., Page]:
    """Open the page with a question in its address."""

    def open_page(address: str = "", path: Path = page_file, **options: Any) -> Page:
        return visit(path, f"#{address}" if address else "", **options)

    return open_page


def table(page: Page) -> list[str]:
    page.locator(".dt-length select").select_option("-1")
    names = page.locator("#board tbody tr td.setting").all_inner_texts()
    return [name.replace("\n", "") for name in names]


def said(page: Page) -> str:
    return page.locator("#answer").inner_text().replace("\u00a0", " ")


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_the_page_shows_the_rows_of_the_board(
    question: Question, summary: pandas.DataFrame, ask: Callable[..., Page]
) -> None:
    """Same rows; and in the same order where one is asked for."""
    task = {"model": ["resnet56"]}
    asked = Question(**{**vars(question), **task})
    page = ask(fragment(summary, asked))
    expected = [label(setting) for setting in answer(summary, asked).rows["setting"]]
    shown = table(page)
    assert sorted(shown) == sorted(expected) and 0 < len(shown)
    if question.sort:
        assert shown == expected
    assert page.evaluate("location.hash").count("=") >= fragment(summary, asked).count("=")


def test_the_slider_answers_at_once(summary: pandas.DataFrame, ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20")
    assert said(page) == "" and page.locator("#verdict").is_visible(), "who asks nothing has the answers on top"
    whole = len(table(page))
    slider = page.get_by_role("slider", name="drop at most")
    assert slider.get_attribute("aria-valuetext") == "any"
    slider.focus()
    while slider.get_attribute("aria-valuetext") != "1 point":
        page.keyboard.press("ArrowLeft")
    board = summary[summary["model"] == "resnet20"]
    met = answer(board, Question(max=["drop=1"], sort="size")).rows
    best = met[met["setting"] != "none"].iloc[0]
    assert said(page).startswith(
        f"Smallest with drop at most 1 point: {best['setting']}, size {best['compression_ratio']:.2f}×, drop "
        f"{100 * best['top1_drop']:.2f} points. "
    )
    assert len(met) == len(table(page)) < whole
    page.reload()
    assert slider.get_attribute("aria-valuetext") == "1 point" and len(table(page)) == len(met), "the address keeps it"
    page.get_by_role("button", name="Clear").click()
    assert slider.get_attribute("aria-valuetext") == "any" and len(table(page)) == whole
    assert not page.get_by_role("button", name="Clear").is_visible()


def test_what_the_measurement_does_not_separate_is_told(summary: pandas.DataFrame, ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20&sort=top1&min-size=2")
    board = summary[summary["model"] == "resnet20"]
    rows = answer(board, Question(min=["size=2"], sort="top1")).rows
    best, others = rows.iloc[0], rows.iloc[1:]
    near = ((others["rank_low"] <= best["rank_high"]) & (others["rank_high"] >= best["rank_low"])).sum()
    assert f"By top-1, {near} of the {len(others)} others that meet this share" in said(page) and 0 < near < len(others)
    page = ask("model=resnet20&sort=latency&min-latency=1")
    rows = answer(board, Question(min=["latency=1"], sort="latency")).rows
    best, others = rows.iloc[0], rows[1:][rows["setting"][1:] != "none"]
    near = (others["latency_speedup"].round(2) + 0.05 >= round(best["latency_speedup"], 2) - 0.05).sum()
    assert f"By latency, {near} of the {len(others)} others that meet this overlap" in said(page)
    assert "Left out, because a noisy timing meets no condition: " in said(page)


def test_no_row_left_tells_the_nearest(summary: pandas.DataFrame, ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20&min-size=4&max-drop=-1")
    board = summary[(summary["model"] == "resnet20") & (summary["setting"] != "none")]
    near = board[board["compression_ratio"] >= 3.995].sort_values("top1_drop").iloc[0]
    assert said(page) == (
        "No setting with size at least 4×, drop at most -1 points. The lowest drop with size at least 4× is "
        f"{round(100 * near['top1_drop'], 2):g} points: {near['setting']}."
    )
    assert "Nothing matches" in page.locator("#board tbody").inner_text()


def test_dots_and_the_front_are_the_same_rows(summary: pandas.DataFrame, ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20")
    table(page)
    dotted = page.locator("#board tbody tr:has(td.front span)").locator("td.setting").all_inner_texts()
    page.get_by_label("on a front only").check()
    assert table(page) == dotted
    front = answer(summary, Question(model=["resnet20"], front=True)).rows["setting"]
    assert dotted == list(map(label, front))


def test_tables_that_compare_all_settings_give_way(ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20")
    assert page.locator("#points").is_visible() and not page.locator("#left-out").is_visible()
    page = ask("model=resnet20&min-size=4")
    assert not page.locator("#points").is_visible() and page.locator("#left-out").is_visible()


def test_a_condition_without_a_slider_can_be_dropped(ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20&max-worst-class=3")
    page.get_by_role("button", name="Drop the condition worst class at most 3 points").click()
    assert "worst" not in page.evaluate("location.hash") and len(table(page)) == 41


def test_several_tasks_have_an_answer_each(ask: Callable[..., Page]) -> None:
    page = ask("model=&max-drop=1")
    assert page.locator("#answer p").count() == 2 and page.locator("#answer strong").count() == 2


@pytest.mark.parametrize(
    "address",
    ["min-size=abc&max-=4&min-nothing=3&sort=foo&front=2", "min-size=", "max-drop=%3Cimg%3E", "min-size=1e999"],
)
def test_an_address_that_makes_no_sense_asks_nothing(address: str, ask: Callable[..., Page]) -> None:
    page = ask(address)
    assert said(page) == "" and not page.get_by_role("button", name="Clear").is_visible()


def test_a_narrow_screen_needs_no_scrolling_aside(ask: Callable[..., Page]) -> None:
    page = ask("model=resnet20&min-size=4&max-drop=1", viewport={"width": 400, "height": 900})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    for slider in page.get_by_role("slider").all():
        box = slider.bounding_box()
        assert box is not None and box["width"] > 120 and box["height"] >= 24


RIGHT_EDGE = """element => {
    const range = document.createRange();
    range.setStart(element.firstChild, 0);
    range.setEnd(element.firstChild, element.firstChild.data.trimEnd().length);
    return range.getBoundingClientRect().right;
}"""


@pytest.mark.parametrize("spread", [float("nan"), 0.004])
def test_headers_stand_above_their_figures(
    spread: float, summary: pandas.DataFrame, ask: Callable[..., Page], tmp_path: Path
) -> None:
    """Where there are intervals, and where there are none."""
    path = tmp_path / "board.html"
    path.write_text(to_page(summary.assign(top1_ci95=spread, family=summary["method"])), encoding="utf-8")
    page = ask("model=resnet20", path)
    table = page.locator("#points table").first
    header = table.locator("thead th.number").first.evaluate(RIGHT_EDGE)
    figures = [figure.evaluate(RIGHT_EDGE) for figure in table.locator("td:nth-child(2) span[title]").all()]
    assert figures and figures == pytest.approx([header] * len(figures), abs=1.5)


def test_the_command_says_how_the_page_opens(tmp_path: Path, bench_command: Callable[..., Any]) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text("".join(record.to_json().replace("\n", "") + "\n" for record in draw_records("resnet20")))
    asked = ["leaderboard", "--store", records, "--format", "html", "--out", tmp_path / "site"]
    said = bench_command(*asked, "--min", "size=4", "--method", "l1", "--sort", "images/s", "--front")
    assert said.err == (
        f"open {(tmp_path / 'site' / 'index.html').as_uri()}"
        "#method=l1%2Btic&method=l1&min-size=4&sort=images%2Fs&front=1\n"
    )
    assert bench_command(*asked).err == f"open {tmp_path / 'site' / 'index.html'}\n"
    mistake = bench_command(*asked, "--method", "tic(x=0)").mistake
    assert mistake == "--method tic(x=0): the page shows whole methods; leave the options out"


def test_the_page_shows_one_model_or_all(summary: pandas.DataFrame) -> None:
    assert fragment(summary, Question(dataset=["ramps"])) == "dataset=ramps"
    with pytest.raises(BadArgument, match="the page shows one or all"):
        fragment(summary, Question(model=["resnet20,resnet56"]))


def test_a_page_of_records_holds_the_script(tmp_path: Path) -> None:
    write_html(frame_of(draw_records("resnet20")), tmp_path, tmp_path)
    assert (tmp_path / "assets" / "ask.js").stat().st_size < 20_000
    assert 'src="assets/ask.js"' in (tmp_path / "index.html").read_text(encoding="utf-8")
