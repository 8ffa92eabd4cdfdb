"""`bench check`: the records of a store against a committed baseline.

Two trials match if setting, model, dataset, weights, budget and seed are the same. Fingerprints are not compared: they
change with the method's source, the device and the versions, which are exactly the changes that the gate has to judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.comparing.paired import holm
from bench.gate.expected import Measured, read_baseline, read_store, write_baseline
from bench.gate.verdict import (
    ARITHMETIC,
    Finding,
    Limits,
    Verdict,
    judge_accuracy,
    judge_count,
    judge_latency,
    judge_outputs,
    p_value,
)
from bench.leaderboard.grouping import DENSE
from bench.system.errors import BenchError

OURS = "cnn-compression-bench"
"""The package whose version changes with the code that is judged."""

Pair = tuple[Measured, Measured]
Match = tuple[Measured | None, Measured | None]


@dataclass(frozen=True)
class Row:
    """One setting on one task, all seeds, with its findings."""

    task: str
    setting: str
    findings: list[Finding]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict among the figures that were compared."""
        order = list(Verdict)
        judged = [finding.verdict for finding in self.findings if finding.verdict is not Verdict.NOT_COMPARED]
        return min(judged, key=order.index, default=Verdict.NOT_COMPARED)


@dataclass(frozen=True)
class Report:
    """The settings by task, in the baseline's order; new settings come last in their task."""

    rows: list[Row]
    limits: Limits

    @property
    def failed(self) -> bool:
        return any(row.verdict.fails for row in self.rows)


def check(baseline: Path, store: Path, limits: Limits | None = None) -> Report:
    """Judge a store by a baseline file; BenchError if either cannot be read or the two cannot be compared."""
    return compare(read_baseline(baseline), read_store(store), limits or Limits())


def update(baseline: Path, store: Path, limits: Limits | None = None) -> Report | None:
    """Make the store's records the baseline, and report what that changes; None if there was no baseline.

    Raises BenchError for a failed trial, and for an existing file that is no baseline; that file is not changed.
    """
    trials = read_store(store)
    for trial in trials:
        if trial.status == "failed":
            reason = " ".join((trial.error or "no reason given").split())
            raise BenchError(f"{trial.setting}, seed {trial.seed}, failed and cannot be a baseline: {reason}")
    known = read_baseline(baseline) if baseline.exists() else None
    report = compare(known, trials, limits or Limits()) if known else None
    write_baseline(baseline, trials)
    return report


def compare(before: list[Measured], after: list[Measured], limits: Limits) -> Report:
    """Judge every setting on every task. Raises BenchError for a setting that was measured by another protocol."""
    matches = match(before, after)
    both = measured_twice(matches)
    for one, other in both:
        if one.conditions.get("protocol") != other.conditions.get("protocol"):
            raise BenchError(
                f"the baseline's {one.setting} was measured by another protocol; "
                "delete the baseline and write it again from the store's records"
            )
    dense = {one.task[:3]: (one, other) for one, other in both if one.setting == DENSE}
    groups = _by_setting(matches)
    corrected = holm([p_value(twice) if (twice := measured_twice(group)) else None for group in groups])
    return Report([_judge(group, p, dense, limits) for group, p in zip(groups, corrected, strict=True)], limits)


def match(before: list[Measured], after: list[Measured]) -> list[Match]:
    """Pairs of the same trial before and after, with None for a missing side; in the baseline's order, new ones last.

    Trials whose options are all the same are matched first. Then options that only one version of the method has are
    ignored.
    """
    left = list(after)
    partners: dict[int, Measured] = {}
    for same in (_same_options, _same_shared_options):
        for index, one in enumerate(before):
            other = next((trial for trial in left if index not in partners and same(one, trial)), None)
            if other is not None:
                partners[index] = other
                left.remove(other)
    known: list[Match] = [(one, partners.get(index)) for index, one in enumerate(before)]
    return known + [(None, other) for other in left]


def _same_options(one: Measured, other: Measured) -> bool:
    return (one.task, one.seed, one.stages) == (other.task, other.seed, other.stages)


def _same_shared_options(one: Measured, other: Measured) -> bool:
    return (
        (one.task, one.seed, len(one.stages)) == (other.task, other.seed, len(other.stages))
        and [stage.get("method") for stage in one.stages] == [stage.get("method") for stage in other.stages]
        and all(a[key] == b[key] for a, b in zip(one.stages, other.stages, strict=True) for key in a.keys() & b.keys())
    )


