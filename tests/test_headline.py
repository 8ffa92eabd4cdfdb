"""The headline tables: which settings of a column are marked, and what people read of it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import save_file

from bench.leaderboard.board import render_terminal, to_markdown, to_text
from bench.leaderboard.headline import legend_of_points
from bench.leaderboard.operating_points import TARGETS, Table, tables_of, with_leaders
from bench.leaderboard.page import write_html
from bench.leaderboard.summary import load_records, summarise
from bench.records.record import Record

IMAGES = 1000
LABELS = np.repeat(np.arange(10, dtype=np.int32), IMAGES // 10)


def write(root: Path, setting: str, seed: int, right: NDArray[np.bool_] | None, **values: Any) -> None:
    """A record and, where it is known which images it has right, its predictions."""
    fingerprint = sha256(f"{setting} {seed}".encode()).hexdigest()[:16]
    folder = root / "records" / fingerprint
    folder.mkdir(parents=True)
    content: dict[str, Any] = {
        "fingerprint": fingerprint, "status": "ok", "method": setting.split("(")[0], "setting": setting, "seed": seed,
        "model": "resnet20", "dataset": "ramps", "weights": "mine", "budget_epochs": 1.0, "device": "cpu",
        "top1": None if right is None else float(right.mean()), "started_at": f"2026-01-01T00:{seed:02}:00+00:00",
    }  # fmt: skip
    (folder / "record.json").write_text(Record(**content | values).to_json())
    if right is not None:
        predictions = np.where(right, LABELS, (LABELS + 1) % 10).astype(np.int32)
        save_file({"predictions": predictions, "labels": LABELS, "dense": LABELS}, folder / "predictions.safetensors")


def put(root: Path, family: str, target: float, right: int, seed: int = 0, **values: Any) -> None:
    """A setting of a family, with `right` of the images right and the first ones wrong."""
    known = {"compression_ratio": float(target), "config": {"family": family}, "method": family}
    write(root, f"{family} {target:g}", seed, np.arange(IMAGES) >= IMAGES - right, **known | values)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Errors on nested runs of images: at 2x 60, 62 and 90 of 1000, at 4x 100 and 105; `l1+tic` has 2x alone."""
    root = tmp_path / "runs"
    write(root, "none", 0, np.arange(IMAGES) >= 50, compression_ratio=1.0)
    put(root, "tic", 2, 940)
    put(root, "tic", 4, 895)
    put(root, "l1+tic", 2.02, 938)
    put(root, "kse", 1.98, 910)
    put(root, "kse", 4, 900)
    return root


def points(store: Path) -> list[Table]:
    records = load_records(store)
    return with_leaders(tables_of(summarise(records, store)), records, store)


def leads(table: Table) -> dict[tuple[str, int], bool | None]:
    return {
        (family, target): cell.leads
        for family, row in table.cells.items()
        for target, cell in zip(table.targets, row, strict=True)
        if cell
    }


def test_the_best_and_what_cannot_be_told_apart_from_it_lead(store: Path) -> None:
    """Of the errors that one makes alone there are 2, 30, 28 and 5; exact p-values are 2 to the power of 1 - that."""
    (table,) = points(store)
    assert leads(table) == {
        ("tic", 2): True,
        ("l1+tic", 2): True,
        ("kse", 2): False,
        ("tic", 4): True,
        ("kse", 4): True,
    }


def test_the_number_of_comparisons_counts(store: Path) -> None:
    """8 errors more: p = 0.0078, which is below 0.05 alone and among 5 comparisons, and above it among 8."""
    p = scipy.stats.binomtest(0, 8).pvalue
    assert 4 * p < 0.05 < 7 * p
    put(store, "sharing", 8, 800)
    put(store, "fixed", 8, 792)
    (table,) = points(store)
    assert leads(table)["fixed", 8] is False
    put(store, "sharing", 16, 800)
    put(store, "fixed", 16, 800)
    put(store, "dynamic", 16, 800)
    put(store, "taylor", 16, 800)
    (table,) = points(store)
    assert leads(table)["fixed", 8] is True


