"""A headless browser that opens pages from files, and fails a test if a page complains or asks a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium")
    with api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page; at the end nothing may have been logged, thrown or asked of a network."""
    contexts, problems = [], []

    def open_page(path: Path, address: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or problems.append(request.url),
        )
        page.goto(path.as_uri() + address, timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


COUNT_POINTS = """() => Object.fromEntries([...document.querySelectorAll(".chart")].map(({ id, data }) => {
    const points = data.filter(({ mode }) => mode === "markers");
    return [id, points.reduce((sum, { x }) => sum + x.length, 0)];
}))"""


def charted(page: Page) -> dict[str, int]:
    """How many points each chart shows, once they are drawn."""
    page.wait_for_function("document.querySelectorAll('.chart.js-plotly-plot').length === 4")
    page.wait_for_timeout(300)
    return page.evaluate(COUNT_POINTS)