def measured_twice(matches: Sequence[Match]) -> list[tuple[Measured, Measured]]:
    """The pairs of trials that have figures on both sides."""
    both = [(one, other) for one, other in matches if one is not None and other is not None]
    return [(one, other) for one, other in both if one.status == other.status == "ok"]


def _by_setting(matches: list[Match]) -> list[list[Match]]:
    """One group for each setting, with all of its seeds; the settings of a task are neighbours."""
    tasks: dict[tuple[str, str, str, float], dict[str, list[Match]]] = defaultdict(lambda: defaultdict(list))
    for one, other in matches:
        if (trial := one or other) is not None:
            tasks[trial.task][trial.written_stages].append((one, other))
    return [group for settings in tasks.values() for group in settings.values()]


def _judge(group: list[Match], p: float | None, dense: Mapping[tuple[str, str, str], Pair], limits: Limits) -> Row:
    known = next(trial for pair in group for trial in reversed(pair) if trial is not None)
    model, dataset, weights, budget = known.task
    title = f"{model} on {dataset}, weights {weights}, budget {budget:g} epoch{'' if budget == 1 else 's'}"
    findings = [_presence(group)]
    if pairs := measured_twice(group):
        unlike = next(filter(None, (_unlike(pair, dense.get(known.task[:3])) for pair in pairs)), None)
        rise = p_value([(after, before) for before, after in pairs])
        findings += [
            judge_accuracy(pairs, p, rise, limits, unlike, _lost(pairs, dense.get(known.task[:3]))),
            judge_outputs(pairs, unlike, limits),
        ]
        findings += [
            judge_count("artifact bytes", [(one.artifact_bytes, other.artifact_bytes) for one, other in pairs], unlike),
            judge_count("parameters", [(one.params, other.params) for one, other in pairs], unlike),
            judge_count("MACs", [(one.macs, other.macs) for one, other in pairs], unlike),
            judge_latency(pairs, limits),
        ]
    return Row(title, known.setting, findings)


def _lost(pairs: Sequence[Pair], dense: Pair | None) -> float:
    """The top-1 that the setting lost against the dense network in the baseline; 0 if that is unknown."""
    known = [before.top1 for before, _ in pairs if before.top1 is not None]
    return dense[0].top1 - sum(known) / len(known) if dense and dense[0].top1 is not None and known else 0.0


def _presence(group: list[Match]) -> Finding:
    """Whether every trial of the baseline was run again without a failure."""
    for _, after in group:
        if after is not None and after.status == "failed":
            reason = " ".join((after.error or "").split())
            return Finding("trial", Verdict.REGRESSION, "failed", f"failed (seed {after.seed}): {reason}")
    if missing := [before.seed for before, after in group if before is not None and after is None]:
        return Finding("trial", Verdict.REGRESSION, "missing", f"missing from the store ({_seeds(missing)})")
    if new := [after.seed for before, after in group if before is None and after is not None]:
        return Finding("trial", Verdict.NEW, "new", f"new: not in the baseline ({_seeds(new)})")
    return Finding("trial", Verdict.SAME, "", "was run")


def _seeds(seeds: list[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _unlike(pair: Pair, dense: Pair | None) -> str | None:
    """Why the same code may give different outputs; None if it must give the same ones."""
    before, after = pair
    if before.device != after.device:
        return f"measured on {before.device}, here on {after.device}"
    if not before.device.startswith("cpu"):
        return "a GPU adds in no fixed order"
    if changed := _changed(before.versions, after.versions):
        return ", ".join(f"{name} {before.versions.get(name)} → {after.versions.get(name)}" for name in changed)
    if changed := _changed(before.conditions, after.conditions):
        return f"another {' and '.join(changed)}"
    if dense is None or (dense[0].device, dense[1].device) != (before.device, after.device):
        return "no dense network was measured, which would show whether this machine computes the same"
    if 0 < _relative(dense[0].loss, dense[1].loss) <= ARITHMETIC:
        return "this machine adds in another order, as the dense network's loss shows"
    return None


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    names = sorted((before.keys() | after.keys()) - {OURS})
    return [name for name in names if before.get(name) != after.get(name)]


def _relative(before: float | None, after: float | None) -> float:
    return abs((after or 0) - (before or 0)) / max(abs(before or 0), 1e-12)
