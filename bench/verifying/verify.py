"""`bench verify`: recomputes what a record claims from the artifact beside it, and says what differs.

- The record's parts and the tables beside it must not contradict each other.
- The artifact's bytes, parameters and multiply-adds are counted again.
- The reloaded network classifies all test images; every prediction and each figure of accuracy is compared. The same is
  done for the dense network if its weights are here.

Training, times and attacks cannot be known from the files; they are listed as not verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.records.record import FIGURES, Record
from bench.records.store import MODEL, PREDICTIONS
from bench.system.errors import BenchError
from bench.verifying.consistency import check_record, check_timings
from bench.verifying.costs import check_costs, check_interface, check_network
from bench.verifying.findings import Finding, Unavailable, Verdict, Verification
from bench.verifying.opening import Materials, check_runs, read_manifest
from bench.verifying.retesting import Retest, check_data, check_predictions, retest
from bench.verifying.submitted import Submitted


def verify_all(trials: Iterable[Submitted], materials: Materials) -> Iterator[Verification]:
    """Verify trials one by one. Datasets and dense networks are opened once."""
    for trial in trials:
        yield verify(trial, materials)


def verify(trial: Submitted, materials: Materials) -> Verification:
    """Verify one trial. What is wrong with the submission is a finding, never an exception."""
    findings = [*check_record(trial.record), *_missing(trial)]
    path, lacking, tested = trial.path(MODEL), "", Retest()
    try:
        if path is None:
            findings += _from_predictions(trial, materials)
        else:
            tested = _from_artifact(trial, path, materials, findings)
    except Unavailable as error:
        lacking = str(error)
    findings += tested.findings
    return Verification(
        place=trial.place,
        title=trial.title,
        fingerprint=trial.record.fingerprint,
        findings=[*findings, *_unverified(trial.record, findings)],
        has_artifact=path is not None,
        lacking=lacking,
        images=tested.images,
        changed=tested.changed,
    )


def _missing(trial: Submitted) -> list[Finding]:
    """A submission file must hold the artifact; a store may have lost it."""
    if trial.packed and MODEL not in trial.files:
        return [Finding(MODEL, Verdict.DIFFERS, note="the file is missing")]
    return []


def _from_predictions(trial: Submitted, materials: Materials) -> list[Finding]:
    """What the submitted predictions alone show, where there is no artifact."""
    if trial.path(PREDICTIONS) is None:
        return []
    dataset = materials.dataset(trial.record)
    findings = check_data(trial.record, dataset)
    if not _differs(findings):
        findings += check_predictions(trial, dataset)[0]
    return findings


def _from_artifact(trial: Submitted, path: Path, materials: Materials, findings: list[Finding]) -> Retest:
    """Adds what the artifact shows to `findings`, so that it is kept if something is missing for the test."""
    try:
        opened = materials.open(trial, path, read_manifest(path))
        of_network = check_network(opened)
        findings += of_network
        if _differs(of_network):
            return Retest()  # such a network need not even take these images
        check_runs(opened)
    except Unavailable:
        raise
    except BenchError as error:
        findings.append(Finding(MODEL, Verdict.DIFFERS, note=str(error).removeprefix(f"{path}: ")))
        return Retest()
    findings += [*check_interface(opened), *check_costs(trial, opened), *check_timings(trial, opened.is_dense)]
    of_data = check_data(trial.record, opened.task.dataset, opened.task.preprocessing)
    findings += of_data
    if _differs(of_data):
        return Retest()  # with other images every figure differs
    return retest(trial, opened, materials)


def _differs(findings: Iterable[Finding]) -> bool:
    return any(finding.verdict is Verdict.DIFFERS for finding in findings)


def _unverified(record: Record, findings: Iterable[Finding]) -> list[Finding]:
    """The figures of a record that no finding is about, as one."""
    known = {name for finding in findings for name in finding.fields}
    names = [name for name in FIGURES if getattr(record, name) is not None and name not in known]
    return [Finding("not verified", Verdict.UNVERIFIED, note=", ".join(names), fields=tuple(names))] if names else []
