"""The gate's verdicts against p-values worked out by hand, its files, and the command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from bench.comparing.paired import holm
from bench.gate.check import Report, compare, match
from bench.gate.expected import Measured, pack_outcomes, read_baseline, read_store, write_baseline
from bench.gate.report import lines, render_terminal, to_junit, to_markdown
from bench.gate.verdict import Finding, Limits, Verdict, discordant, p_value
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError

Say = Callable[..., Any]
CPU = "cpu: One (2 threads)"


def trial(
    setting: str = "tic(k=64)", wrong: range | None = None, images: int = 200, *, kept: bool = True, **changes: Any
) -> Measured:
    """Of its images those in `wrong` are misclassified by one class."""
    missed = range(20) if wrong is None else wrong
    offsets = np.zeros(images, np.int32)
    offsets[list(missed)] = 1
    values: dict[str, Any] = {
        "setting": setting,
        "stages": [{"method": setting}],
        "model": "resnet20",
        "dataset": "fashion-mnist",
        "weights": "shipped",
        "budget_epochs": 1.0,
        "seed": 0,
        "status": "ok",
        "device": CPU,
        "versions": {"torch": "2.11", "cnn-compression-bench": "0.1"},
        "sources": ["abc"],
        "conditions": {"protocol": 1, "dataset_digest": "d"},
        "top1": 1 - len(missed) / images,
        "loss": 0.25,
        "artifact_bytes": 100_000,
        "params": 30_000,
        "macs": 40_000_000,
        "latency_speedup": 1.0,
        "latency_speedup_low": 0.95,
        "latency_speedup_high": 1.05,
        "outcomes": pack_outcomes(offsets) if kept else None,
    }
    return Measured(**{**values, **changes})


def dense(**changes: Any) -> Measured:
    return trial("none", **changes)


def judged(before: Measured, after: Measured, limits: Limits | None = None, **changes: Any) -> dict[str, Finding]:
    """The findings of one trial, with the same dense network beside it on both sides."""
    report = compare([dense(), before], [dense(**changes), after], limits or Limits())
    return {finding.figure: finding for finding in report.rows[1].findings}


def verdicts(found: dict[str, Finding]) -> dict[str, Verdict]:
    return {figure: finding.verdict for figure, finding in found.items() if finding.verdict is not Verdict.SAME}


# 200 images: 8 get worse and 2 better, or 9 and 1.
EIGHT_TWO = (range(0, 2), range(2, 10))
NINE_ONE = (range(0, 1), range(1, 10))


def test_one_seed_is_mcnemars_exact_test() -> None:
    before, after = (trial(wrong=wrong) for wrong in EIGHT_TWO)
    assert discordant([(before, after)]) == (8, 2)
    assert p_value([(before, after)]) == pytest.approx((45 + 10 + 1) / 1024)
    before, after = (trial(wrong=wrong) for wrong in NINE_ONE)
    assert p_value([(before, after)]) == pytest.approx(11 / 1024)
    assert p_value([(after, before)]) == pytest.approx(1023 / 1024)
    assert p_value([(before, before)]) == 1


def test_an_image_counts_once_however_many_seeds_there_are() -> None:
    before = [trial(wrong=range(0), seed=seed) for seed in (0, 1, 2)]
    after = [trial(wrong=range(5), seed=seed) for seed in (0, 1)] + [trial(wrong=range(4, 6), seed=2)]
    pairs = list(zip(before, after, strict=True))
    assert discordant(pairs) == (6, 0) and p_value(pairs) == pytest.approx(1 / 64)
    # One seed loses an image that another wins: it got neither better nor worse.
    pairs = [(trial(wrong=range(1)), trial(wrong=range(0))), (trial(wrong=range(0)), trial(wrong=range(1)))]
    assert discordant(pairs) == (0, 0)


def test_other_images_leave_fishers_exact_test() -> None:
    other = {"protocol": 1, "dataset_digest": "e"}
    before = trial(wrong=range(0), images=4)
    after = trial(wrong=range(3), images=4, conditions=other)
    assert p_value([(before, after)]) == pytest.approx(4 / 56), "all three errors on one side: C(4,3) of C(8,3)"
    # A second seed on the same images adds no images.
    assert p_value([(before, after)] * 2) == pytest.approx(4 / 56)


def test_without_predictions_seeds_are_compared_by_welchs_test() -> None:
    def side(*wrong: int) -> list[Measured]:
        return [trial(wrong=range(count), images=100, kept=False) for count in wrong]

    # Means 0.91 and 0.81, variances 0.0002: t = 0.1 / sqrt(0.0002), 2 degrees of freedom, whose tail is elementary.
    t = 0.1 / 0.0002**0.5
    assert p_value(list(zip(side(8, 10), side(18, 20), strict=True))) == pytest.approx(
        0.5 - t / (2 * (t * t + 2) ** 0.5)
    )
    assert p_value(list(zip(side(8, 8), side(9, 9), strict=True))) == 0
    assert p_value(list(zip(side(8, 8), side(8, 8), strict=True))) == 1
    assert p_value(list(zip(side(8), side(9), strict=True))) is None


def test_p_values_are_corrected_by_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.04, None, 0.5, 0.9]) == [pytest.approx(0.12), None, 1, 1]
    assert holm([None]) == [None] and holm([]) == []


def test_a_drop_is_a_regression_where_it_is_significant_and_beyond_the_tolerance() -> None:
    before, after = (trial(wrong=wrong) for wrong in EIGHT_TWO)
    assert judged(before, after)["top-1"].verdict is Verdict.SAME, "p = 0.055"
    before, after = (trial(wrong=wrong) for wrong in NINE_ONE)
    found = judged(before, after)["top-1"]
    assert (found.verdict, found.cell) == (Verdict.REGRESSION, "95.50 (-4.00)")
    assert found.text == "top-1 99.50% → 95.50% (p = 0.021)", "11 / 1024, twice for two settings"
    assert judged(before, after, Limits(tolerance=0.041))["top-1"].verdict is Verdict.SAME
    assert judged(after, before)["top-1"].verdict is Verdict.IMPROVED


def test_many_settings_make_a_drop_less_surprising() -> None:
    before, after = (trial(wrong=wrong) for wrong in NINE_ONE)
    others = [trial(f"l1(rate=0.{digit})") for digit in (1, 2, 3)]
    report = compare([before, *others], [after, *others], Limits())
    assert report.rows[0].findings[1].verdict is Verdict.REGRESSION, "4 x 11/1024 = 0.043"
    others.append(trial("kse"))
    report = compare([before, *others], [after, *others], Limits())
    assert report.rows[0].findings[1].verdict is Verdict.SAME, "5 x 11/1024 = 0.054"


def test_a_certain_but_small_drop_is_within_the_tolerance() -> None:
    before, after = trial(wrong=range(0), images=10_000), trial(wrong=range(40), images=10_000)
    assert p_value([(before, after)]) == pytest.approx(2**-40)
    assert judged(before, after)["top-1"].verdict is Verdict.SAME
    assert judged(before, after, Limits(tolerance=0.003))["top-1"].verdict is Verdict.REGRESSION
    assert judged(before, after, Limits(tolerance=0.004))["top-1"].verdict is Verdict.SAME, "to the last image"


def test_other_arithmetic_may_train_another_network() -> None:
    before = trial(wrong=range(100))  # 40 points below the dense network: 8, and the tolerance
    for wrong, changes, verdict in (
        (116, {}, Verdict.REGRESSION),
        (116, {"device": "cpu: Two"}, Verdict.MOVED),
        (84, {"device": "cpu: Two"}, Verdict.MOVED),
        (120, {"device": "cpu: Two"}, Verdict.REGRESSION),
    ):
        found = judged(before, trial(wrong=range(wrong), **changes), **changes)["top-1"]
        assert found.verdict is verdict, (wrong, changes, found.text)
    assert (
        "measured on cpu: One (2 threads), here on cpu: Two, which explains up to 8.50 points"
        in judged(before, trial(wrong=range(116), device="cpu: Two"), device="cpu: Two")["top-1"].text
    )


def test_one_seed_without_predictions_is_judged_by_the_tolerance_alone() -> None:
    before = trial(kept=False, top1=0.9)
    assert judged(before, replace(before, top1=0.896))["top-1"].verdict is Verdict.SAME
    assert judged(before, replace(before, top1=0.894))["top-1"].verdict is Verdict.REGRESSION


@pytest.mark.parametrize("field", ["artifact_bytes", "params", "macs"])
def test_any_growth_is_a_regression(field: str) -> None:
    before, figure = trial(), {"artifact_bytes": "artifact bytes", "params": "parameters", "macs": "MACs"}[field]
    count = getattr(before, field)
    assert verdicts(judged(before, replace(before, **{field: count + 1}))) == {figure: Verdict.REGRESSION}
    found = judged(before, replace(before, **{field: count - 1}))
    assert verdicts(found) == {figure: Verdict.IMPROVED}
    assert found[figure].text == f"{figure} {count:,} → {count - 1:,} (-1)"


def test_of_several_seeds_one_that_grew_is_enough() -> None:
    before = [trial(seed=seed) for seed in (0, 1)]
    after = [replace(before[0], macs=30_000_000), replace(before[1], macs=40_000_001)]
    _, row = compare([dense(), *before], [dense(), *after], Limits()).rows
    (found,) = (finding for finding in row.findings if finding.figure == "MACs")
    assert found.verdict is Verdict.REGRESSION and found.text.endswith("→ 40,000,001 (+1)")


def test_on_another_device_a_method_may_decide_a_tie_otherwise() -> None:
    before, there = trial(), "cpu: Other (2 threads)"
    moved = judged(before, replace(before, device=there, macs=40_400_000))["MACs"]
    assert moved.verdict is Verdict.MOVED and "measured on cpu: One (2 threads), here on cpu: Other" in moved.text
    assert judged(before, replace(before, device=there, macs=40_400_001))["MACs"].verdict is Verdict.REGRESSION


def test_other_outputs_where_nothing_but_the_code_differs() -> None:
    before = trial()
    after = replace(trial(wrong=range(1, 21)), loss=0.2500001, sources=["abd"])
    found = judged(before, after)
    assert verdicts(found) == {"outputs": Verdict.CHANGED}
    assert found["outputs"].text == (
        "different outputs although only the code differs: loss 0.25 → 0.2500001, 2 of 200 predictions; "
        "the method's file changed"
    )
    assert verdicts(judged(before, after, Limits(exact=False))) == {"outputs": Verdict.MOVED}
    ours = replace(after, versions={"torch": "2.11", "cnn-compression-bench": "0.2"})
    assert verdicts(judged(before, ours)) == {"outputs": Verdict.CHANGED}, "our own version is what is judged"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"versions": {"torch": "2.15"}}, "torch 2.11 → 2.15"),
        ({"conditions": {"protocol": 1, "dataset_digest": "d", "weights_digest": "w"}}, "another weights_digest"),
        ({"device": "cpu: Two (1 thread)"}, f"measured on {CPU}, here on cpu: Two (1 thread)"),
    ],
)
def test_outputs_are_not_compared_where_more_differs(change: dict[str, Any], reason: str) -> None:
    found = judged(trial(), replace(trial(), loss=0.3, **change))["outputs"]
    assert (found.verdict, found.text) == (Verdict.NOT_COMPARED, f"outputs not compared: {reason}")


def test_the_dense_network_tells_whether_a_machine_computes_the_same() -> None:
    before, after = trial(), trial(loss=0.3)
    assert judged(before, after)["outputs"].verdict is Verdict.CHANGED
    found = judged(before, after, loss=0.25 * (1 + 1e-7))["outputs"]
    assert found.verdict is Verdict.NOT_COMPARED and "adds in another order" in found.text
    # More than rounding can do: the harness itself measures otherwise.
    report = compare([dense(), before], [dense(loss=0.2501), before], Limits())
    assert [row.verdict for row in report.rows] == [Verdict.CHANGED, Verdict.SAME]
    (alone,) = compare([before], [after], Limits()).rows
    assert not alone.verdict.fails


def test_a_gpu_adds_in_no_fixed_order() -> None:
    before = trial(device="cuda: H100")
    assert judged(before, replace(before, loss=0.3))["outputs"].text.endswith("a GPU adds in no fixed order")


def timed(ratio: float, half: float, **changes: Any) -> Measured:
    return trial(latency_speedup=ratio, latency_speedup_low=ratio - half, latency_speedup_high=ratio + half, **changes)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (timed(0.8, 0.05), Verdict.REGRESSION),
        (timed(0.8, 0.16), Verdict.SAME),  # the intervals touch
        (timed(0.91, 0.01), Verdict.SAME),  # they do not, but it is little
        (timed(1.2, 0.05), Verdict.IMPROVED),
        (timed(1.2, 0.16), Verdict.SAME),
        (timed(0.5, 0.01, device="cpu: Other (1 thread)"), Verdict.NOT_COMPARED),
        (timed(0.5, 0.01, latency_noisy=True), Verdict.NOT_COMPARED),
        (trial(latency_speedup=None), Verdict.REGRESSION),
        (trial(latency_speedup=0.5, latency_speedup_low=None, latency_speedup_high=None), Verdict.NOT_COMPARED),
    ],
)
def test_latency_is_judged_with_its_noise(after: Measured, verdict: Verdict) -> None:
    assert judged(timed(1, 0.05), after)["latency"].verdict is verdict


def test_a_slowdown_must_show_in_every_seed() -> None:
    before = [timed(1, 0.05, seed=seed) for seed in (0, 1)]
    for ratios, verdict in (((0.5, 0.8), Verdict.REGRESSION), ((0.5, 1.0), Verdict.SAME)):
        after = [timed(ratio, 0.05, seed=seed) for seed, ratio in enumerate(ratios)]
        assert compare(before, after, Limits()).rows[0].verdict is verdict


def test_trials_are_matched_by_what_was_chosen() -> None:
    stages = [{"method": "tic", "k": 64, "transforms": 8}]
    before = [
        trial(stages=stages),
        trial(stages=[{"method": "tic", "k": 64, "transforms": 4}]),
        trial(stages=stages, seed=1),
    ]
    after = [replace(one, device="cuda: H100", versions={}, sources=["new"]) for one in reversed(before)]
    assert [(one.stages, one.seed) for one, _ in match(before, after)] == [
        (other.stages, other.seed) for _, other in match(before, after) if other
    ]
    # An option that came later is no other trial, one with another value is.
    grown = replace(before[0], stages=[{**stages[0], "codebook": "network"}])
    assert match(before[:1], [grown]) == [(before[0], grown)]
    other = replace(before[0], stages=[{**stages[0], "transforms": 2}])
    assert match(before[:1], [other]) == [(before[0], None), (None, other)]
    for change in ({"budget_epochs": 2.0}, {"weights": "mine"}, {"model": "resnet56"}, {"dataset": "svhn"}):
        assert len(match(before[:1], [replace(before[0], **change)])) == 2


def test_missing_failed_and_new_trials_are_named() -> None:
    seeds = [trial(seed=seed) for seed in (0, 1, 2)]
    (row,) = compare(seeds, seeds[:1], Limits()).rows
    assert row.verdict is Verdict.REGRESSION and row.findings[0].text == "missing from the store (seeds 1, 2)"
    failed = replace(seeds[0], status="failed", top1=None, loss=None, error="out of\nmemory")
    (row,) = compare(seeds[:1], [failed], Limits()).rows
    assert row.verdict is Verdict.REGRESSION and row.findings[0].text == "failed (seed 0): out of memory"
    (row,) = compare([], [failed], Limits()).rows
    assert row.verdict is Verdict.REGRESSION, "new, and it does not work"
    (row,) = compare(seeds[:1], seeds[:2], Limits()).rows
    assert row.verdict is Verdict.NEW and not row.verdict.fails
    assert row.findings[0].text == "new: not in the baseline (seed 1)"
    elsewhere = trial(model="resnet56")
    rows = compare([seeds[0], elsewhere], [seeds[0], elsewhere, trial("kse")], Limits()).rows
    assert [(row.task.split()[0], row.setting) for row in rows] == [
        ("resnet20", "tic(k=64)"), ("resnet20", "kse"), ("resnet56", "tic(k=64)"),
    ], "a task's settings stay together"  # fmt: skip


def test_figures_of_another_protocol_are_not_mixed() -> None:
    with pytest.raises(BenchError, match=r"tic\(k=64\) was measured by another protocol"):
        compare([trial()], [trial(conditions={"protocol": 2})], Limits())


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


def keep(store: Store, one: Measured, started: str = "2026-01-01T00:00:00+00:00") -> None:
    """Write a trial as `bench run` does."""
    same = {name: getattr(one, name) for name in Record.__dataclass_fields__ if hasattr(one, name)}
    fingerprint = f"{abs(hash((one.setting, one.seed, one.device, started))):016x}"[:16]
    config = {"stages": one.stages, "sources": one.sources, **one.conditions}
    record = Record(**same, fingerprint=fingerprint, method="x", started_at=started, config=config)
    with store.prepare(fingerprint) as folder:
        write_record(record, folder)
        if one.offsets is not None:
            labels = np.zeros_like(one.offsets)
            save_file(
                {"predictions": one.offsets, "labels": labels, "dense": labels}, folder / "predictions.safetensors"
            )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    for one in (dense(), trial(wrong=range(1))):
        keep(store, one)
    return store


@pytest.fixture
def words(store: Store, tmp_path: Path) -> list[str]:
    """A command that finds no difference."""
    write_baseline(tmp_path / "b.json", read_store(store.root))
    return ["check", str(tmp_path / "b.json"), "--store", str(store.root)]


def test_a_store_is_read_with_its_predictions(store: Store) -> None:
    found = {one.setting: one for one in read_store(store.root)}
    assert found.keys() == {"none", "tic(k=64)"}
    for expected in (dense(), trial(wrong=range(1))):
        one = found[expected.setting]
        assert expected.conditions.items() <= one.conditions.items()
        assert replace(one, conditions=expected.conditions) == expected


def test_of_a_trial_measured_twice_the_last_counts(store: Store) -> None:
    keep(store, trial(macs=1, sources=["new"]), "2026-01-02T00:00:00+00:00")
    assert {one.macs for one in read_store(store.root) if one.setting == "tic(k=64)"} == {1}


def test_exit_codes(words: list[str], store: Store, bench_command: Say) -> None:
    same = bench_command(*words)
    assert (same.code, same.err) == (0, "") and "no regression: 2 settings, all the same" in same.out
    keep(store, trial("new(x=1)"), "2026-01-02T00:00:00+00:00")
    new = bench_command(*words)
    assert new.code == 0 and "+ new(x=1) on resnet20 on fashion-mnist: new" in new.out and "--update" in new.err
    keep(store, trial(wrong=range(1), artifact_bytes=100_001), "2026-01-02T00:00:00+00:00")
    worse = bench_command(*words)
    assert worse.code == 1 and "artifact bytes 100,000 → 100,001 (+1)" in worse.out
    assert worse.out.splitlines()[-1] == "regression: 3 settings, 1 worse, 1 new"


def test_figures_that_the_predictions_belie_are_refused(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, trial(wrong=range(1), top1=0.5), "2026-01-02T00:00:00+00:00")
    assert "top-1 is 0.5 in record.json, 0.995 by predictions.safetensors" in bench_command(*words).mistake


def test_predictions_that_are_no_longer_kept(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, trial(wrong=range(1), kept=False), "2026-01-02T00:00:00+00:00")
    said = bench_command(*words)
    assert said.code == 1 and "predictions were kept before, and are no longer" in said.out


def test_what_another_machine_leaves_uncompared_is_in_the_verdict(
    words: list[str], store: Store, bench_command: Say
) -> None:
    for one in (dense(device="cpu: Two"), trial(wrong=range(1), device="cpu: Two")):
        keep(store, one, "2026-01-02T00:00:00+00:00")
    verdict = bench_command(*words).out.splitlines()[-1]
    assert verdict == "no regression: 2 settings, all the same, outputs not compared in 2, latency not compared in 2"


def test_options_reach_the_verdict(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, timed(0.85, 0.01, wrong=range(1, 6), loss=0.3), "2026-01-02T00:00:00+00:00")
    lenient = ("--tolerance", "3", "--slowdown", "20", "--no-exact")
    assert bench_command(*words, *lenient).code == 0
    for given, figure in ((lenient[2:], "top-1 99.50"), (lenient[:2] + lenient[4:], "latency"), (lenient[:4], "other")):
        said = bench_command(*words, *given)
        assert said.code == (0 if figure.startswith("top-1") else 1), figure
    keep(store, timed(0.85, 0.01, wrong=range(1, 10), loss=0.3), "2026-01-03T00:00:00+00:00")
    assert bench_command(*words, "--tolerance", "5", *lenient[2:]).code == 0
    assert "✗ tic(k=64) on resnet20 on fashion-mnist: top-1" in bench_command(*words, *lenient[2:]).out


def test_files_for_a_pull_request_and_a_server(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    said = bench_command(*words, "--markdown", tmp_path / "deep" / "gate.md", "--junit", tmp_path / "gate.xml")
    assert said.code == 0
    assert (tmp_path / "deep" / "gate.md").read_text().startswith("### ✅ Compression gate: no regression: 2 settings")
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().tag == "testsuites"


def test_update_writes_a_baseline_and_says_what_changed(
    words: list[str], store: Store, bench_command: Say, tmp_path: Path
) -> None:
    first = bench_command("check", tmp_path / "new" / "b.json", "--store", store.root, "--update")
    assert (first.code, first.out) == (0, "") and first.err.endswith(
        f"written from the records of {store.root}; commit it\n"
    )
    assert (tmp_path / "new" / "b.json").read_bytes() == Path(words[1]).read_bytes()
    keep(store, trial(wrong=range(1), macs=50_000_000), "2026-01-02T00:00:00+00:00")
    assert bench_command(*words).code == 1
    accepted = bench_command(*words, "--update")
    assert accepted.code == 0 and "MACs 40,000,000 → 50,000,000 (+10,000,000)" in accepted.out
    assert bench_command(*words).code == 0


def test_a_failed_trial_is_no_baseline(words: list[str], store: Store, bench_command: Say) -> None:
    before = Path(words[1]).read_bytes()
    keep(store, trial(status="failed", top1=None, loss=None, error="no luck", kept=False), "2026-01-02T00:00:00+00:00")
    assert bench_command(*words, "--update").mistake == "tic(k=64), seed 0, failed and cannot be a baseline: no luck"
    assert Path(words[1]).read_bytes() == before
    assert bench_command(*words).code == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such baseline; --update writes one from the store's records"),
        ("{", "not a baseline (Expecting property name"),
        ("[1]", "not a baseline of this version; delete it and write it again"),
        ('{"format": "cnn-compression-bench baseline 9"}', "not a baseline of this version"),
        ('{"format": "cnn-compression-bench baseline 1", "trials": []}', "a baseline without trials"),
        ('{"format": "cnn-compression-bench baseline 1", "trials": [{}]}', "not a whole baseline (trials.0.setting: "),
    ],
)
def test_a_baseline_that_will_not_do_is_told(
    content: str | None, told: str, store: Store, bench_command: Say, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"
    if content is not None:
        path.write_text(content)
    assert bench_command("check", path, "--store", store.root).mistake.startswith(f"{path}: {told}")
    if content is not None:
        assert bench_command("check", path, "--store", store.root, "--update").code == 2, "nobody's file is overwritten"
        assert path.read_text() == content


@pytest.mark.parametrize("value", ["NaN", "null", '"much"'])
def test_a_damaged_figure_is_told(value: str, words: list[str], bench_command: Say) -> None:
    path = Path(words[1])
    path.write_text(path.read_text().replace('"top1": 0.9,', f'"top1": {value},'))
    assert "top" in bench_command(*words).mistake


def test_a_store_of_other_trials_is_told(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    shutil.copytree(words[-1], tmp_path / "other")
    for path in (tmp_path / "other").rglob("record.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"budget_epochs": 7.0}))
    said = bench_command("check", words[1], "--store", tmp_path / "other")
    assert said.code == 1 and "--update" not in said.err
    assert f"No trial of {words[1]} is in {tmp_path / 'other'}: other models" in said.err


def test_other_mistakes_of_the_command(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = bench_command(*words, "--store", tmp_path / "empty").mistake
    assert told == f"--store {tmp_path / 'empty'}: holds no records; `bench run` makes some"
    for more in ((), ("--update",)):
        told = bench_command("check", tmp_path / "empty", "--store", tmp_path / "runs", *more).mistake
        assert told.startswith(
            f"{tmp_path / 'empty'}: a folder; expected a JSON file, such as results/ci-baseline.json"
        )
    for option, place, told in (
        ("--markdown", words[1], "that is the baseline; choose another file"),
        ("--junit", tmp_path, "a folder; expected a file"),
    ):
        assert bench_command(*words, option, place).mistake == f"{option} {place}: {told}"
    twice = (*words, "--markdown", tmp_path / "a", "--junit", tmp_path / "a")
    assert bench_command(*twice).mistake == f"--junit {tmp_path / 'a'}: that is --markdown's; choose another file"
    assert bench_command(*words, "--tolerance", "-1").mistake == "--tolerance -1: expected a number from 0 to 100"
    assert bench_command(*words, "--slowdown", "nan").mistake == "--slowdown nan: expected a number from 0"
    broken = next((tmp_path / "runs").glob("records/*/predictions.safetensors"))
    broken.write_bytes(b"no")
    assert bench_command(*words).mistake.startswith(f"{broken}: not predictions (")


def test_a_protocol_of_its_own_is_a_mistake(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, trial(conditions={"protocol": 2}), "2026-01-02T00:00:00+00:00")
    assert "measured by another protocol" in bench_command(*words).mistake


def test_the_gate_needs_no_torch(words: list[str]) -> None:
    code = f"""
import atexit, sys
atexit.register(lambda: print(*sorted({{"torch", "timm", "mlflow"}} & set(sys.modules)), file=sys.stderr))
sys.argv = ["bench", *{words!r}]
from bench.cli.commands import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert ended.stderr.split() == []
    assert json.loads(Path(words[1]).read_text())["format"].endswith("baseline 1")


def test_what_settings_share_is_said_once() -> None:
    there = [replace(one, device="cuda: H100") for one in (dense(), trial())]
    told = [text for _, text in lines(compare([dense(), trial()], there, Limits()))]
    assert told == [
        f"○ outputs not compared: measured on {CPU}, here on cuda: H100 (2 of 2 settings)",
        f"○ latency not compared: measured on {CPU}, here on cuda: H100 (2 of 2 settings)",
    ]
