"""Timings over seeds: how far their mean may be off, and which of them are too noisy to count. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.records.record import FIGURES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

TIMED = ("latency", "throughput")


def without_noise(measured: DataFrame, keys: list[str]) -> DataFrame:
    """Records without the timings of noisy seeds, wherever the same setting has a seed that is not noisy."""
    measured = measured.copy()
    for name in TIMED:
        noisy = _noisy(measured, name)
        has_quiet = (measured[f"{name}_speedup"].notna() & ~noisy).groupby([measured[key] for key in keys])
        figures = [figure for figure in FIGURES if figure.startswith(f"{name}_")]
        measured.loc[noisy & has_quiet.transform("any"), figures] = float("nan")
    return measured


def spreads(measured: DataFrame, keys: list[str]) -> DataFrame:
    """For each setting, `*_speedup_ci95`, the half width of the 95% interval of its mean speed-up, and `*_noisy`.

    Two things make a mean uncertain: the noise within each trial, which its own interval shows (half widths h of n
    seeds give sqrt(sum h^2) / n), and the spread between seeds (Student's t). The larger of the two counts. The spread
    already contains the noise, but a few seeds may agree by chance. With one seed, only its own interval is known; null
    if there is none. A setting is noisy if the timings left by `without_noise` are noisy.
    """
    import pandas

    groups = measured.groupby(keys)
    table = groups[[]].sum()
    for name in TIMED:
        speedup = measured[f"{name}_speedup"]
        half = ((measured[f"{name}_speedup_high"] - measured[f"{name}_speedup_low"]) / 2).where(speedup.notna())
        by_setting = [measured[key] for key in keys]
        count, squares = speedup.groupby(by_setting).count(), (half**2).groupby(by_setting).sum(min_count=1)
        between = half_widths(count, speedup.groupby(by_setting).sem())
        table[f"{name}_speedup_ci95"] = pandas.concat([squares**0.5 / count, between], axis=1).max(axis=1)
        table[f"{name}_noisy"] = (_noisy(measured, name) & speedup.notna()).groupby(by_setting).any()
    return table


def as_defined(summary: DataFrame, dense: str) -> DataFrame:
    """The summary with a speed-up of exactly 1, without an interval, for the method `dense` in every runtime."""
    rows = summary["method"] == dense
    for name in TIMED:
        timed = rows & summary[f"{name}_speedup"].notna()
        summary.loc[timed, [f"{name}_speedup", f"{name}_speedup_low", f"{name}_speedup_high"]] = 1.0
        summary.loc[rows, f"{name}_speedup_ci95"] = float("nan")
        summary[f"{name}_noisy"] = summary[f"{name}_noisy"].eq(True) & ~rows
    return summary


def proven(rows: DataFrame) -> Series[float]:
    """The latency that counts for a front or a rank: none if it is noisy, and no gain that may be noise.

    A speed-up above 1 counts as 1 if its interval reaches down to 1. Otherwise the luckiest of many settings without
    any gain would be ahead.
    """
    speedup = rows["latency_speedup"]
    lowest = speedup - rows["latency_speedup_ci95"].fillna(0)
    return speedup.where(lowest > 1, speedup.clip(upper=1)).mask(rows["latency_noisy"])


def half_widths(counts: Series[int], errors: Series[float]) -> Series[float]:
    """Half widths of the 95% intervals of means (Student's t), from standard errors; NaN for fewer than two values."""
    from scipy.special import stdtrit  # Student's t quantile; quicker to import than scipy.stats

    freedom = counts.astype("float64").where(counts > 1) - 1
    return errors.mul(stdtrit(freedom, 0.975))


def _noisy(measured: DataFrame, name: str) -> Series[bool]:
    """Whether each record says that its timing is noisy; older records do not say."""
    return measured[f"{name}_noisy"].isin([True])
