"""The gate's verdicts on sizes, outputs and latency."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.gate.check import compare
from bench.gate.expected import Measured
from bench.gate.verdict import Limits, Verdict

from .gate_trials import CPU, dense, judged, timed, trial, verdicts


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
