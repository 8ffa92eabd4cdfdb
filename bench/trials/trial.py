"""One trial: what identifies it, and how running it gives a record."""

from __future__ import annotations

import errno
import json
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.deploying.runtimes import DEFAULT, runtime_version
from bench.isolation.changes import Changes
from bench.isolation.randomness import seeded
from bench.isolation.snapshot import require_intact, spoil
from bench.measuring import pictures
from bench.measuring.robustness import Attack
from bench.networks.layers import other_convolutions
from bench.plugins.setting import Pipeline
from bench.records.identity import fingerprint_of
from bench.records.record import ON, Record
from bench.records.store import StoreError
from bench.system.clock import working_seconds
from bench.system.environment import describe_device, versions
from bench.system.errors import BenchError, BudgetExceeded, Diverged, MethodFault, NoEffectWarning, Refused
from bench.system.progress import detail, say
from bench.system.threads import waiting
from bench.training.lab import Lab
from bench.training.resuming import Checkpoints
from bench.trials import recalibration
from bench.trials.guard import Guard
from bench.trials.kinds import Kind
from bench.trials.results import Effort, Results, assemble, failed
from bench.trials.ruler import Ruler, same_structure
from bench.trials.sources import harness_digest, source_digest
from bench.trials.task import Task

PROTOCOL = 2
"""Increased when the harness measures something differently, so that old and new figures are never mixed.

2: batch-norm statistics are re-estimated, only one process times on a machine, every method can store numbers in any
format, and the executable form (`bench.execution`) is timed instead of the decoded network.
"""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Trial:
    """Task x setting x seed, with a budget in passes over the training images, on a device, with or without an attack.

    `recalibrate` says whether batch-norm statistics are re-estimated if training has not settled them. With a `runtime`
    other than torch, the network of the same trial in torch is timed. `timed` says whether anything is timed.
    """

    task: Task
    setting: Pipeline
    seed: int
    epochs: float
    device: torch.device
    attack: Attack | None = None
    recalibrate: bool = True
    runtime: str = DEFAULT
    timed: bool = True
    checkpoints: Path | None = field(default=None, compare=False)
    """The folder for checkpoints of a long training; without one, a trial that is killed starts anew."""

    def __str__(self) -> str:
        return f"{self.task.name} on {self.task.dataset.title}: {self.title}, seed {self.seed}"

    @property
    def title(self) -> str:
        """The setting, and the runtime if it is not torch."""
        return str(self.setting) if self.runtime == DEFAULT else f"{self.setting}{ON}{self.runtime}"

    @property
    def in_torch(self) -> Trial:
        """The trial in torch, which makes and tests the network that this one times."""
        return replace(self, runtime=DEFAULT)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that can vary and that the figures of this trial depend on."""
        task = self.task
        return (
            {
                "protocol": PROTOCOL,
                "recalibrate": self.recalibrate,
                "stages": self.setting.options,
                "sources": [source_digest(type(stage)) for stage in self.setting.nested],
                "model": task.name,
                "dataset": task.dataset.title,
                "dataset_digest": task.dataset.digest,
                "weights_digest": task.digest,
                "preprocessing": asdict(task.preprocessing),
                "recipe": asdict(task.dataset.recipe),
                "seed": self.seed,
                "epochs": float(self.epochs),
            }
            | Kind.of(self.device).identity
            | ({"model_source": task.source} if task.source else {})
            | ({"attack": asdict(self.attack)} if self.attack else {})
            | ({} if self.timed else {"timed": False})
            | self._runtime
        )

    @property
    def _runtime(self) -> dict[str, str]:
        """The runtime and its package's version; empty for torch, so that the identity of its trials is unchanged."""
        if self.runtime == DEFAULT:
            return {}
        return {"runtime": self.runtime, "runtime_version": runtime_version(self.runtime)}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits) of `identity`: the same trial always has the same fingerprint."""
        return fingerprint_of(self.identity)

    def fingerprint_on(self, kind: Kind) -> str:
        """The fingerprint of this trial on another kind of machine."""
        return fingerprint_of(self.identity | kind.identity)

    def open_checkpoints(self) -> Checkpoints | None:
        """The checkpoints of this trial; those of other code or of other versions of the libraries are not used."""
        if self.checkpoints is None:
            return None
        key = json.dumps([self.fingerprint, versions(), harness_digest()])
        return Checkpoints(self.checkpoints, key, str(self))

    def blank(self, command: str) -> Record:
        """The record before anything is measured."""
        return Record(
            fingerprint=self.fingerprint,
            status="failed",
            method=self.setting.name,
            setting=self.title,
            runtime=self.runtime,
            model=self.task.name,
            dataset=self.task.dataset.title,
            weights=self.task.weights,
            seed=self.seed,
            budget_epochs=self.epochs,
            recalibrate=self.recalibrate,
            device=describe_device(self.device),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            versions=versions(),
            config=self.identity | {"command": command, "baseline": self.task.baseline, "idle_threads": waiting()},
            notes=list(self.task.dataset.remarks),
        )


def run_trial(trial: Trial, ruler: Ruler, folder: Path, command: str) -> Record:
    """Compress and measure. If a method goes wrong, the record is a failed one that gives the reason.

    `folder` receives the artifact, the predictions, the tables and the pictures, or `traceback.txt`. A trial that
    changed what other trials share fails too, and its record names what it changed. If the change could not be undone,
    the next trial raises SpoiledProcess.

    A full disk, a broken store and Ctrl-C are not the method's fault and are raised.
    """
    require_intact()
    blank, started = trial.blank(command), time.monotonic()
    notes: list[str] = [ruler.remark] if ruler.remark else []
    results: Results | None = None
    problem, trace = "", ""
    guard = Guard(ruler)
    checkpoints = trial.open_checkpoints()
    try:
        with _noting(notes), seeded(trial.seed), guard:
            results = _compress_and_measure(trial, ruler, folder, notes, checkpoints)
    except Exception as error:
        if isinstance(error, StoreError) or (isinstance(error, OSError) and error.errno in DISK_FULL):
            raise
        problem, trace = _reason(error), traceback.format_exc()
        blank.config |= {"refused": True} if isinstance(error, Refused) else {}
        blank.config |= {"over_budget": True} if isinstance(error, BudgetExceeded) else {}
    if guard.changes:
        problem, trace = _blame(trial, guard.changes, problem), f"{trace}{guard.changes.listed()}"
        blank.config = {name: value for name, value in blank.config.items() if name not in ("refused", "over_budget")}
        blank.config |= {"spoiled": True} if guard.changes.lost else {}
    seconds = time.monotonic() - started + (checkpoints.earlier_seconds if checkpoints else 0)
    if results is not None and not problem:
        return assemble(blank, results, notes, seconds)
    (folder / "traceback.txt").write_text(trace, encoding="utf-8", errors="backslashreplace")
    return failed(blank, problem, notes, seconds)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


def _blame(trial: Trial, changes: Changes, problem: str) -> str:
    """Why a trial failed that changed what others share. If the change could not be undone, no trial may follow."""
    if changes.lost:
        spoil(f"{trial}: {changes}")
    also = f"; it failed, too: {problem}" if problem else ""
    return f"{trial.setting} changed what other trials share: {changes}{also}"


def _compress_and_measure(
    trial: Trial, ruler: Ruler, folder: Path, notes: list[str], checkpoints: Checkpoints | None
) -> Results:
    lab = ruler.lab(trial.epochs, trial.seed, checkpoints)
    model = ruler.fresh_model()
    started = working_seconds()
    model = _compressed(trial.setting, model, lab).eval()
    seconds = working_seconds() - started
    if checkpoints is not None:
        checkpoints.close()
        notes += checkpoints.remark()
        seconds += checkpoints.earlier_seconds
    statistics = recalibration.settle(model, lab, ruler, trial.seed, wanted=trial.recalibrate)
    notes += recalibration.remark(statistics, lab)
    effort = Effort(seconds - lab.fit_seconds, lab.fit_seconds, lab.spent + statistics.epochs)
    detail(f"compressed in {seconds:.1f} s, {lab.fit_seconds:.1f} s of them for {lab.spent:g} epochs; measuring")
    if not trial.setting.control:
        notes += _remarks(trial, model, ruler)
    measured = ruler.measure(model, lab, folder, timed=trial.timed)
    for remark in measured.remarks:
        say(f"note: {remark}")
    notes += measured.remarks + (measured.speed.notes if measured.speed else [])
    pictures.save(pictures.of_encodings(model) | lab.pictures, folder)
    attacked = ruler.measure_robustness(trial.attack, folder, trial.seed) if trial.attack else None
    return Results(effort, statistics, measured, attacked)


def _remarks(trial: Trial, model: nn.Module, ruler: Ruler) -> list[str]:
    """Warn if the method had no effect, and say which layers no method touches."""
    if same_structure(model, ruler.dense):
        warnings.warn(f"{trial.setting} left {trial.task.name} as large as it was", NoEffectWarning, stacklevel=1)
    others = other_convolutions(model)
    if not others:
        return []
    kinds = ", ".join(sorted({type(layer).__name__ for layer in others}))
    weights = sum(parameter.numel() for layer in others for parameter in layer.parameters())
    return [f"{len(others)} layers that are not Conv2d ({kinds}) stay dense: {weights:,} parameters"]


def _compressed(setting: Pipeline, model: nn.Module, lab: Lab) -> nn.Module:
    """The compressed network; Refused if the setting does not fit the network, which cannot be known earlier."""
    try:
        return setting.compress(model, lab)
    except (BudgetExceeded, Diverged, MethodFault):
        raise
    except BenchError as error:
        raise Refused(str(error)) from error


@contextmanager
def _noting(notes: list[str]) -> Iterator[None]:
    """Print warnings from the block at once, and add them to `notes`."""

    def note(message: Warning | str, *_: object, **__: object) -> None:
        notes.append(str(message))
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # of no use to a reader of results
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, in a notebook without ipywidgets
        warnings.showwarning = note
        yield
