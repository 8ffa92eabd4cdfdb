"""The board as a page: what is written, and how it behaves in a browser, with records of trials that never ran."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from html import escape, unescape
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pandas
import pytest
from PIL import Image

from bench.leaderboard.page import to_page, write_html
from bench.leaderboard.setting_page import flatten, number, page_name, read_layers
from bench.leaderboard.summary import DENSE, FRONTS, load_records, summarise
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NETWORKS = {
    "resnet20": (0.27e6, 40e6),
    "resnet56": (0.85e6, 126e6),
    "vgg16_cifar": (14.7e6, 313e6),
    "resnet50": (23.5e6, 4100e6),
}
"""Weights and MACs."""
DATASETS = {"fashion-mnist": 0.94, "cifar10": 0.925, "cifar100": 0.69, "imagenet": 0.76}
DEVICES = ("cpu: AMD EPYC (2 threads)", "cuda: NVIDIA H100 80GB HBM3")
METHODS = {
    "tic": (0.4, 0.05, 0.0),
    "kse": (0.7, 0.6, 0.0),
    "l1": (1.6, 0.9, 0.55),
    "taylor": (1.2, 0.95, 0.6),
    "hrank": (1.3, 0.9, 0.5),
    "dynamic": (1.0, 0.5, 0.0),
    "random": (2.6, 0.9, 0.55),
    "l1+tic": (0.7, 0.4, 0.3),
}
"""Points of accuracy lost as the size goes down, and how much of that gain MACs and latency share."""
Trial = dict[str, Any]


def draw_settings(count: int) -> Iterator[tuple[str, str, float]]:
    """Method, setting, and how many times smaller it aims to be; dense first."""
    yield "none", "none", 1.0
    for index in range(count - 1):
        method, step = list(METHODS)[index % len(METHODS)], index // len(METHODS)
        gain = 2 ** (0.4 + 4 * step * len(METHODS) / count)
        special = {
            "tic": f"tic(k={int(640 / gain)})",
            "kse": f"kse(G={1 + step})",
            "l1+tic": f"l1(granularity=kernel, rate={1 - gain**-0.5:.3g})+tic(k={int(640 / gain)}, transforms=4)",
        }
        yield method, special.get(method, f"{method}(rate={1 - 1 / gain:.3g})"), gain


def draw_trials(tasks: int, per_task: int, seeds: int) -> Iterator[Trial]:
    draw = random.Random(0)
    places = [(m, d, e, b) for e in DEVICES for b in (1.0, 10.0) for m in NETWORKS for d in DATASETS][:tasks]
    for model, dataset, device, budget in places:
        task = {"model": model, "dataset": dataset, "device": device, "budget_epochs": budget}
        dense = DATASETS[dataset] + draw.uniform(-0.01, 0.01)
        for method, setting, gain in draw_settings(per_task):
            for seed in range(1 if method == "none" else seeds):
                trial = describe({**task, "method": method, "setting": setting, "seed": seed})
                yield trial | (FAILURE if draw.random() < 0.004 else measure(trial, dense, gain, draw))


FAILURE = {"status": "failed", "error": "Diverged: the loss is nan at step 131"}


def describe(trial: Trial) -> Trial:
    """What is known before it runs."""
    names = [trial[name] for name in ("model", "dataset", "device", "budget_epochs", "setting", "seed")]
    words = {"methods": f"'{trial['setting']}'", "models": trial["model"], "dataset": trial["dataset"]}
    return trial | {
        "fingerprint": sha256(str(names).encode()).hexdigest()[:16],
        "weights": f"{trial['model']}-{trial['dataset']}",
        "started_at": f"2026-11-20T10:{trial['seed']:02}:00.000+00:00",
        "versions": {"python": "3.12.4", "torch": "2.11.0", "timm": "1.0.31"},
        "config": {
            "protocol": 1,
            "stages": [{"method": stage, "rate": 0.5} for stage in trial["method"].split("+")],
            "preprocessing": {"size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3},
            "recipe": {"epochs": 4, "batch_size": 128, "lr": 0.1, "finetune_lr": 0.01, "momentum": 0.9},
            "seed": trial["seed"],
            "command": "bench run " + " ".join(f"--{name} {word}" for name, word in words.items()),
        },
        "notes": ["layer3.2.conv2 stays dense: no gain"] if trial["method"] == "kse" else [],
    }


def measure(trial: Trial, dense: float, gain: float, draw: random.Random) -> Trial:
    """What might come out."""
    lost, arithmetic, speed = METHODS.get(trial["method"], (0, 1, 1))
    drop = lost / 100 * (gain - 1) ** 0.8 / trial["budget_epochs"] ** 0.2 + (lost > 0) * draw.gauss(0, 0.0015)
    noise = 1 + draw.gauss(0, 0.012)
    params, macs = NETWORKS[trial["model"]]
    return {
        "status": "ok",
        "error": None,
        "epochs_spent": trial["budget_epochs"] if lost else 0.0,
        **{"top1": dense - drop, "top1_dense": dense, "top1_drop": drop, "loss": 1 - dense + drop},
        **{"compression_ratio": 1.01 * gain, "artifact_bytes": int(4 * params / gain), "dense_bytes": int(4 * params)},
        **{"macs": int(macs / gain**arithmetic), "macs_dense": int(macs), "macs_ratio": gain**arithmetic},
        **({"macs_full_ratio": 0.4 * gain**arithmetic} if trial["method"] == "kse" else {}),
        **{"latency_speedup": gain ** (0.8 * speed) * noise, "latency_ms_p50": 3 / noise},
        **{"throughput_speedup": gain**speed * noise, "throughput_ips": 1757.8 * gain**speed * noise},
        **{"throughput_batch": 32, "compress_seconds": 1.25, "fit_seconds": 31.5, "duration_seconds": 52.5},
    }


def draw_layers(trial: Trial) -> str:
    """layers.csv, as of a network with 19 convolutions."""
    lines = [
        "name,shape,encoding,params_dense,params,bits_dense,bits,macs_dense,macs,reason",
        "conv1,16x3x3x3,dense,432,432,13824,13824,442368,442368,the first convolution stays dense",
    ]
    for stage, block in product(range(1, 4), range(6)):
        width = 8 * 2**stage
        counts = [factor * 9 * width * width for factor in (1, 32, 59)]
        pairs = ",".join(f"{count},{int(0.9 * count / trial['compression_ratio'])}" for count in counts)
        lines.append(f"layer{stage}.{block}.conv1,{width}x{width}x3x3,scaled-kernels,{pairs},")
    return "\n".join(lines) + "\n"


def write_store(root: Path, tasks: int, per_task: int, seeds: int) -> None:
    for trial in draw_trials(tasks, per_task, seeds):
        folder = root / "records" / trial["fingerprint"]
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(trial, indent=2))
        if trial["status"] == "ok":
            (folder / "layers.csv").write_text(draw_layers(trial))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tasks with 41 settings and three seeds; one trial has a picture."""
    root = tmp_path_factory.mktemp("store")
    write_store(root, tasks=4, per_task=41, seeds=3)
    (folder,) = (path.parent for path in root.glob("records/*/record.json") if is_pictured(path))
    Image.new("RGB", (40, 30), "teal").save(folder / "kernel map.png")
    return root


