"""The board as a page: the files that are written, and what they hold."""

from __future__ import annotations

import csv
import json
import re
import time
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pandas
import pytest
from PIL import Image

from bench.leaderboard.page import write_html
from bench.leaderboard.setting_page import flatten, number, page_name, read_layers
from bench.leaderboard.summary import load_records
from bench.system.errors import BenchError

from .drawn_records import frame as frame
from .drawn_records import site as site
from .drawn_records import store as store
from .drawn_records import summary as summary
from .drawn_records import write_store

GROUPS_SHOWN = ["Accuracy", "Size", "Arithmetic", "Latency, one image", "Throughput, full batches", "Cost"]


def page_of(site: Path, summary: pandas.DataFrame, dataset: str, setting: str) -> str:
    (row,) = summary[(summary["dataset"] == dataset) & (summary["setting"] == setting)].to_dict("records")
    return (site / "settings" / page_name(row)).read_text(encoding="utf-8")


def cells(page: str, title: str) -> list[list[str]]:
    """Of the first table below a title."""
    table = page.split(f">{title}</h2>")[1].split("</table>")[0]
    rows = re.findall("<tr[^>]*>(.*?)</tr>", table, re.S)
    return [[unescape(cell) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_the_figures_on_the_page_are_those_of_the_summary(site: Path, summary: pandas.DataFrame) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert len(data["tasks"]) == 4 and len(data["task"]) == len(summary) == 4 * 41
    for name in ("top1", "top1_ci95", "compression_ratio", "latency_speedup", "pareto_macs", "seeds"):
        shown = pandas.Series(data["values"][name], dtype="float64")
        expected = summary[name].astype("float64")
        pandas.testing.assert_series_equal(shown, expected, rtol=1e-5, check_names=False)
    stored = pandas.read_parquet(site / "board.parquet")
    pandas.testing.assert_frame_equal(stored.drop(columns="page"), summary)
    assert list(pandas.read_csv(site / "board.csv")["setting"]) == list(summary["setting"])


def test_every_link_leads_to_a_file_and_every_setting_has_a_page(site: Path, summary: pandas.DataFrame) -> None:
    pages = sorted(site.glob("settings/*.html"))
    assert len(pages) == len(summary)
    for page in [site / "index.html", *pages]:
        addresses = re.findall(r'(?:href|src)="([^"#]+)"', page.read_text(encoding="utf-8"))
        assert len(addresses) > 2
        for address in (address for address in addresses if not address.startswith("https://")):
            assert (page.parent / unquote(address)).is_file(), address


def test_the_page_of_a_setting(store: Path, site: Path, frame: pandas.DataFrame, summary: pandas.DataFrame) -> None:
    setting = "l1(granularity=kernel, rate=0.129)+tic(k=485, transforms=4)"
    page = page_of(site, summary, "cifar10", setting)
    trials = frame[(frame["setting"] == setting) & (frame["dataset"] == "cifar10")].sort_values("seed")
    assert f">{setting}</h1>" in page and "resnet20 on cifar10, weights resnet20-cifar10, budget 1 epoch" in page

    with (store / "records" / trials["fingerprint"].iloc[0] / "layers.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    header, *rows = cells(page, "Layers")
    assert [row[0] for row in rows] == [layer["name"] for layer in written]
    for name in ("params", "bits", "macs"):
        column = [row[header.index(name)].replace("\u202f", "") for row in rows]
        assert column == [layer[name] for layer in written]
    smaller = [float(row[header.index("smaller")].rstrip("×")) for row in rows]
    assert smaller == pytest.approx([int(w["bits_dense"]) / int(w["bits"]) for w in written], abs=0.005)

    figures = {name: values for name, *values in cells(page, "Figures")}
    assert figures["figure"] == ["unit", "seed 0", "seed 1", "seed 2", "mean", "field"]
    unit, *top1, mean, field = figures["top-1"]
    assert (unit, field) == ("%", "top1")
    assert [float(value) for value in top1] == pytest.approx(list(100 * trials["top1"]), rel=1e-4)
    assert float(mean) == pytest.approx(100 * trials["top1"].mean(), rel=1e-4)
    assert figures["size"][0] == "×" and figures["time, median"][0] == "ms" and "robust" not in figures
    assert [name for name, *values in cells(page, "Figures") if not values] == GROUPS_SHOWN

    assert unescape(page.split("<pre")[1].split("<code>")[1].split("</code>")[0]) == trials["config"].iloc[0]["command"]
    assert "recipe.finetune_lr" in page and "versions.torch" in page and "stages.2.method" in page


def test_ignored_additions_are_on_the_page_of_a_setting(site: Path, summary: pandas.DataFrame) -> None:
    for method, among in (("kse", True), ("l1", False)):
        row = summary[(summary["method"] == method) & (summary["seeds"] > 0)].to_dict("records")[0]
        page = page_of(site, summary, row["dataset"], row["setting"])
        gain = row["macs_ratio"]
        full = f" ({0.4 * gain:.2f}×)" if among else ""
        assert f"<dt>MACs</dt><dd>{gain:.2f}×{full}</dd>" in page
        assert ("with the additions that the method's formula ignores" in page) == among


def test_pictures_come_along(site: Path, summary: pandas.DataFrame) -> None:
    page = page_of(site, summary, "cifar10", "l1(rate=0.242)")
    (address,) = re.findall(r'<img src="([^"]+)" alt="kernel map, seed 1"', page)
    with Image.open(site / "settings" / unquote(address)) as picture:
        assert picture.size == (40, 30)


def test_failures_and_notes_are_told(site: Path, frame: pandas.DataFrame, summary: pandas.DataFrame) -> None:
    failed = frame[frame["status"] == "failed"].iloc[0]
    page = page_of(site, summary[summary["model"] == failed["model"]], failed["dataset"], failed["setting"])
    assert f"<strong>Seed {failed['seed']} failed:</strong> Diverged: the loss is nan at step 131" in page
    assert "<li>layer3.2.conv2 stays dense: no gain</li>" in page_of(site, summary, "cifar10", "kse(G=1)")


def test_the_same_records_make_the_same_files(store: Path, site: Path, frame: pandas.DataFrame, tmp_path: Path) -> None:
    write_html(frame.sample(frac=1, random_state=0), tmp_path, store)
    for path in site.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(site)).read_bytes() == path.read_bytes(), path


def test_records_without_folders_and_no_records(frame: pandas.DataFrame, tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    lines.write_text(frame.head(3).to_json(orient="records", lines=True))
    write_html(load_records(lines), tmp_path / "out", lines)
    (page, *_) = (tmp_path / "out" / "settings").glob("*.html")
    assert "Figures</h2>" in page.read_text() and "Layers" not in page.read_text()
    write_html(frame.head(0), tmp_path / "empty", tmp_path)
    assert "No records yet" in (tmp_path / "empty" / "index.html").read_text()


def test_a_broken_table_of_layers_is_named(tmp_path: Path) -> None:
    for text in ("name,bits\nconv1,32\nconv2\n", "name,bits_dense,bits\nconv1,32,abc\n"):
        (tmp_path / "layers.csv").write_text(text)
        with pytest.raises(BenchError, match=r"layers\.csv: "):
            read_layers(tmp_path / "layers.csv")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (2304.0, "2304"),
        (35801002.0, "35\u202f801\u202f002"),
        (0.93412345, "0.93412"),
        (123456.7, "123\u202f457"),
        (1.5e-05, "1.5e-05"),
        (-12.5, "-12.5"),
    ],
)
def test_numbers_are_written_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_nested_options_have_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": []}, "stages": [{"k": 2}, {"k": 3}], "mean": [0.5, 0.25], "empty": {}}
    assert dict(flatten(nested)) == {
        "a.b": "1", "a.c": "", "stages.1.k": "2", "stages.2.k": "3", "mean": "0.5, 0.25", "empty": "{}",
    }  # fmt: skip


@pytest.mark.slow
def test_ten_thousand_records_take_no_quadratic_time(tmp_path: Path) -> None:
    write_store(tmp_path / "store", tasks=25, per_task=135, seeds=3)
    assert len(list((tmp_path / "store" / "records").iterdir())) > 10_000
    start = time.process_time()  # of this process: other work on the machine does not count
    write_html(load_records(tmp_path / "store"), tmp_path / "out", tmp_path / "store")
    assert time.process_time() - start < 40, "far more than linear time; tests/benchmarks/ holds the speeds"
    assert len(list((tmp_path / "out" / "settings").iterdir())) == 25 * 135
