"""The charts of the page: styles, curves, labels, clicks, keyboard, tables beside them, and on paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench.leaderboard.page import to_page, write_html
from bench.leaderboard.style import style_of
from bench.leaderboard.summary import frame_of, summarise

from .board_records import make_record
from .browsing import browser as browser
from .browsing import charted
from .browsing import visit as visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

METHODS = ("tic", "kse", "l1", "taylor", "dynamic", "sharing", "fixed", "wcss", "inertia", "magnitude")
HIDDEN = "random(rate=0.9)"
NOISY = "wcss(rate=0.5)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task with a curve for each of ten methods, one setting far below, and one noisy timing; three seeds."""
    records = [make_record("none", 0, 0.94, 1.0, macs_ratio=1.0, latency_speedup=1.0)]
    for place, method in enumerate(METHODS):
        for rate, gain in ((0.5, 2.0), (0.75, 4.0)):
            setting, top1 = f"{method}(rate={rate})", 0.93 - 0.004 * place - 0.01 * gain
            figures: dict[str, Any] = {"macs_ratio": gain**0.9, "latency_speedup": 1 + 0.02 * place + 0.02 * gain}
            figures |= {"latency_noisy": setting == NOISY, "config": {"family": method}}
            figures |= {"latency_speedup_low": 1.0, "latency_speedup_high": 1.04}
            records += [
                make_record(setting, seed, top1 + 0.001 * seed, gain + 0.02 * place, **figures) for seed in range(3)
            ]
    figures = {"macs_ratio": 9.0, "latency_speedup": 2.0, "config": {"family": "random"}}
    records += [make_record(HIDDEN, seed, 0.5 + 0.2 * seed, 9.0, **figures) for seed in range(2)]
    out = tmp_path_factory.mktemp("site")
    write_html(frame_of(replace(r, fingerprint=f"{n:016x}") for n, r in enumerate(records)), out, out)
    return out


SIZE = "document.getElementById('chart-compression_ratio')"


def traces(page: Page, mode: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(f"{SIZE}.data.filter(trace => trace.mode === '{mode}')")
    return found


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5))})"