def test_against_a_search_by_hand(tmp_path: Path) -> None:
    """Random answers of one seed: McNemar's exact test by scipy, Holm's correction written out."""
    draw = np.random.default_rng(0)
    right: dict[tuple[str, int], Any] = {}
    for family in "abcde":
        for target in (2, 4, 8):
            right[family, target] = draw.random(IMAGES) < draw.uniform(0.8, 0.9)
            values = {"compression_ratio": float(target), "config": {"family": family}}
            write(tmp_path, f"{family} {target}", 0, right[family, target], **values)
    pairs = [pair for pair in combinations(right, 2) if pair[0][1] == pair[1][1]]
    gained = [(int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())) for a, b in pairs]
    tested = [scipy.stats.binomtest(one, one + other).pvalue for one, other in gained]
    order = np.argsort(tested)
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate([(len(order) - n) * tested[i] for n, i in enumerate(order)])
    apart = {frozenset(pair) for pair, p in zip(pairs, corrected, strict=True) if p <= 0.05}
    best = {target: max("abcde", key=lambda f: right[f, target].sum()) for target in (2, 4, 8)}
    expected = {key: frozenset([key, (best[key[1]], key[1])]) not in apart for key in right}
    (table,) = points(tmp_path)
    assert leads(table) == expected and {True, False} == set(expected.values())


def test_without_predictions_nothing_is_said(store: Path) -> None:
    records = load_records(store)
    tables = tables_of(summarise(records))
    assert set(leads(tables[0]).values()) == {None}
    shown = to_markdown(summarise(records), tables)
    assert "| tic | 94.00 | 89.50 |" in shown and "◆" not in shown and "?:" not in shown


def test_what_cannot_be_compared_is_marked_as_such(store: Path) -> None:
    put(store, "fixed", 4, 905, seed=5)
    write(store, "sharing", 0, None, top1=0.99, compression_ratio=2.0, config={"family": "sharing"})
    (table,) = points(store)
    found = leads(table)
    assert found["fixed", 4] is None and found["kse", 4] is None, "the best of 4x shares no seed with the others"
    assert {of for (_, target), of in found.items() if target == 2} == {None}, "the best of 2x kept no predictions"
    put(store, "l1", 8, 800)
    put(store, "tic", 8, 801)
    assert "| sharing | ? 99.00 | – | – |" in (
        text := to_markdown(summarise(load_records(store), store), points(store))
    )
    assert "| tic | ? 94.00 | ? 89.50 | ◆ 80.10 |" in text and "?: not compared with the best" in text


def test_settings_lead_over_all_seeds_of_both(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "tic", 2, 900 + seed, seed)
        put(tmp_path, "kse", 2, 860 + seed, seed)
        put(tmp_path, "l1", 2, 899 + seed, seed)
    (table,) = points(tmp_path)
    assert leads(table) == {("tic", 2): True, ("l1", 2): True, ("kse", 2): False}
    assert "| tic | ◆ 90.10 ±0.25 |" in to_markdown(summarise(load_records(tmp_path)), [table])


def test_markdown_begins_with_the_headline(store: Path) -> None:
    text = to_markdown(summarise(load_records(store), store), points(store))
    assert text.startswith(
        "**At equal size: resnet20 on ramps, weights mine, budget 1 epoch**\n\n"
        "| method | 2× | 4× |\n| --- | ---: | ---: |\n"
        "| dense, 1× | 95.00 | 95.00 |\n"
        "| tic | ◆ 94.00 | ◆ 89.50 |\n"
        "| kse | 91.00 | ◆ 90.00 |\n"
        "| l1+tic | ◆ 93.80 | – |\n\n"
        "Top-1 in percent, for the setting of each method whose gain is nearest to the column's, within 5%."
    )
    assert text.index("Holm") < text.index("**resnet20 on ramps")


