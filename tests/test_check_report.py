"""The gate's report as a table, as Markdown and as JUnit's XML, against golden files; and the file of a baseline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from bench.gate.check import Report, compare
from bench.gate.expected import pack_outcomes, read_baseline, write_baseline
from bench.gate.report import lines, render_terminal, to_junit, to_markdown
from bench.gate.verdict import Limits
from bench.system.errors import BenchError

from .gate_trials import CPU, dense, trial


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    trials = [dense(), trial(wrong=range(3), error="x"), trial(seed=1, kept=False, latency_speedup=None)]
    write_baseline(tmp_path / "b.json", reversed(trials))
    assert read_baseline(tmp_path / "b.json") == trials
    first = (tmp_path / "b.json").read_bytes()
    write_baseline(tmp_path / "b.json", trials)
    assert (tmp_path / "b.json").read_bytes() == first, "whatever the order of the trials"
    assert b'\n    "artifact_bytes": 100000,\n' in first, "a line a figure"


def test_a_thousand_classes_take_about_a_bit_an_image() -> None:
    random = np.random.default_rng(0)
    offsets = np.where(random.random(10_000) < 0.06, random.integers(-999, 999, 10_000), 0).astype(np.int32)
    packed = trial(outcomes=pack_outcomes(offsets))
    assert packed.offsets is not None and np.array_equal(packed.offsets, offsets)
    assert len(packed.outcomes or "") < 10_000 / 3
    with pytest.raises(BenchError, match=r"outcomes of tic\(k=64\), seed 0, are damaged"):
        _ = trial(outcomes="AAAA").offsets


REPORT = compare(
    [
        dense(),
        trial(wrong=range(1)),
        trial("kse(G=4)"),
        trial("kse(G=4)", seed=1),
        trial("l1(granularity=kernel, rate=0.5)+tic(k=128)", budget_epochs=5),
        trial("l1(rate=0.5)", budget_epochs=5),
    ],
    [
        dense(),
        trial(wrong=range(1, 20), loss=0.5, artifact_bytes=104_000, macs=50_000_000, latency_speedup=0.5,
              latency_speedup_low=0.4, latency_speedup_high=0.6),
        trial("kse(G=4)", artifact_bytes=90_000),
        trial("kse(G=4)", seed=1, artifact_bytes=95_000),
        trial("l1(granularity=kernel, rate=0.5)+tic(k=128)", budget_epochs=5, status="failed", top1=None, loss=None,
              error="diverged | <b> @all"),
        trial("taylor(rate=0.3)", budget_epochs=5, device="cuda: H100"),
    ],
    Limits(),
)  # fmt: skip

GOLDEN = Path(__file__).parent / "golden"


def table(report: Report, width: int = 100) -> str:
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as caught:
        console.print(render_terminal(report))
    return "\n".join(line.rstrip() for line in caught.get().splitlines()) + "\n"


def test_the_table() -> None:
    expected = (GOLDEN / "gate.txt").read_text()
    assert table(REPORT) == expected and max(map(len, expected.splitlines())) <= 100
    assert "dense" in table(REPORT, 80) and "tic(k=64)" in table(REPORT, 80)


def test_the_markdown() -> None:
    assert to_markdown(REPORT, Path("results/ci-baseline.json"), Path("runs")) == (GOLDEN / "gate.md").read_text()


def test_the_junit_xml() -> None:
    there = replace(trial(macs=39_000_000), device="cuda: H100")
    gone = trial("l1(rate=0.5)", budget_epochs=5)
    assert to_junit(compare([trial(), gone], [there], Limits())) == (GOLDEN / "gate.xml").read_text()


def test_junit_counts_what_it_holds_and_names_each_case_once() -> None:
    suites = ElementTree.fromstring(to_junit(REPORT))
    names = [(case.get("classname"), case.get("name")) for case in suites.iter("testcase")]
    assert len(names) == len(set(names)), "GitLab takes the first of two with the same name"
    for suite in suites:
        for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
            assert int(suite.attrib[attribute]) == len(list(suite.iter(tag)))
    failed = [found for found in suites.iter("failure")]
    assert len(failed) == 7 and all(found.text == found.get("message") for found in failed)


def test_what_settings_share_is_said_once() -> None:
    there = [replace(one, device="cuda: H100") for one in (dense(), trial())]
    told = [text for _, text in lines(compare([dense(), trial()], there, Limits()))]
    assert told == [
        f"○ outputs not compared: measured on {CPU}, here on cuda: H100 (2 of 2 settings)",
        f"○ latency not compared: measured on {CPU}, here on cuda: H100 (2 of 2 settings)",
    ]