def box_of_point(page: Page, number: int = 0) -> tuple[float, float]:
    page.locator("#chart-compression_ratio").scroll_into_view_if_needed()
    box = page.locator("#chart-compression_ratio .point").nth(number).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_methods_have_their_colour_and_marker(scheme: str, site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html", color_scheme=scheme)
    charted(page)
    drawn = {trace["name"]: trace["marker"] for trace in traces(page, "markers")}
    assert set(METHODS) < set(drawn)
    for method in METHODS:
        style = style_of(method)
        assert drawn[method]["color"] == rgb(getattr(style, scheme))
        assert {symbol.removesuffix("-open") for symbol in drawn[method]["symbol"]} == {style.marker}
    chip = page.locator("#methods button[data-method=tic] path")
    assert chip.evaluate("path => getComputedStyle(path).fill") == rgb(getattr(style_of("tic"), scheme))


def test_the_settings_of_a_method_are_joined(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    front, *curves = traces(page, "lines")
    assert len(curves) == len(METHODS) and all(
        len(curve["x"]) == 2 and curve["x"][0] < curve["x"][1] for curve in curves
    )
    page.get_by_role("button", name="tic", exact=True).click()
    page.wait_for_timeout(300)
    assert len(traces(page, "lines")) == 2, "the front of all settings, and one curve"


def test_nothing_of_a_hidden_setting_is_drawn_until_the_button_shows_it(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    bars = "() => [...document.querySelectorAll('#chart-compression_ratio .errorbar')].length"
    shown = page.evaluate(bars)
    assert shown == 2 * len(METHODS), "the dense network has one seed, and no interval"
    assert max(max(trace["x"]) for trace in [*traces(page, "markers"), *traces(page, "lines")]) < 5
    button = page.get_by_role("button", name="Show everything: 1 setting with less than 85%")
    button.click()
    page.wait_for_timeout(200)
    assert max(max(trace["x"]) for trace in traces(page, "markers")) == 9 and page.evaluate(bars) == shown + 1
    page.get_by_role("button", name="Hide what keeps less than 85%").click()
    page.wait_for_timeout(200)
    assert page.evaluate(bars) == shown


def test_points_of_the_front_are_labelled_without_overlap(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    labels = page.locator("#chart-compression_ratio .annotation-text")
    assert {"tic(rate=0.5)", "kse(rate=0.5)", "tic(rate=0.75)"} <= set(labels.all_text_contents())
    boxes = [box for box in (label.bounding_box() for label in labels.all()) if box]
    for place, a in enumerate(boxes):
        for b in boxes[:place]:
            apart = a["x"] >= b["x"] + b["width"] or b["x"] >= a["x"] + a["width"]
            assert apart or a["y"] >= b["y"] + b["height"] - 2 or b["y"] >= a["y"] + a["height"] - 2


def test_latency_has_intervals_and_noisy_points_are_hollow(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    latency = page.evaluate("document.getElementById('chart-latency_speedup').data")
    by_name = {trace["name"]: trace for trace in latency if trace["mode"] == "markers"}
    assert by_name["tic"]["error_x"]["visible"] and max(by_name["tic"]["error_x"]["array"]) > 0
    assert sorted(by_name["wcss"]["marker"]["symbol"]) == ["triangle-right", "triangle-right-open"]
    size = {trace["name"]: trace for trace in traces(page, "markers")}
    assert set(size["wcss"]["marker"]["symbol"]) == {"triangle-right"}, "only where the latency is drawn"


def test_a_double_click_resets_a_zoom_and_opens_no_page(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    span = f"{SIZE}.layout.xaxis.range"
    home = page.evaluate(span)
    page.evaluate(f"Plotly.relayout({SIZE}, {{'xaxis.range': [0.1, 0.7]}})")
    page.mouse.dblclick(*box_of_point(page))
    page.wait_for_timeout(900)
    assert page.evaluate(span) == pytest.approx(home) and "settings/" not in page.url
    page.mouse.dblclick(*box_of_point(page))
    page.wait_for_timeout(900)
    assert page.evaluate(span) == pytest.approx(home) and "settings/" not in page.url, "nor where nothing is zoomed"
    page.mouse.click(*box_of_point(page))
    page.wait_for_url("**/settings/*.html")


def test_charts_are_reached_by_keyboard(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    page.locator("#everything").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "chart-compression_ratio"
    assert "Arrow keys" in page.evaluate("document.activeElement.ariaLabel")
    told = page.locator("figure:has(#chart-compression_ratio) .told")
    page.keyboard.press("ArrowRight")
    assert told.inner_text().startswith("dense: top-1 94.00 %, size 1.00×")
    page.keyboard.press("ArrowRight")
    assert told.inner_text().startswith("tic(rate=0.5): ")
    assert page.locator("#chart-compression_ratio .hovertext").count() == 1
    page.keyboard.press("Escape")
    assert told.inner_text() == "" and page.locator("#chart-compression_ratio .hovertext").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/settings/*tic*.html")


def test_a_table_beside_a_chart_has_its_figures(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    figure = page.locator("figure:has(#chart-compression_ratio)")
    figure.get_by_text("Figures of this chart").click()
    rows = figure.locator("tbody tr")
    rows.first.wait_for()  # the table is filled when it opens
    assert rows.count() == 2 * len(METHODS) + 1
    assert figure.locator("thead").inner_text().split() == ["setting", "size", "top-1", "%"]
    assert [cell.strip() for cell in rows.nth(1).inner_text().split("\t")] == ["tic(rate=0.5)", "2.00×", "91.10"]
    page.get_by_role("button", name="kse", exact=True).click()
    page.wait_for_timeout(300)
    assert rows.count() == 2 + 1, "it follows the filters"


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


PRINTED = "void (window.print = () => dispatchEvent(new Event('beforeprint')))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_a_chart_alone_fits_a_sheet_of_paper(paper: str, scheme: str, site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html", color_scheme=scheme)
    charted(page)
    page.evaluate(PRINTED)
    page.get_by_role("button", name="Print accuracy against size, or save it as PDF").click()
    page.wait_for_timeout(200)
    legend = page.locator("#chart-compression_ratio .legendtext").all_text_contents()
    assert legend[0] == "dense" and legend[-1] == "4 other methods" and len(legend) == 8
    ground, text = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (ground, text) == ("rgb(255, 255, 255)", "rgb(26, 29, 33)")
    pdf = page.pdf(format=paper, prefer_css_page_size=True)
    # Which tells the page that it was printed, as a person's browser does.
    assert pages_of(pdf) == 1 and not re.search(rb"/Subtype\s*/Image", pdf)
    page.wait_for_function("document.querySelectorAll('.legendtext').length === 0")
    assert page.locator(".chart:visible").count() == 4
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 22, 26)" if dark else "rgb(255, 255, 255)"
    )


def test_the_whole_page_prints_without_controls(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    charted(page)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_timeout(200)
    for control in ("#ask", "#filters", "#methods", ".beside", "#everything"):
        assert not page.locator(control).first.is_visible()
    widths = page.locator(".chart .main-svg").evaluate_all("all => all.map(each => each.getBoundingClientRect().width)")
    assert max(widths) <= 700, "A4 has 703 pixels between its margins"
    assert page.locator("#verdict").is_visible() and page.locator("#glossary").is_visible()


def test_the_answers_on_top_lead_to_their_settings(site: Path, visit: Callable[..., Page]) -> None:
    page = visit(site / "index.html")
    answers = page.locator("#verdict .answers")
    assert answers.locator("dt").all_inner_texts() == ["For size", "For speed", "At 4×"]
    told = page.locator("#verdict").inner_text()
    assert told.startswith("22 settings, 63 trials with up to 3 seeds, measured on 2026-01-01")
    answers.get_by_role("link").first.click()
    page.wait_for_url("**/settings/*.html")
    assert page.get_by_role("heading", name="Figures").is_visible()


def test_a_setting_links_its_paper_and_folds_its_configuration(site: Path, visit: Callable[..., Page]) -> None:
    path = next(path for path in site.glob("settings/*.html") if "-tic-" in path.name)
    for width in (1280, 400):
        page = visit(path, viewport={"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
    paper = page.get_by_role("link", name="Son, Nah, Lee")
    assert paper.get_attribute("href") == "https://doi.org/10.1007/978-3-030-01237-3_14"
    configuration = page.locator(".configuration")
    assert not configuration.is_visible()
    page.get_by_text("Every option, digest and version").click()
    assert configuration.is_visible()
    page.get_by_text("Description: what it does").click()
    assert page.get_by_text("transform-invariant kernel clustering", exact=False).first.is_visible()


def test_the_model_file_is_linked_where_it_exists(tmp_path: Path, visit: Callable[..., Page]) -> None:
    from bench.leaderboard.summary import load_records
    from bench.records.store import Store, write_record

    with Store(tmp_path / "runs").prepare("0123456789abcdef") as folder:
        write_record(make_record("tic(k=64)", 0, 0.93, 4.0, fingerprint="0123456789abcdef"), folder)
        (folder / "model.safetensors").write_bytes(b"x" * 2000)
    write_html(load_records(tmp_path / "runs"), tmp_path / "site", tmp_path / "runs")
    page = visit(next((tmp_path / "site" / "settings").glob("*.html")))
    link = page.get_by_role("link", name="model.safetensors")
    assert link.get_attribute("href") == "../../runs/records/0123456789abcdef/model.safetensors"
    assert "seed 0, 2 kB" in page.locator("main").inner_text()


def test_several_tasks_each_have_their_answers(tmp_path: Path, visit: Callable[..., Page]) -> None:
    records = [
        make_record(setting, 0, top1, gain, dataset=dataset, latency_speedup=1.0)
        for dataset in ("fashion-mnist", "cifar10")
        for setting, top1, gain in (("none", 0.94, 1.0), ("tic(k=64)", 0.935, 4.0))
    ]
    (tmp_path / "board.html").write_text(to_page(summarise(frame_of(records))), encoding="utf-8")
    page = visit(tmp_path / "board.html", "#dataset=cifar10&model=resnet20")
    shown = page.locator("#verdict > div:visible")
    assert shown.count() == 1 and not page.locator("#verdict .where").first.is_visible()
    page.locator("select[name=dataset]").select_option("")
    assert shown.count() == 2 and "resnet20 on cifar10" in shown.nth(0).inner_text()
