"""The figures of a trial that the gate compares, and the baseline: a JSON file of them that reads well in a diff."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.leaderboard.grouping import DENSE, HELD_OUT, PAPERS
from bench.records.record import Record
from bench.records.store import PREDICTIONS, RECORD, Store, StoreError
from bench.system.errors import BadArgument, BenchError, NoBaseline
from bench.system.files import write_atomically

FORMAT = "cnn-compression-bench baseline 1"
CONDITIONS = ("protocol", "recalibrate", "dataset_digest", "weights_digest", "preprocessing", "recipe", "precision")
"""Fields of a record's `config` that outputs depend on, besides the setting, the code, the device and the versions."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One trial: its options, conditions and figures. Names and units are those of `Record`."""

    setting: str
    stages: list[dict[str, Any]]
    model: str
    dataset: str
    weights: str
    budget_epochs: FiniteFloat
    seed: int
    status: Literal["ok", "failed"]
    error: str | None = None
    device: str
    versions: dict[str, str]
    sources: list[str]
    conditions: dict[str, Any]
    top1: FiniteFloat | None = None
    loss: FiniteFloat | None = None
    artifact_bytes: int | None = None
    params: int | None = None
    macs: int | None = None
    latency_speedup: FiniteFloat | None = None
    latency_speedup_low: FiniteFloat | None = None
    latency_speedup_high: FiniteFloat | None = None
    latency_noisy: bool | None = None
    outcomes: str | None = None
    """Predicted class minus true class of every test image, packed; None if no predictions were kept."""

    def __post_init__(self) -> None:
        if self.status == "ok" and (self.top1 is None or self.loss is None):
            raise BenchError(f"{self.setting}, seed {self.seed}: no top-1 or no loss, though it did not fail")

    @property
    def task(self) -> tuple[str, str, str, float]:
        """Model, dataset, weights and budget. The papers' protocol makes a task of its own, as on the board."""
        papers = PAPERS if self.conditions.get("recalibrate") is False else ""
        return self.model, self.dataset, self.weights + papers, self.budget_epochs

    @property
    def written_stages(self) -> str:
        """Every option of every stage, as text that can be compared and sorted."""
        return json.dumps(self.stages, sort_keys=True)

    @cached_property
    def offsets(self) -> NDArray[np.int32] | None:
        """`outcomes` as int32 [images]; 0 is a correct prediction. Raises BenchError if they cannot be unpacked."""
        if self.outcomes is None:
            return None
        try:
            return _unpacked(self.outcomes)
        except (binascii.Error, zlib.error, ValueError) as error:
            raise BenchError(f"baseline: the outcomes of {self.setting}, seed {self.seed}, are damaged") from error


@dataclass(frozen=True)
class _File:
    format: str
    trials: list[Measured]


def read_baseline(path: Path) -> list[Measured]:
    """The trials of a baseline. NoBaseline if there is no such file; BenchError if this version cannot read it."""
    if path.is_dir():
        raise BenchError(f"{path}: a folder; expected a JSON file, such as results/ci-baseline.json")
    if not path.is_file():
        raise NoBaseline(f"{path}: there is no such baseline")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise BenchError(f"{path}: not a baseline of this version; delete it and write it again")
        trials = TypeAdapter(_File).validate_python(content).trials
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BenchError(f"{path}: not a whole baseline ({place}: {first['msg']})") from error
    except ValueError as error:
        raise BenchError(f"{path}: not a baseline ({error})") from error
    if not trials:
        raise BenchError(f"{path}: a baseline without trials; delete it and write it again")
    return trials


def write_baseline(path: Path, trials: Iterable[Measured]) -> None:
    """Write the file atomically: one figure per line, sorted by options, the dense network first."""
    ordered = sorted(
        trials,
        key=lambda trial: (*trial.task, trial.setting != DENSE, trial.setting, trial.written_stages, trial.seed),
    )
    blocks = [
        ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in asdict(trial).items())
        for trial in ordered
    ]
    inner = ",\n".join(f"  {{\n{block}\n  }}" for block in blocks)
    write_atomically(path, f'{{\n"format": {json.dumps(FORMAT)},\n"trials": [\n{inner}\n]\n}}\n'.encode())


def read_store(root: Path) -> list[Measured]:
    """Every trial in a store but those of searches, as it was measured last. BadArgument if there are none."""
    store = Store(root)
    latest = {}
    for record in (each for each in store.records() if not each.dataset.startswith(HELD_OUT)):
        trial = measured(record, store.folder(record.fingerprint))
        latest[*trial.task, trial.written_stages, trial.seed] = trial
    if not latest:
        raise BadArgument("store", root, "holds no records; `bench run` makes some")
    return list(latest.values())


def measured(record: Record, folder: Path) -> Measured:
    """A record with the predictions beside it. Raises StoreError if the two do not agree."""
    outcomes = _outcomes(folder / PREDICTIONS)
    if outcomes is not None and record.top1 is not None:
        right = float(np.mean(_unpacked(outcomes) == 0))
        if abs(right - record.top1) > 1e-6:
            raise StoreError(
                f"{folder}: top-1 is {record.top1:.6g} in {RECORD}, {right:.6g} by {PREDICTIONS}; "
                "delete the folder and run the trial again"
            )
    same = {name: getattr(record, name) for name in Measured.__dataclass_fields__ if hasattr(record, name)}
    return Measured(
        **same,
        stages=record.config.get("stages", []),
        sources=record.config.get("sources", []),
        conditions={name: record.config.get(name) for name in CONDITIONS},
        outcomes=outcomes,
    )


def _outcomes(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        errors = tensors["predictions"] - tensors["labels"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: not predictions ({error}); delete its folder and run the trial again") from error
    return pack_outcomes(errors)


def _unpacked(outcomes: str) -> NDArray[np.int32]:
    return np.frombuffer(zlib.decompress(base64.b64decode(outcomes, validate=True)), "<i4")


def pack_outcomes(errors: NDArray[np.int32]) -> str:
    """Compress to about one bit per image, because most are 0."""
    return base64.b64encode(zlib.compress(errors.astype("<i4").tobytes(), 9)).decode()
