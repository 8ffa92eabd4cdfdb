"""The committed results verify; and trials in other runtimes, whose times alone are theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records.store import MODEL
from bench.verifying.findings import Finding, Outcome, Verdict
from bench.verifying.opening import Materials, Options
from bench.verifying.submitted import submitted_at
from bench.verifying.verify import verify_all

from .submissions import verified, wrong

RESULTS = Path(__file__).parents[1] / "results"
STORES = sorted(path.parent for path in RESULTS.glob("*/records"))
Say = Callable[..., Any]


@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_the_smallest_committed_artifact_verifies(store: Path) -> None:
    artifacts = sorted(store.glob(f"records/*/{MODEL}"), key=lambda path: path.stat().st_size)
    found = verified(artifacts[0].parent, Materials())
    assert found.outcome is Outcome.VERIFIED, wrong(found)
    assert found.images and found.changed <= found.images / 1000


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES, ids=lambda path: path.name)
def test_every_committed_artifact_verifies(store: Path) -> None:
    with submitted_at([store]) as found:
        outcomes = {each.title: (each.outcome, wrong(each)) for each in verify_all(found.trials, Materials())}
    assert {outcome for outcome, _ in outcomes.values()} <= {Outcome.VERIFIED, Outcome.NO_ARTIFACT}, outcomes


def by_name(findings: list[Finding]) -> dict[str, Verdict]:
    return {finding.name: finding.verdict for finding in findings}


@pytest.mark.slow
@pytest.mark.usefixtures("quick_timing")
def test_trials_in_other_runtimes(image_folder: Path, tmp_path: Path, bench_command: Say) -> None:
    pytest.importorskip("onnxruntime")
    runtimes = "onnxruntime,onnxruntime-int8"
    words = f"--methods quantize --models resnet20 --weights scratch --epochs 0 --runtime {runtimes}".split()
    images = ("--dataset", f"folder:{image_folder}")
    said = bench_command("run", *words, *images, "--no-tracking", "--store", tmp_path / "runs")
    assert said.code == 0, said
    with submitted_at([tmp_path / "runs"]) as trials:
        found = list(verify_all(trials.trials, Materials(Options(dataset=images[1]))))
    assert [each.outcome for each in found] == [Outcome.VERIFIED] * 6, [wrong(each) for each in found]
    predictions = {each.title.split(",")[0]: by_name(each.findings)["predictions"] for each in found}
    assert predictions == {
        f"{setting}{on} on resnet20": Verdict.UNVERIFIED if "int8" in on else Verdict.SAME
        for setting in ("none", "quantize(bits=8)")
        for on in ("", " on onnxruntime", " on onnxruntime-int8")
    }
