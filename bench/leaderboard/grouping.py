"""Which records belong together: to one task, to one row of the board, to one trial. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.records.record import FIGURES

if TYPE_CHECKING:
    from pandas import DataFrame, Series

TASK = ["model", "dataset", "weights"]
"""The fields that two settings must share to be ranked together."""
LINE = [*TASK, "method", "setting", "budget_epochs"]
"""The fields that the records of one row of the board share. They differ in seed and device."""
TRIAL = [*LINE, "seed"]

ATTACK = ["attack_images", "attack_distance"]
ROBUSTNESS = [*ATTACK, "clean_top1", "robust_top1", "attack_success_rate", "prediction_change_rate"]
TIMED = [
    name
    for name in FIGURES
    if name.startswith(("latency_", "throughput_")) or name.endswith("_seconds") or name == "peak_memory_mb"
]
"""Figures that depend on the device. All others are the setting's, whatever the machine."""
DENSE = "none"
"""The setting that leaves the network as it is."""
HELD_OUT = "held-out:"
"""What the names of datasets begin with whose test images were held out of the training images, for searches."""
TORCH = "torch"
"""The runtime in which networks are trained and tested."""
PAPERS = ", not recalibrated"
"""Added to the name of the weights if batch-norm statistics were not re-estimated, as in papers that prune without
training."""


def task_title(task: Iterable[Any]) -> str:
    """A task in words, from its values in the order of `TASK`."""
    model, dataset, weights = task
    return f"{model} on {dataset}, weights {weights}"


def budget_title(epochs: float) -> str:
    return f"budget {epochs:g} epoch{'' if epochs == 1 else 's'}"


def told_apart(records: DataFrame) -> DataFrame:
    """The records, with part of a digest added to names of datasets or weights that stand for several contents.

    This happens if a baseline is trained again under the same name. Such figures are not ranked together. Nor are
    figures of two protocols (see `_protocols_apart`), of two versions of a network's code, or of two image sizes.
    """
    records = records.reset_index(drop=True)
    for name, within in (("dataset", []), ("weights", ["model", "dataset"])):
        digests = records["config"].map(lambda config, of=f"{name}_digest": config.get(of)).astype("object")
        kinds = digests.groupby([records[key] for key in (*within, name)]).transform("nunique")
        several = (kinds > 1) & digests.notna()
        records.loc[several, name] += " (" + digests[several].str[:6] + ")"
    for name, part in (("model", _code_of), ("dataset", _size_of)):
        parts = records["config"].map(part).astype("object")
        several = parts.fillna("").groupby([records[key] for key in TASK]).transform("nunique") > 1
        records.loc[several & parts.notna(), name] += parts[several & parts.notna()]
    return _protocols_apart(records)


def _code_of(config: dict[str, Any]) -> str | None:
    """Part of the digest of the code of a user's own network; None for other networks."""
    source = config.get("model_source")
    return f" ({source[:6]})" if isinstance(source, str) else None


def _size_of(config: dict[str, Any]) -> str | None:
    """The height and width of the images that the network was given; None if they are not recorded."""
    preprocessing = config.get("preprocessing")
    size = preprocessing.get("size") if isinstance(preprocessing, dict) else None
    return f" at {size[1]}x{size[2]}" if isinstance(size, list) and len(size) == 3 else None


def _protocols_apart(records: DataFrame) -> DataFrame:
    """The records, with the protocol added to the name of the weights if it is an older one or that of the papers.

    An older protocol is named only if the records of a task have several. That statistics were not re-estimated is
    always named.
    """
    of = [records[key] for key in TASK]
    numbers = protocols(records)
    older = numbers < numbers.groupby(of).transform("max")
    papers = records["recalibrate"].eq(False) & ~records["weights"].str.endswith(PAPERS)
    records.loc[older, "weights"] += " (protocol " + numbers[older].astype(str) + ")"
    records.loc[papers, "weights"] += PAPERS
    return records


