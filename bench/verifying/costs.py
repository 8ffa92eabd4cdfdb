"""What can be counted from an artifact: bytes, parameters, multiply-adds; and what it says of its network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from bench.encodings import artifact
from bench.measuring import cost
from bench.records.record import Record
from bench.trials.results import Sizes
from bench.trials.tables import LAYERS
from bench.verifying.findings import EXACTLY, Finding, Verdict, about, together
from bench.verifying.opening import Opened
from bench.verifying.submitted import Submitted
from bench.verifying.tables import check_layers

PACKED = 0.02
"""Share of the bytes after zstandard that another version of zstandard may change."""
SIZES = ("artifact_bytes", "dense_bytes", "compression_ratio")
AFTER_ZSTANDARD = ("artifact_compressed_bytes", "compressed_ratio")
COUNTS = (
    "params",
    "params_dense",
    "macs",
    "macs_dense",
    "macs_ratio",
    "macs_full",
    "macs_full_ratio",
    "formula_ratio",
    "kernel_ratio",
)


def check_network(opened: Opened) -> list[Finding]:
    """Whether the artifact holds the record's network, for the images and classes of its dataset."""
    expected, said = asdict(opened.task.architecture), asdict(opened.manifest.architecture)
    pairs = [(f"artifact's {name}", said[name], right) for name, right in expected.items()]
    return together("artifact's network", pairs, Verdict.SAME)


def check_interface(opened: Opened) -> list[Finding]:
    """Whether the artifact says of its images and classes what a trial would have written; older ones say nothing."""
    name, described = "artifact's images and classes", opened.manifest.interface.described()
    right = opened.task.interface.described()
    return together(name, [(name, described, right)] if described else [], Verdict.SAME)


def check_costs(trial: Submitted, opened: Opened) -> Iterator[Finding]:
    """Bytes, parameters and multiply-adds beside those of the record and of the table of layers."""
    record, content = opened.record, opened.path.read_bytes()
    sizes = Sizes(len(content), artifact.compressed_bytes(content), artifact.dense_bytes(opened.fresh))
    counted = cost.compare(opened.fresh, opened.network, opened.task.preprocessing.size, {})
    for name in (*SIZES, *AFTER_ZSTANDARD, *COUNTS):
        claimed, value = getattr(record, name), getattr(counted if name in COUNTS else sizes, name)
        if claimed is not None or (value is not None and name in SIZES):
            yield about(name, claimed, value, PACKED * value if name in AFTER_ZSTANDARD else 0.0)
    yield from _reachable(record, counted.reachable_share)
    yield from check_layers(trial.path(LAYERS), counted.layers)


def _reachable(record: Record, least: float) -> list[Finding]:
    """The layers that are compressed are a lower bound: a method may leave others that it could compress."""
    name, claimed = "reachable_share", record.reachable_share
    if claimed is None:
        return []
    right = claimed if claimed >= least - EXACTLY else least
    return together(name, [(name, claimed, right)], Verdict.CONSISTENT, note=f"at least {least:.6g}")
