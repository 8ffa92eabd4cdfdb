"""The gate's verdicts on accuracy against p-values worked out by hand, and which trials it sets side by side."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.comparing.paired import holm
from bench.gate.check import compare, match
from bench.gate.expected import Measured
from bench.gate.verdict import Limits, Verdict, discordant, p_value
from bench.system.errors import BenchError

from .gate_trials import judged, trial

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