def protocols(records: DataFrame) -> Series[int]:
    """The number of each record's measurement protocol. Records of the first protocol may not name it."""
    written = records["config"].map(lambda config: config.get("protocol"))
    return written.map(lambda number: number if isinstance(number, int) else 1).astype("int64")


def of_one_protocol(summary: DataFrame) -> DataFrame:
    """The rows whose figures may enter one mean: those of the newest protocol, and of these the re-estimated ones, if
    there are any."""
    newest: DataFrame = summary[summary["protocol"] == summary["protocol"].max()]
    kept: DataFrame = newest[newest["recalibrate"] == newest["recalibrate"].any()]
    return kept


def last_measured(records: DataFrame) -> DataFrame:
    """The last record of each trial on each device, in the order they were measured.

    Records from an earlier version of a setting's method, or from another protocol, are left out, so that a mean is
    over one version. The robustness figures of a trial come from its last record with the attack that was last used on
    the task: a later run without an attack does not hide them, and different attacks are not mixed. Nor does a later
    run without timing hide one with it.
    """
    ordered = told_apart(records).sort_values("started_at", kind="stable", ignore_index=True)
    sources = ordered["config"].map(lambda config: f"{config.get('protocol')} {config.get('sources')}")
    current = ordered[sources == sources.groupby([ordered[key] for key in LINE]).transform("last")]
    timed = current["config"].map(lambda config: config.get("timed") is not False)
    last = current.loc[timed.sort_values(kind="stable").index].drop_duplicates([*TRIAL, "device"], keep="last")
    last = last.sort_index().copy()
    attacked = ordered[ordered["attack_images"].notna()]
    kinds = attacked.drop_duplicates(TASK, keep="last")[[*TASK, *ATTACK]]
    alike = attacked.merge(kinds, on=[*TASK, *ATTACK]).drop_duplicates(TRIAL, keep="last")
    attacks = last[TRIAL].merge(alike[[*TRIAL, *ROBUSTNESS]], on=TRIAL, how="left").set_index(last.index)
    last[ROBUSTNESS] = attacks[ROBUSTNESS]
    return last


def one_per_trial(records: DataFrame) -> DataFrame:
    """One record per trial, from what `last_measured` gives: the last that succeeded on any device, else the last.

    A seed that was measured on two devices counts as one seed.
    """
    succeeded = records.assign(_ok=records["status"] == "ok").sort_values("_ok", kind="stable")
    return succeeded.drop_duplicates(TRIAL, keep="last").drop(columns="_ok").sort_index()


def main_devices(records: DataFrame) -> Series[str]:
    """For each record, the main device of its task: the one with the most measured records; of equals, the last used.

    `records` are in the order of `last_measured`.
    """
    weight = (records["status"] == "ok").astype("int64")
    devices = records.assign(_count=weight.groupby([records[key] for key in (*TASK, "device")]).transform("sum"))
    chosen = devices.sort_values("_count", kind="stable").drop_duplicates(TASK, keep="last")[[*TASK, "device"]]
    return records[TASK].merge(chosen, on=TASK, how="left").set_index(records.index)["device"]


def without_searches(records: DataFrame, asked: Iterable[str] = ()) -> DataFrame:
    """The records without those on held-out images, which show how a search chose and are not results.

    They stay if there are no others, or if one of their datasets is among the names that are `asked` for.
    """
    searched = records["dataset"].str.startswith(HELD_OUT)
    if searched.all() or any(HELD_OUT in name for name in asked):
        return records
    kept: DataFrame = records[~searched].reset_index(drop=True)
    return kept


def in_torch(rows: DataFrame) -> DataFrame:
    """Rows or records that torch executed. Those of other runtimes time the same networks and have no rank."""
    kept: DataFrame = rows[rows["runtime"].isna() | (rows["runtime"] == TORCH)]
    return kept


def families(records: DataFrame) -> Series[str]:
    """For each record, the setting without the option that sets its strength, as its trial wrote it."""
    written = records["config"].map(lambda config: config.get("family")).astype("object")
    return written.where(written.map(lambda family: isinstance(family, str)), records["setting"]).astype("str")
