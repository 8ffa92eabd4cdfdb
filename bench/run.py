"""`bench run`: trials expanded, those already recorded left out, the others run, recorded and delivered."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench import zoo
from bench.baseline import load_task
from bench.dataset import Dataset
from bench.errors import BenchError
from bench.files import write_atomically
from bench.measure import Ruler
from bench.progress import bar, say
from bench.record import Record
from bench.registry import datasets, look_up
from bench.setting import Pipeline
from bench.store import Store, write_record
from bench.tracking import Tracker, database_missing, tracking_uri, without_password
from bench.trial import Trial, run_trial

NEEDED_BYTES = 50_000_000
"""Least free space to begin with."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run: every model x setting x seed on one dataset. `weights` is auto, pretrained, scratch or a file."""

    settings: Sequence[Pipeline]
    models: Sequence[str]
    dataset: str = "fashion-mnist"
    data_root: Path | None = None
    weights: str = "auto"
    epochs: float = 1
    seeds: Sequence[int] = (0,)
    device: torch.device = torch.device("cpu")
    command: str = ""

    @property
    def pairs(self) -> list[tuple[Pipeline, int]]:
        """Every setting with every seed; the dense network as it is knows no chance, and one seed of it is enough."""
        return [
            (setting, seed)
            for setting in self.settings
            for seed in (self.seeds[:1] if str(setting) == "none" else self.seeds)
        ]


@dataclass(frozen=True)
class Outcome:
    """The records of a plan in its order, and how many of them were there before."""

    records: list[Record]
    found: int
    problems: list[str] = field(default_factory=list)
    """Models that could not be loaded or trained."""

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.status == "failed"]


def open_dataset(spec: str, root: Path | None = None) -> Dataset:
    """The dataset that `NAME` or `NAME:ARGUMENT` names."""
    name, colon, argument = spec.partition(":")
    kind = look_up(name, datasets(), "dataset", "--dataset")
    return kind.open(argument if colon else None, root)


def run(plan: Plan, store: Store, delivery: Delivery | None = None) -> Outcome:
    """Run what the store lacks; a failed trial is tried again. Everything that was finished is kept, whatever ends it.

    Without a `delivery` nothing goes to MLflow; where it cannot be reached, the trials go on.
    """
    for name in plan.models:
        zoo.check_name(name)
    store.check_writable(NEEDED_BYTES)
    dataset = open_dataset(plan.dataset, plan.data_root)
    records: list[Record] = []
    found, problems = 0, []
    with bar("trials", len(plan.models) * len(plan.pairs)) as advance:
        for name in plan.models:
            try:
                task = load_task(name, dataset, plan.weights, plan.device)
            except BenchError as error:
                if len(plan.models) == 1:
                    raise
                problems.append(f"{name}: {error}")
                say(f"failed: {problems[-1]}")
                continue
            ruler = Ruler(task, plan.device)
            for setting, seed in plan.pairs:
                trial = Trial(task, setting, seed, plan.epochs, plan.device)
                known = store.get(trial.fingerprint)
                if known is not None and known.status == "ok":
                    record, found = known, found + 1
                else:
                    record = _run_one(trial, ruler, store, plan.command)
                records.append(record)
                if delivery is not None:
                    delivery.send(record)
                advance(1)
    if problems and not records:
        raise BenchError("; ".join(problems))
    return Outcome(records, found, problems)


def _run_one(trial: Trial, ruler: Ruler, store: Store, command: str) -> Record:
    say(f"{trial}, {trial.epochs:g} epochs")
    with store.prepare(trial.fingerprint) as folder:
        record = run_trial(trial, ruler, folder, command)
        write_record(record, folder)
    if record.error:
        say(f"failed: {record.error}")
    return record


class Delivery:
    """Sends records to MLflow as they come, and remembers which went, so that a repeated run need not ask.

    After a failure nothing more is sent in this run: the records wait in the store for `bench sync`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._tracker: Tracker | None = None
        self._failed = False

    def send(self, record: Record) -> None:
        mark = self._mark(record)
        known = mark.is_file() and mark.read_text() == record.started_at and not database_missing(self.store.root)
        if self._failed or known:
            return
        try:
            self._tracker = self._tracker or Tracker(self.store.root)
            self._tracker.log(record, self.store.folder(record.fingerprint))
            write_atomically(mark, record.started_at.encode())
        except (BenchError, OSError) as error:
            self._failed = True
            say(f"warning: {error}")

    @property
    def hint(self) -> str:
        """How to look at what was delivered."""
        store = f"--store {shlex.quote(str(self.store.root))}"
        if self._failed:
            return f"`bench sync {store}` delivers them to MLflow"
        uri = tracking_uri(self.store.root)
        if uri.startswith("http"):
            return f"MLflow at {without_password(uri)} shows them"
        return f"`bench ui {store}` shows them"

    def _mark(self, record: Record) -> Path:
        place = hashlib.sha256(tracking_uri(self.store.root).encode()).hexdigest()[:8]
        return self.store.root / ".delivered" / place / record.fingerprint
