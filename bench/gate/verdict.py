"""How the gate judges one setting's figures, before and after: each function gives one finding.

- Accuracy is compared image by image. An image got worse where fewer seeds classify it correctly than before. Under the
  null hypothesis as many images get worse as get better, which a one-sided exact binomial test decides (with one seed
  this is McNemar's test). An image counts once for any number of seeds, because their errors are not independent. The
  p-values of all settings are corrected by Holm's method. A drop within the tolerance is no regression even if it is
  significant, because two seeds of one setting often differ by some tenths of a point. Where the arithmetic may differ
  (another device, other versions, a GPU), training gives a different network, and the difference grows with the
  distance from the dense network. `DRIFT`, a share of that distance, is then added to the tolerance.
- Counts (bytes, parameters, MACs) have no noise, so any growth is a regression. Where the arithmetic may differ, a
  method may break a tie differently, and growth up to `SLACK` is allowed.
- Outputs must be identical where only the code differs. This finds changes that are too small for a test of accuracy,
  and errors that happen not to lower it.
- Latency is the ratio to the dense network's. Overlapping intervals are no regression, nor is a loss within the allowed
  slowdown: the interval covers the noise within one process, and different processes differ by more. Noisy timings are
  not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bench.gate.expected import Measured

ALPHA = 0.05
"""Probability that a check reports a drop although there is none."""
DRIFT = 0.2
"""Share of the loss against the dense network that other arithmetic may change. Between one thread and two, the largest
of 23 settings was 0.09 after eight steps of training."""
SLACK = 0.01
"""Share by which counts may grow on another device or with other versions."""
ARITHMETIC = 1e-5
"""The largest relative change of the dense network's mean loss that another order of summation explains; 1e-7 is
usual."""

Pairs = Sequence[tuple[Measured, Measured]]
"""One setting on one task before and after: one pair for each seed, both sides measured."""


class Verdict(StrEnum):
    """The verdicts, the worst first."""

    REGRESSION = "regression"
    CHANGED = "changed"
    IMPROVED = "improved"
    MOVED = "moved"
    NEW = "new"
    NOT_COMPARED = "not compared"
    SAME = "same"

    @property
    def fails(self) -> bool:
        return self in (Verdict.REGRESSION, Verdict.CHANGED)


@dataclass(frozen=True)
class Limits:
    """`tolerance` is the top-1 (a fraction) and `slowdown` the share of the speed-up that may be lost.

    `exact` says whether different outputs fail the gate where only the code differs.
    """

    tolerance: float = 0.005
    slowdown: float = 0.1
    exact: bool = True


@dataclass(frozen=True)
class Finding:
    """The verdict on one `figure`: `cell` for a table, `text` for a line that names the setting before it."""

    figure: str
    verdict: Verdict
    cell: str
    text: str


def judge_accuracy(
    pairs: Pairs, p: float | None, p_rise: float | None, limits: Limits, unlike: str | None = None, lost: float = 0.0
) -> Finding:
    """Judge top-1. `p` is the p-value of a drop, corrected for the number of settings, and `p_rise` that of a rise.

    They are None if too little was kept for a test. `unlike` is as in `judge_count`; `lost` is the top-1 that the
    setting lost against the dense network.
    """
    before, after = (float(np.mean([trial.top1 for trial in side])) for side in zip(*pairs, strict=True))
    change = round(after - before, 12)  # so that a drop of exactly the tolerance is within it
    cell = f"{100 * after:.2f}" + (f" ({100 * change:+.2f})" if change else "")
    figures = f"top-1 {100 * before:.2f}% → {100 * after:.2f}%"
    drift = DRIFT * max(lost, 0.0) if unlike is not None else 0.0
    if drift and limits.tolerance < abs(change) <= limits.tolerance + drift:
        explained = f"{unlike}, which explains up to {100 * (limits.tolerance + drift):.2f} points"
        return Finding("top-1", Verdict.MOVED, cell, f"{figures}: {explained}")
    if -change > limits.tolerance and (p is None or p <= ALPHA):
        reason = "one seed and no predictions, so only the tolerance decides" if p is None else f"p = {p:.2g}"
        return Finding("top-1", Verdict.REGRESSION, cell, f"{figures} ({reason})")
    if change > limits.tolerance and p_rise is not None and p_rise <= ALPHA:
        return Finding("top-1", Verdict.IMPROVED, cell, f"{figures} (p = {p_rise:.2g})")
    within = "within the tolerance" if abs(change) <= limits.tolerance else "not significant"
    return Finding("top-1", Verdict.SAME, cell, f"{figures}, {within}" if change else figures)


def p_value(pairs: Pairs) -> float | None:
    """One-sided p-value of a drop of top-1; None if too little was kept.

    If the test images differ, Fisher's exact test compares numbers of images, averaged over the seeds because these
    share their images. Without predictions, Welch's t test compares the seeds.
    """
    from scipy import stats

    if all(map(_same_images, pairs)):
        worse, better = discordant(pairs)
        return float(stats.binomtest(worse, worse + better, alternative="greater").pvalue) if worse + better else 1.0
    before, after = ([float(trial.top1 or 0) for trial in side] for side in zip(*pairs, strict=True))
    kept = [[trial.offsets for trial in side if trial.offsets is not None] for side in zip(*pairs, strict=True)]
    if all(len(side) == len(pairs) for side in kept):
        table = [_wrong_and_right(side) for side in reversed(kept)]
        return float(stats.fisher_exact(table, alternative="greater").pvalue)
    if len(pairs) < 2:
        return None
    if np.ptp(before) == np.ptp(after) == 0:
        return float(before[0] <= after[0])
    return float(stats.ttest_ind(before, after, equal_var=False, alternative="greater").pvalue)


def _same_images(pair: tuple[Measured, Measured]) -> bool:
    one, other = (trial.offsets for trial in pair)
    kept = one is not None and other is not None and len(one) == len(other)
    return kept and len({trial.conditions.get("dataset_digest") for trial in pair}) == 1


def discordant(pairs: Pairs) -> tuple[int, int]:
    """Of the same images, the numbers that fewer seeds, and that more seeds, classify correctly than before."""
    right = [[np.equal(trial.offsets, 0).astype(int) for trial in side] for side in zip(*pairs, strict=True)]
    gained = np.sum(right[1], axis=0) - np.sum(right[0], axis=0)
    return int(np.sum(gained < 0)), int(np.sum(gained > 0))


def _wrong_and_right(offsets: list[NDArray[np.int32]]) -> tuple[int, int]:
    """Numbers of wrongly and correctly classified images, averaged over the seeds."""
    wrong = round(float(np.mean([np.count_nonzero(some) for some in offsets])))
    return wrong, len(offsets[0]) - wrong


def judge_count(figure: str, counts: Sequence[tuple[int | None, int | None]], unlike: str | None) -> Finding:
    """Judge `counts`, before and after for each seed. `unlike` says why the arithmetic may differ, or is None."""
    known = [(before, after) for before, after in counts if before is not None and after is not None]
    if any(before is not None and after is None for before, after in counts):
        return Finding(figure, Verdict.REGRESSION, "–", f"{figure} was measured before, and is no longer")
    if not known:
        return Finding(figure, Verdict.NOT_COMPARED, "–", f"{figure} not compared: not measured")
    before, after = max(known, key=lambda pair: abs(pair[1] - pair[0]))
    if grown := [pair for pair in known if pair[1] > pair[0] * (1 if unlike is None else 1 + SLACK)]:
        before, after = max(grown, key=lambda pair: pair[1] - pair[0])
    change = after - before
    cell = _written_count(after)
    if change:
        cell += f" ({change:+,})" if abs(change) < 1000 or not before else f" ({change / before:+.1%})"
    text = f"{figure} {before:,} → {after:,} ({change:+,})"
    if grown:
        return Finding(figure, Verdict.REGRESSION, cell, text)
    if change > 0:
        return Finding(figure, Verdict.MOVED, cell, f"{text}: {unlike}, which explains up to {SLACK:.0%}")
    return Finding(figure, Verdict.IMPROVED, cell, text) if change else Finding(figure, Verdict.SAME, cell, text)


def _written_count(count: int) -> str:
    return f"{count:,}" if count < 10_000_000 else f"{count / 1e6:,.1f}M"


def judge_outputs(pairs: Pairs, unlike: str | None, limits: Limits) -> Finding:
    """Compare loss and predictions to the last digit; `unlike` is as in `judge_count`."""
    if any(before.outcomes is not None and after.outcomes is None for before, after in pairs):
        return Finding("outputs", Verdict.REGRESSION, "–", "predictions were kept before, and are no longer")
    if unlike is not None:
        return Finding("outputs", Verdict.NOT_COMPARED, "–", f"outputs not compared: {unlike}")
    other = [
        (before, after)
        for before, after in pairs
        if before.loss != after.loss or (before.outcomes is not None and before.outcomes != after.outcomes)
    ]
    if not other:
        return Finding("outputs", Verdict.SAME, "same", "outputs the same to the last digit")
    before, after = other[0]
    text = f"different outputs although only the code differs: loss {before.loss:.8g} → {after.loss:.8g}"
    one, two = before.offsets, after.offsets
    if one is not None and two is not None and _same_images(other[0]):
        text += f", {np.count_nonzero(one != two):,} of {len(two):,} predictions"
    if before.sources != after.sources:
        text += "; the method's file changed"
    return Finding("outputs", Verdict.CHANGED if limits.exact else Verdict.MOVED, "other", text)


def judge_latency(pairs: Pairs, limits: Limits) -> Finding:
    """Judge the speed-up: a regression or an improvement must show in every seed."""
    speedups = [(before.latency_speedup or 0, after.latency_speedup or 0) for before, after in pairs]
    before, after = (float(np.mean(side)) for side in zip(*speedups, strict=True))
    for one, other in pairs:
        if one.latency_speedup and not other.latency_speedup:
            return Finding("latency", Verdict.REGRESSION, "–", "latency was measured before, and is no longer")
        if one.device != other.device:
            return _no_latency(after, f"measured on {one.device}, here on {other.device}")
        if not one.latency_speedup or not other.latency_speedup:
            return _no_latency(after, "not measured")
        if None in (one.latency_speedup_low, other.latency_speedup_low):
            return _no_latency(after, "no interval was kept")
        if one.latency_noisy or other.latency_noisy:
            return _no_latency(after, "a timing is noisy")
    share = after / before - 1
    cell = f"{after:.2f}× ({share:+.0%})"
    text = f"latency {before:.2f}× → {after:.2f}× of the dense network's speed ({share:+.0%})"
    if all(_apart(after, before) for before, after in pairs) and -share > limits.slowdown:
        return Finding("latency", Verdict.REGRESSION, cell, text)
    if all(_apart(before, after) for before, after in pairs) and share > limits.slowdown:
        return Finding("latency", Verdict.IMPROVED, cell, text)
    return Finding("latency", Verdict.SAME, cell, text)


def _no_latency(speedup: float, reason: str) -> Finding:
    cell = f"{speedup:.2f}×" if speedup else "–"
    return Finding("latency", Verdict.NOT_COMPARED, cell, f"latency not compared: {reason}")


def _apart(slow: Measured, fast: Measured) -> bool:
    return (slow.latency_speedup_high or 0) < (fast.latency_speedup_low or 0)