def test_the_legend_tells_what_is_there(store: Path) -> None:
    assert legend_of_points([]) == ""
    for family in ("tic", "kse"):
        put(store, family, 30, 500, macs_ratio=4.0, compressed_ratio=2.0)
    told = legend_of_points(points(store))
    for part in ("Size: 2×", "after zstandard", "MACs: 2×", "◆: ", "–: ", "±: ", "Order: "):
        assert part in told
    assert "MACs" not in legend_of_points(points(store)[1:2])


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize(
    "family", ["tic", "l1(granularity=kernel, scope=network)+tic(k=64)+quantize(bits=8)", "x" * 99]
)
def test_no_column_is_lost_in_a_narrow_terminal(tmp_path: Path, width: int, family: str) -> None:
    for target in TARGETS:
        for seed in range(3):
            put(tmp_path, family, target, 790 - 7 * target + 99 * seed, seed)
            put(tmp_path, "kse", target, 790 - 8 * target + 98 * seed, seed)
    records = load_records(tmp_path)
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render_terminal(summarise(records, tmp_path), points(tmp_path)))
    text = console.file.getvalue().split("Top-1 in percent")[0]
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    for target in TARGETS:
        assert f" {target}× " in text
        for right in (790 - 7 * target + 99, 790 - 8 * target + 98):
            assert f"{right / 10:.2f}" in text
    assert len(re.findall(r"±\d+\.\d\d", text)) == 2 * len(TARGETS)
    named = "".join(re.sub(r"\s{2,}.*| ◆.*|±.*", "", line).strip() for line in text.splitlines())
    assert family.replace(" ", "") in named.replace(" ", "")


def test_the_page_has_the_tables_with_headers_and_links(store: Path, tmp_path: Path) -> None:
    records = load_records(store)
    write_html(records, tmp_path / "site", store)
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    section = page.split('<section id="points"')[1].split("</section>")[0]
    assert page.index('id="charts"') < page.index('id="points"') < page.index('id="board"')
    assert section.count("<caption") == section.count("<table") == 1 and "At equal size" in section
    assert re.findall(r'<th scope="col"[^>]*>(.*?)</th>', section) == ["method", "2×", "4×"]
    rows = re.findall(r'<th scope="row">(.*?)</th>', section)
    assert [row.replace("<wbr>", "") for row in rows] == ["dense, 1×", "tic", "kse", "l1+tic"]
    assert section.count("among the best:") == 4 and section.count("<td") == 8
    links = re.findall(r'<a href="(settings/[^"]+)" title="([^"]+)">([\d.]+)</a>', section)
    assert ("tic 2, 2.00×", "94.00") in [link[1:] for link in links] and len(links) == 7
    assert all((tmp_path / "site" / address).is_file() for address, *_ in links)


def test_families_of_strangers_are_text(tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=alert(1)>&amp;|**x**[red]\x1b[31m\n+tic"
    put(tmp_path, "tic", 2, 900, config={"family": evil})
    put(tmp_path, "kse", 2, 900)
    records = load_records(tmp_path)
    write_html(records, tmp_path / "site", tmp_path)
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "<img" not in page and "\x1b" not in page and "&lt;/script&gt;&lt;img" in page
    text = to_markdown(summarise(records), points(tmp_path))
    assert r"&#60;img src=x onerror=alert(1)&#62;&#38;amp;\|\*\*x\*\*\[red\]" in text
    (row,) = (line for line in text.splitlines() if "onerror" in line)
    assert "\x1b" not in row and row.endswith("| ◆ 90.00 |")
    printed = to_text(summarise(records), points(tmp_path))
    assert "[red]" in printed and "\x1b" not in printed


def test_bench_leaderboard_prints_it_first(store: Path, bench_command: Callable[..., Any]) -> None:
    said = bench_command("leaderboard", "--store", store)
    assert said.code == 0 and said.out.startswith("At equal size: resnet20 on ramps") and "◆ 94.00" in said.out
    front = bench_command("leaderboard", "--store", store, "--front", "--format", "md")
    assert "◆" not in front.out and "all their settings are left out" in front.out