def is_pictured(path: Path) -> bool:
    record = json.loads(path.read_text())
    return (record["dataset"], record["setting"], record["seed"]) == ("cifar10", "l1(rate=0.242)", 1)


@pytest.fixture(scope="module")
def frame(store: Path) -> pandas.DataFrame:
    return load_records(store)


@pytest.fixture(scope="module")
def summary(frame: pandas.DataFrame) -> pandas.DataFrame:
    return summarise(frame)


@pytest.fixture(scope="module")
def site(store: Path, frame: pandas.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    write_html(frame, out, store)
    return out


def page_of(site: Path, summary: pandas.DataFrame, dataset: str, setting: str) -> str:
    (row,) = summary[(summary["dataset"] == dataset) & (summary["setting"] == setting)].to_dict("records")
    return (site / "settings" / page_name(row)).read_text(encoding="utf-8")


def cells(page: str, title: str) -> list[list[str]]:
    """Of the first table below a title."""
    table = page.split(f">{title}</h2>")[1].split("</table>")[0]
    rows = re.findall("<tr>(.*?)</tr>", table, re.S)
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
        for address in addresses:
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

    figures = {name: values for name, *values in cells(page, "Seeds")}
    assert figures["figure"] == ["seed 0", "seed 1", "seed 2", "mean"]
    assert [float(value) for value in figures["top1"][:3]] == pytest.approx(list(trials["top1"]), rel=1e-4)
    assert float(figures["top1"][3]) == pytest.approx(trials["top1"].mean(), rel=1e-4)
    assert "robust_top1" not in figures

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
    assert "Seeds</h2>" in page.read_text() and "Layers" not in page.read_text()
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


# In a browser -------------------------------------------------------------------------------------------------------


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
    inside.get_by_role("button", name="Dark colours").click()
    inside.get_by_role("button", name="kse", exact=True).click()
    assert inside.locator("#board tbody td:nth-child(2)").first.inner_text().startswith("kse(")
