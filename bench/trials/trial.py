"""One trial: what identifies it, and how it is run into a record."""

from __future__ import annotations

import errno
import hashlib
import inspect
import io
import json
import sys
import time
import tokenize
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bench.measuring import pictures
from bench.measuring.robustness import Attack
from bench.networks.layers import other_convolutions
from bench.plugins.method import Method
from bench.plugins.setting import Pipeline
from bench.records.record import Record
from bench.records.store import StoreError
from bench.system.environment import describe_device, versions
from bench.system.errors import BenchError, BudgetExceeded, Diverged, MethodFault, NoEffectWarning, Refused
from bench.system.progress import say
from bench.training.lab import Lab
from bench.training.loop import training_precision
from bench.trials.baseline import Task
from bench.trials.ruler import Ruler

PROTOCOL = 1
"""Raised when the harness measures something in another way, so that old and new figures are never mixed."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Trial:
    """Task x setting x seed, with a budget in passes over the training images, on a device; perhaps attacked."""

    task: Task
    setting: Pipeline
    seed: int
    epochs: float
    device: torch.device
    attack: Attack | None = None

    def __str__(self) -> str:
        return f"{self.task.name} on {self.task.dataset.title}: {self.setting}, seed {self.seed}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that a figure of this trial depends on, and that a person could choose otherwise."""
        task = self.task
        return {
            "protocol": PROTOCOL,
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
            "precision": {"training": training_precision(self.device), "measuring": "float32"},
            "device": describe_device(self.device),
        } | ({"attack": asdict(self.attack)} if self.attack else {})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits) of `identity`: the same trial has the same one, on any day."""
        text = json.dumps(self.identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def blank(self, command: str) -> Record:
        """The record before anything is measured."""
        return Record(
            fingerprint=self.fingerprint,
            status="failed",
            method=self.setting.name,
            setting=str(self.setting),
            model=self.task.name,
            dataset=self.task.dataset.title,
            weights=self.task.weights,
            seed=self.seed,
            budget_epochs=self.epochs,
            device=describe_device(self.device),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            versions=versions(),
            config=self.identity | {"command": command, "baseline": self.task.baseline},
            notes=list(self.task.dataset.remarks),
        )


def run_trial(trial: Trial, ruler: Ruler, folder: Path, command: str) -> Record:
    """Compress, measure, and fill a record; what goes wrong in a method becomes a failed record with its reason.

    A full disk, a broken store and Ctrl-C are not the method's fault and are raised.
    """
    record, started = trial.blank(command), time.monotonic()
    try:
        with _noting(record):
            _compress_and_measure(trial, ruler, folder, record)
        record.status = "ok"
    except StoreError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        record.error = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        if isinstance(error, Refused):
            record.config["refused"] = True
        (folder / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
    record.duration_seconds = time.monotonic() - started
    return record


def _compress_and_measure(trial: Trial, ruler: Ruler, folder: Path, record: Record) -> None:
    lab = ruler.lab(trial.epochs, trial.seed)
    torch.manual_seed(trial.seed)
    model = ruler.fresh_model()
    started = time.monotonic()
    model = _compressed(trial.setting, model, lab).eval()
    record.fit_seconds = lab.fit_seconds
    record.compress_seconds = time.monotonic() - started - lab.fit_seconds
    record.epochs_spent = lab.spent
    if same_structure(model, ruler.dense) and not trial.setting.control:
        warnings.warn(f"{trial.setting} made nothing of {trial.task.name} smaller", NoEffectWarning, stacklevel=1)
    if (others := other_convolutions(model)) and not trial.setting.control:
        kinds = ", ".join(sorted({type(layer).__name__ for layer in others}))
        weights = sum(parameter.numel() for layer in others for parameter in layer.parameters())
        record.notes.append(f"{len(others)} layers that are no Conv2d ({kinds}) stay dense: {weights:,} parameters")
    ruler.measure(model, lab.notes, folder, record)
    pictures.save(pictures.of_encodings(model) | lab.pictures, folder)
    if trial.attack:
        ruler.measure_robustness(trial.attack, folder, record)


def _compressed(setting: Pipeline, model: nn.Module, lab: Lab) -> nn.Module:
    """Refused where the setting does not fit the network, which only the network shows."""
    try:
        return setting.compress(model, lab)
    except (BudgetExceeded, Diverged, MethodFault):
        raise
    except BenchError as error:
        raise Refused(str(error)) from error


def same_structure(model: nn.Module, dense: nn.Module) -> bool:
    """Whether nothing was encoded or removed: the same tensors by name and shape."""
    ours, theirs = model.state_dict(), dense.state_dict()
    return ours.keys() == theirs.keys() and all(ours[name].shape == theirs[name].shape for name in ours)


@contextmanager
def _noting(record: Record) -> Iterator[None]:
    """Warnings raised in the block are said at once and kept in the record's notes."""

    def note(message: Warning | str, *_: object, **__: object) -> None:
        record.notes.append(str(message))
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # a library's affair, not the reader's
        warnings.showwarning = note
        yield


def source_digest(method: type[Method]) -> str:
    """SHA-256 (8 hex digits) of a method's file, and those it shares with others, without comments and blank lines.

    Editing a method makes its old records another trial's, so that nobody reads yesterday's figures as today's.
    """
    try:
        sources = [inspect.getsource(module) for module in _modules(method)] or [inspect.getsource(method)]
    except (OSError, TypeError):
        return "unknown"
    return hashlib.sha256("".join(token for source in sources for token in _code(source)).encode()).hexdigest()[:8]


def _modules(method: type[Method]) -> list[ModuleType]:
    """The method's module, and those beside it that begin with an underscore and give it something."""
    own = inspect.getmodule(method)
    if own is None:
        return []
    beside = f"{own.__name__.rpartition('.')[0]}._"
    names = {getattr(item, "__module__", None) or "" for item in vars(own).values()}
    return [own, *(sys.modules[name] for name in sorted(names) if name.startswith(beside) and name in sys.modules)]


def _code(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE):
            yield tokenize.tok_name[token.type]
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            yield token.string
