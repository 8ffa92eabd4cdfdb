"""Colours and markers of methods, the curves that join their settings, and the labels beside points."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pandas
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from bench.leaderboard import chart
from bench.leaderboard.columns import columns_of
from bench.leaderboard.curves import along, curves
from bench.leaderboard.labels import Box, is_far, place, text_of
from bench.leaderboard.page_data import data
from bench.leaderboard.style import COLOURS, MARKERS, STRANGERS, Style, style_of
from bench.leaderboard.summary import summarise
from bench.plugins import registry

from .board_records import make_record

SHIPPED = [name for name, kind in registry.methods().items() if kind.__module__.startswith("bench_methods")]
CONTROLS = {name for name in SHIPPED if registry.methods()[name].control}
GROUNDS = ("#ffffff", "#14161a")


def board(*settings: tuple[str, str, float, float], **changes: Any) -> pandas.DataFrame:
    """A summary of a dense network and of settings: name, family, top-1 and gain in size."""
    records = [make_record("none", 0, 0.94, 1.0, macs_ratio=1.0, latency_speedup=1.0)]
    for setting, family, top1, gain in settings:
        method = "+".join(stage.split("(")[0] for stage in setting.split("+"))
        given = {"method": method, "macs_ratio": gain, "latency_speedup": 1.0, "config": {"family": family}, **changes}
        records.append(make_record(setting, 0, top1, gain, **given))
    return summarise(pandas.DataFrame([asdict(record) for record in records]))


# Styles --------------------------------------------------------------------------------------------------------------


def test_the_styles_of_shipped_methods_never_change() -> None:
    assert {name: (style_of(name).light, style_of(name).marker) for name in SHIPPED} == {
        "tic": ("#0072b2", "circle"),
        "kse": ("#d55e00", "hexagon"),
        "l1": ("#008f68", "triangle-down"),
        "taylor": ("#c2649a", "triangle-up"),
        "dynamic": ("#b87d00", "diamond"),
        "sharing": ("#2d8fce", "pentagon"),
        "fixed": ("#6c4fa3", "triangle-left"),
        "wcss": ("#7d6340", "triangle-right"),
        "inertia": ("#a3214d", "octagon"),
        "quantize": ("#4b5157", "square"),
        "magnitude": ("#6e757d", "cross"),
        "random": ("#8a9097", "x"),
        "none": ("#2f3439", "diamond-tall"),
        "scratch": ("#2f3439", "star"),
    }


def test_every_shipped_method_declares_its_style() -> None:
    assert len(SHIPPED) == 14
    for name in SHIPPED:
        colour, marker = registry.methods()[name].style or ("", "")
        assert style_of(name) == Style(*COLOURS[colour], marker) and marker in MARKERS


def test_shipped_methods_differ_without_colour_and_pipelines_from_one_another() -> None:
    markers = [style_of(name).marker for name in SHIPPED]
    assert len(set(markers)) == len(markers)
    pipelines = [f"{first}+{last}" for first in SHIPPED for last in ("quantize", "sharing", "tic") if first != last]
    singles = {style_of(name) for name in SHIPPED}
    quantized = [style_of(f"{name}+quantize") for name in SHIPPED if name not in CONTROLS]
    assert len(set(quantized)) == len(quantized) and not singles & set(quantized)
    assert all(style_of(name).marker in MARKERS for name in pipelines)


@pytest.mark.parametrize(
    ("pipeline", "colour", "marker"),
    [
        ("tic+quantize", "tic", "quantize"),
        ("magnitude+sharing", "sharing", "magnitude"),
        ("l1+tic", "l1", "tic"),
        ("magnitude+quantize", "magnitude", "quantize"),
    ],
)
def test_a_pipeline_looks_like_its_methods(pipeline: str, colour: str, marker: str) -> None:
    assert style_of(pipeline) == Style(style_of(colour).light, style_of(colour).dark, style_of(marker).marker)


def test_controls_are_grey_and_others_are_not() -> None:
    def vividness(method: str) -> float:
        return max(to_rgb(style_of(method).light)) - min(to_rgb(style_of(method).light))

    assert all(vividness(name) < 0.08 for name in [*CONTROLS, "random+quantize"])
    assert all(vividness(name) > 0.2 for name in {*SHIPPED, "tic+quantize", "a-stranger"} - CONTROLS)


def test_methods_of_other_packages_keep_their_style() -> None:
    assert style_of("hrank") == style_of("hrank") == Style(*COLOURS["olive"], "pentagon")
    assert style_of("hrank").light in {COLOURS[name][0] for name in STRANGERS}
    assert style_of("l1+tic+quantize") == style_of("l1+tic+quantize")


def luminance(colour: str) -> float:
    parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("name", COLOURS)
def test_colours_stand_out_from_their_ground(name: str) -> None:
    for colour, ground in zip(COLOURS[name], GROUNDS, strict=True):
        dark, light = sorted((luminance(colour), luminance(ground)))
        assert (light + 0.05) / (dark + 0.05) >= 3, colour


def test_page_and_picture_use_the_same_styles() -> None:
    summary = board(("tic(k=64)", "tic", 0.93, 4.0), ("tic(k=16)+quantize(bits=8)", "tic+quantize(bits=8)", 0.92, 9.0))
    styles = data(summary, columns_of(summary))["styles"]
    panel = Figure().subplots()
    chart._draw_panel(panel, summary, "compression_ratio", summary.head(0), chart.Look())
    handles, names = panel.get_legend_handles_labels()
    drawn = {name: handle.lines[0] for handle, name in zip(handles, names, strict=True)}
    for method in ("tic", "tic+quantize"):
        style = style_of(method)
        assert styles[method] | {"outline": ""} == {
            "light": style.light, "dark": style.dark, "symbol": style.marker, "outline": "",
        }  # fmt: skip
        assert (to_hex(drawn[method].get_color()), drawn[method].get_marker()) == (style.light, style.matplotlib)


# Curves --------------------------------------------------------------------------------------------------------------


def test_a_curve_joins_the_settings_of_one_family() -> None:
    summary = board(
        ("l1(rate=0.5)", "l1", 0.92, 2.0),
        ("l1(rate=0.7)", "l1", 0.9, 4.0),
        ("l1(rate=0.5, granularity=kernel)", "l1(granularity=kernel)", 0.93, 2.0),
        ("l1(rate=0.7, granularity=kernel)", "l1(granularity=kernel)", 0.91, 4.0),
    )
    by_setting = dict(zip(summary["setting"], curves(summary), strict=True))
    assert by_setting["l1(rate=0.5)"] == by_setting["l1(rate=0.7)"]
    assert by_setting["l1(rate=0.5, granularity=kernel)"] == by_setting["l1(rate=0.7, granularity=kernel)"]
    assert len(set(by_setting.values())) == 3


def test_settings_without_a_strength_are_joined_if_they_differ_in_numbers_alone() -> None:
    names = ["quantize(bits=8)", "quantize(bits=4)", "odd(mode=a, k=3)", "odd(mode=b, k=3)"]
    summary = board(*((name, name, 0.93, 4.0) for name in names))
    numbers = dict(zip(summary["setting"], curves(summary), strict=True))
    assert numbers["quantize(bits=8)"] == numbers["quantize(bits=4)"]
    assert len({numbers[name] for name in names}) == 3 and numbers["none"] not in {numbers[name] for name in names}


def test_curves_are_joined_from_the_largest_file() -> None:
    summary = board(
        ("l1(rate=0.7)", "l1", 0.9, 4.0), ("l1(rate=0.5)", "l1", 0.92, 2.0), ("l1(rate=0.9)", "l1", 0.8, 9.0)
    )
    own = summary[summary["method"] == "l1"]
    assert list(along(own)["compression_ratio"]) == [2.0, 4.0, 9.0]
    assert curves(summary.head(0)).empty


# Labels --------------------------------------------------------------------------------------------------------------


def test_labels_cover_neither_points_nor_one_another() -> None:
    points = [(40.0 * place, 100.0) for place in range(1, 9)]
    frame = Box(0, 0, 400, 200)
    boxes = place(points, [(60.0, 10.0)] * len(points), points, frame)
    placed = [box for box in boxes if box]
    assert len(placed) >= 6 and all(box.within(frame) for box in placed)
    assert not any(a.meets(b) for a in placed for b in placed if a is not b)
    assert not any(box.left < x < box.right and box.bottom < y < box.top for box in placed for x, y in points)
    assert not is_far(placed[0], points[0])


def test_a_label_without_room_is_left_out() -> None:
    assert place([(5.0, 5.0)], [(60.0, 10.0)], [(5.0, 5.0)], Box(0, 0, 20, 20)) == [None]
    assert is_far(Box(10, 60, 70, 70), (5.0, 5.0))


def test_a_long_setting_is_labelled_by_its_method() -> None:
    assert text_of("tic(k=64)", "tic") == "tic(k=64)"
    assert text_of("l1(rate=0.5)+quantize(bits=8)", "l1+quantize") == "l1+quantize"


# Pictures ------------------------------------------------------------------------------------------------------------


class Kept(Figure):
    """The last figure that was drawn."""

    last: Kept

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        Kept.last = self


def entries(summary: pandas.DataFrame, kind: str, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, list[str]]:
    """The file, and what its legend says."""
    monkeypatch.setattr(chart, "Figure", Kept)
    file = chart.draw(summary, kind=kind)
    (legend,) = Kept.last.subfigs[0].legends
    return file, [text.get_text() for text in legend.get_texts()]


METHODS = ("tic", "kse", "l1", "taylor", "dynamic", "sharing", "fixed", "wcss", "inertia", "quantize")


def test_a_page_for_printing_has_vectors_and_at_most_eight_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        (f"{name}(x={x})", name, 0.93 - 0.002 * i - 0.01 * x, 2.0**x) for i, name in enumerate(METHODS) for x in (1, 2)
    ]
    file, names = entries(board(*settings), "pdf", monkeypatch)
    assert file.startswith(b"%PDF") and not re.search(rb"/Subtype\s*/Image", file)
    assert names == ["dense", *METHODS[:6], "4 more"]
    assert chart.draw(board(*settings), kind="pdf") == file, "equal boards give equal files"
    file, names = entries(board(*settings), "png", monkeypatch)
    assert file.startswith(b"\x89PNG") and set(names) == {"dense", *METHODS}


def test_hidden_settings_leave_nothing_in_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither their points, nor their intervals, nor the end of the front that leads to them."""
    summary = board(("l1(rate=0.5)", "l1", 0.93, 2.0), ("l1(rate=0.9)", "l1", 0.4, 16.0)).assign(top1_ci95=0.3)
    panel = Figure().subplots()
    labelled = chart._draw_panel(panel, summary, "compression_ratio", summary[summary["pareto"]], chart.Look())
    reached = [x for line in panel.get_lines() for x in line.get_xdata()]
    reached += [x for bars in panel.collections for path in bars.get_paths() for x in path.vertices[:, 0]]
    assert max(reached) == 2.0
    assert any(text.get_text() == "1 below" for text in panel.texts)
    assert labelled is not None and list(labelled.front["setting"]) == ["l1(rate=0.5)"]
