"""The board as a page in a browser: charts, filters, links, keyboard, and texts that are never markup."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas
import pytest

from bench.leaderboard.page import to_page, write_html
from bench.leaderboard.summary import DENSE, FRONTS

from .browsing import browser as browser
from .browsing import charted
from .browsing import visit as visit
from .drawn_records import frame as frame
from .drawn_records import site as site
from .drawn_records import store as store
from .drawn_records import summary as summary

if TYPE_CHECKING:
    from playwright.sync_api import Page


def column(page: Page, index: int) -> list[str]:
    return page.locator(f"#board tbody td:nth-child({index})").all_inner_texts()


def of_task(summary: pandas.DataFrame, dataset: str) -> pandas.DataFrame:
    return summary[(summary["dataset"] == dataset) & (summary["seeds"] > 0)]


def test_a_task_is_shown_with_its_charts(site: Path, summary: pandas.DataFrame, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    (dataset,) = [page.locator("select[name=dataset]").input_value()]
    task = of_task(summary, dataset)
    assert page.locator("#task").inner_text().startswith(f"resnet20 on {dataset}, weights ")
    assert page.locator(".dt-info").inner_text() == f"1 to 25 of {len(summary[summary['dataset'] == dataset])}"
    assert column(page, 2)[0] == "dense" and len(column(page, 2)) == 25
    kept = task[task["top1"] >= 0.85 * (task["top1"] + task["top1_drop"])]
    assert set(charted(page).values()) == {len(kept)} and 20 < len(kept) < len(task)
    page.get_by_role("button", name=f"Show everything: {len(task) - len(kept)} setting").click()
    assert set(charted(page).values()) == {len(task)}
    for gain, front in FRONTS.items():
        points = page.evaluate(f"document.getElementById('chart-{gain}').data[0]")
        expected = task[task[front]].sort_values(gain)
        assert points["mode"] == "lines" and points["x"] == pytest.approx(list(expected[gain]), rel=1e-4)
        assert points["y"] == pytest.approx(list(100 * expected["top1"]), rel=1e-4)
        dense = page.evaluate(f"document.getElementById('chart-{gain}').data.find(trace => trace.name === 'dense').x")
        assert dense == pytest.approx(list(task.loc[task["setting"] == DENSE, gain]), rel=1e-4)


def test_the_table_sorts_by_mouse_and_by_keyboard(
    site: Path, summary: pandas.DataFrame, visit: Callable[..., Page]
) -> None:
    from playwright.sync_api import expect

    page = visit(site / "index.html", "#dataset=cifar10")
    sizes = of_task(summary, "cifar10")["compression_ratio"].sort_values()
    header = page.locator("#board thead th", has_text="size")
    header.click()
    expect(header).to_have_attribute("aria-sort", "descending")
    assert column(page, 6) == [f"{size:.2f}×" for size in sizes[::-1][:25]]
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    shown = [text for text in column(page, 6) if text != "–"]
    assert shown == [f"{size:.2f}×" for size in sizes[: len(shown)]] and len(shown) >= 24


def test_search_and_filters_reach_table_and_charts(
    site: Path, summary: pandas.DataFrame, visit: Callable[..., Page]
) -> None:
    page = visit(site / "index.html")
    page.locator("select[name=dataset]").select_option("imagenet")
    task = summary[summary["dataset"] == "imagenet"]
    assert page.locator(".dt-info").inner_text().endswith(f" of {len(task)}")
    page.get_by_label("Search").fill("transforms=4")
    names = list(task.loc[task["setting"].str.contains("transforms=4"), "setting"])
    assert column(page, 2) == names and len(names) == 5
    assert set(charted(page).values()) == {5 + 1}, "the dense network stays in the charts"
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="kse", exact=True).click()
    page.get_by_role("button", name="tic", exact=True).click()
    assert {name.split("(")[0] for name in column(page, 2)} == {"kse", "tic"}
    page.reload()
    assert {name.split("(")[0] for name in column(page, 2)} == {"kse", "tic"}, "the address keeps the filters"
    page.locator("select[name=dataset]").select_option("")
    assert page.locator("#task").inner_text().startswith("4 tasks.")
    assert page.locator("#board thead th", has_text="Dataset").is_visible()


def test_tables_at_equal_size_are_those_of_the_tasks_shown(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html", "#dataset=cifar10")
    shown = page.locator("#points caption:visible")
    every = page.locator("#points caption").count()
    assert 0 < shown.count() < every and all("on cifar10," in text for text in shown.all_inner_texts())
    page.locator("select[name=dataset]").select_option("imagenet")
    assert 0 < shown.count() < every and all("on imagenet," in text for text in shown.all_inner_texts())
    page.locator("select[name=dataset]").select_option("")
    assert shown.count() == every
    assert page.locator("#points table:visible th:not([scope])").count() == 0


def test_a_choice_that_leaves_nothing_loosens_the_others(visit: Callable[..., Page], site: Path) -> None:
    page = visit(site / "index.html", "#dataset=cifar10&model=resnet20&weights=resnet20-cifar10")
    page.locator("select[name=dataset]").select_option("cifar100")
    assert page.locator("select[name=weights]").input_value() == ""
    assert page.locator("#task").inner_text().startswith("resnet20 on cifar100")


def test_the_link_that_skips_to_the_content_leaves_the_filters(visit: Callable[..., Page], site: Path) -> None:
    page = visit(site / "index.html", "#dataset=cifar10&model=resnet20&method=kse")
    chosen = page.locator("#methods button[aria-pressed=true]")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    assert chosen.all_inner_texts() == ["kse"]
    assert page.locator("select[name=dataset]").input_value() == "cifar10"


def test_a_setting_that_failed_in_part_says_so(
    summary: pandas.DataFrame, visit: Callable[..., Page], site: Path
) -> None:
    row = summary[(summary["failed"] > 0) & (summary["seeds"] > 0)].iloc[0]
    page = visit(site / "index.html", f"#dataset={row['dataset']}&model={row['model']}")
    page.get_by_role("searchbox").fill(row["setting"])
    assert page.locator("#board .tag").first.inner_text() == "1 seed failed"


def test_links_lead_to_a_setting_and_back(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    page.get_by_role("link", name="kse(G=2)").click()
    assert page.locator("h1").inner_text() == "kse(G=2)"
    assert page.get_by_role("heading", name="Layers").is_visible()
    page.get_by_role("link", name="All settings").click()
    page.locator("#board tbody tr").nth(24).wait_for()
    charted(page)
    page.locator("#chart-compression_ratio").scroll_into_view_if_needed()
    point = page.locator("#chart-compression_ratio .point").first.bounding_box()
    page.mouse.click(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    page.wait_for_url("**/settings/*.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(scheme: str, site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html", color_scheme=scheme)
    paper = "getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}
    other = "dark" if scheme == "light" else "light"
    assert page.evaluate(paper) == colours[scheme]
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(paper) == colours[other]
    page.reload()
    assert page.evaluate(paper) == colours[other], "the choice is kept"


def test_a_narrow_screen_scrolls_tables_only(site: Path, visit: Callable[..., Page]) -> None:
    for path in (site / "index.html", next(site.glob("settings/*l1-tic*.html"))):
        page = visit(path, viewport={"width": 390, "height": 844})
        if path.name == "index.html":
            charted(page)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_every_control_has_a_name_and_every_table_a_header(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    for control in page.locator(":is(button, [role=button], select, input, a[href]):visible").all():
        snapshot = control.aria_snapshot()
        assert re.search(r'"[^"<]+"', snapshot), snapshot
    assert page.locator("#board thead th").count() == page.locator("#board tbody tr:first-child > *").count()
    assert all(
        "settings" in label for label in page.locator(".chart").evaluate_all("charts => charts.map(c => c.ariaLabel)")
    )


def test_texts_of_records_are_never_markup(frame: pandas.DataFrame, tmp_path: Path, visit: Callable[..., Page]) -> None:
    evil = "</script><img src=x onerror=alert(1)>&amp; 1.0, [2.0] "
    trials = frame.head(60).assign(
        setting=lambda rows: evil + rows["setting"], method=evil, dataset=evil, notes=[[evil]] * 60
    )
    write_html(trials, tmp_path / "out", tmp_path)
    page = visit(tmp_path / "out" / "index.html")
    charted(page)
    assert evil in page.locator("#task").inner_text() and column(page, 2)[0].startswith(evil)
    page.get_by_label("Search").fill("onerror")
    page.locator("#board tbody a").first.click()
    assert page.locator("h1").inner_text().startswith(evil)
    assert page.locator("img").count() == 0


def test_one_file_holds_a_whole_board(summary: pandas.DataFrame, tmp_path: Path, visit: Callable[..., Page]) -> None:
    (tmp_path / "board.html").write_text(to_page(summary), encoding="utf-8")
    page = visit(tmp_path / "board.html")
    assert column(page, 2)[0] == "dense" and page.locator("#board a").count() == 0
    assert min(charted(page).values()) > 30


def test_one_file_works_in_a_sandbox(summary: pandas.DataFrame, tmp_path: Path, visit: Callable[..., Page]) -> None:
    """As viewers of artifacts show it: a frame without an origin, storage or history."""
    frame = f'<!doctype html><iframe sandbox="allow-scripts" srcdoc="{escape(to_page(summary))}"></iframe>'
    (tmp_path / "viewer.html").write_text(frame, encoding="utf-8")
    inside = visit(tmp_path / "viewer.html").frame_locator("iframe")
    inside.locator(".js-plotly-plot").nth(3).wait_for()
    assert inside.locator("#board tbody td:nth-child(2)").first.inner_text() == "dense"
    assert not inside.locator("button.print").first.is_visible(), "which such a frame may not do"
    inside.get_by_role("button", name="Dark colours").click()
    inside.get_by_role("button", name="kse", exact=True).click()
    assert inside.locator("#board tbody td:nth-child(2)").first.inner_text().startswith("kse(")
