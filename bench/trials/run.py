"""`bench run`: trials expanded, those already recorded left out, the others run, recorded and delivered."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from bench.measuring.robustness import Attack
from bench.networks import zoo
from bench.plugins.registry import open_dataset
from bench.plugins.setting import Pipeline
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.system.errors import BenchError
from bench.system.progress import bar, say
from bench.trials.baseline import Task, load_task, needs_training
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial, run_trial

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
    attack: int = 0
    attack_distance: int = 8
    """Test images to attack; none are by default."""
    device: torch.device = torch.device("cpu")
    command: str = ""
    suite: str = ""
    """The file's name, where a suite asks for this."""

    @property
    def pairs(self) -> list[tuple[Pipeline, int]]:
        """Every setting with every seed; the dense network as it is knows no chance, and one seed of it is enough."""
        return [
            (setting, seed)
            for setting in self.settings
            for seed in (self.seeds[:1] if str(setting) == "none" else self.seeds)
        ]

    def command_for(self, trial: Trial) -> str:
        """What runs this setting alone, up to this seed: of a suite, or of a command with many."""
        options = {
            "--methods": trial.setting,
            "--models": trial.task.name,
            "--dataset": self.dataset,
            "--data-root": self.data_root,
            "--weights": self.weights,
            "--epochs": f"{self.epochs:g}",
            "--seeds": trial.seed + 1,
            "--attack": self.attack or None,
            "--attack-distance": self.attack_distance if self.attack else None,
            "--device": self.device.type,
        }
        words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
        return shlex.join(["bench", "run", *words])

    def trials(self, task: Task) -> list[Trial]:
        """Every pair on one of the models; an attack takes all test images where there are fewer than asked for."""
        images = min(self.attack, len(task.dataset.split("test"))) if self.attack else 0
        attack = Attack(images, self.attack_distance) if images else None
        return [Trial(task, setting, seed, self.epochs, self.device, attack) for setting, seed in self.pairs]


@dataclass(frozen=True)
class Outcome:
    """The records of one or more plans in their order, each once, and how many of them were there before."""

    records: list[Record]
    found: int
    problems: list[str] = field(default_factory=list)
    """Datasets that could not be opened, and models that could not be loaded or trained."""

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.status == "failed"]

    @property
    def refused(self) -> bool:
        """Whether nothing failed but settings that do not fit their networks."""
        return not self.problems and all(record.config.get("refused") for record in self.failed)


@dataclass(frozen=True)
class Opened:
    """A part of a plan: one model on its dataset, ready to be measured, or what is the matter with it."""

    plan: Plan
    model: str
    ruler: Ruler | None
    """None with a problem, and where a baseline would have to be trained, but must not."""
    problem: str = ""

    @property
    def trials(self) -> list[Trial]:
        return self.plan.trials(self.ruler.task) if self.ruler else []


def check_models(plans: Sequence[Plan]) -> None:
    """A BenchError for a name that is no network's."""
    for plan in plans:
        for name in plan.models:
            zoo.check_name(name)


def open_plans(plans: Sequence[Plan], *, train: bool = True) -> Iterator[Opened]:
    """Each model of each plan in turn. What cannot be opened is a problem among others, and raised where it is all.

    Neighbours often share a dataset or a model, so the latest of each is kept. Without `train` no baseline is trained.
    """
    dataset_of = lru_cache(maxsize=1)(open_dataset)

    @lru_cache(maxsize=1)
    def ruler_of(name: str, spec: str, root: Path | None, weights: str, device: torch.device) -> Ruler | None:
        dataset = dataset_of(spec, root)
        if not train and needs_training(name, dataset, weights):
            return None
        return Ruler(load_task(name, dataset, weights, device), device)

    for plan in plans:
        try:
            dataset_of(plan.dataset, plan.data_root)
        except (BenchError, OSError) as error:
            if len(plans) == 1:
                raise
            yield from (Opened(plan, name, None, str(error)) for name in plan.models)
            continue
        for name in plan.models:
            ruler, problem = None, ""
            try:
                ruler = ruler_of(name, plan.dataset, plan.data_root, plan.weights, plan.device)
            except BenchError as error:
                if len(plans) == len(plan.models) == 1:
                    raise
                problem = f"{name if len(plans) == 1 else f'{name} on {plan.dataset}'}: {error}"
            yield Opened(plan, name, ruler, problem)


class Destination(Protocol):
    """Where finished records go besides the store, such as MLflow."""

    def send(self, record: Record) -> None:
        """Take one record; called for each, recorded before or just now."""

    def finish(self) -> None:
        """Called once, after the last record."""


def run(plans: Plan | Sequence[Plan], store: Store, delivery: Destination | None = None) -> Outcome:
    """Run what the store lacks; a failed trial is tried again. Everything that was finished is kept, whatever ends it.

    Runs on one store at the same time share the work: what another is at is left to it, and waited for in the end.
    Without a `delivery` nothing goes to MLflow; where it cannot be reached, the trials go on.
    """
    plans = [plans] if isinstance(plans, Plan) else plans
    check_models(plans)
    store.check_writable(NEEDED_BYTES)
    records: dict[str, Record] = {}
    order, elsewhere = dict[str, None](), list[tuple[Trial, Ruler, Plan]]()
    found, problems = 0, dict[str, None]()

    def keep(record: Record) -> None:
        records[record.fingerprint] = record
        if delivery is not None:
            delivery.send(record)
        advance(1)

    with bar("trials", sum(len(plan.models) * len(plan.pairs) for plan in plans)) as advance:
        for part in open_plans(plans):
            if part.ruler is None:
                if part.problem not in problems:
                    say(f"failed: {part.problem}")
                problems[part.problem] = None
                advance(len(part.plan.pairs))
                continue
            for trial in part.trials:
                if trial.fingerprint in order:
                    advance(1)
                    continue
                order[trial.fingerprint] = None
                if known := _finished(trial, store):
                    found += 1
                    keep(known)
                    continue
                with store.claim(trial.fingerprint) as ours:
                    if ours:
                        keep(_finished(trial, store) or _run_one(trial, part.ruler, store, part.plan))
                    else:
                        elsewhere.append((trial, part.ruler, part.plan))
        for trial, ruler, plan in elsewhere:
            say(f"{trial}: another run is at it")
            with store.claim(trial.fingerprint, wait=True):
                keep(store.get(trial.fingerprint) or _run_one(trial, ruler, store, plan))
    if problems and not records:
        raise BenchError("; ".join(problems))
    if delivery is not None:
        delivery.finish()
    return Outcome([records[fingerprint] for fingerprint in order], found, list(problems))


def _finished(trial: Trial, store: Store) -> Record | None:
    record = store.get(trial.fingerprint)
    return record if record is not None and record.status == "ok" else None


def _run_one(trial: Trial, ruler: Ruler, store: Store, plan: Plan) -> Record:
    say(f"{trial}, {trial.epochs:g} epochs")
    with store.prepare(trial.fingerprint) as folder:
        record = run_trial(trial, ruler, folder, plan.command)
        record.config["repeat"] = plan.command_for(trial)
        if plan.suite:
            record.config["suite"] = plan.suite
        write_record(record, folder)
    if record.error:
        trace = store.folder(trial.fingerprint) / "traceback.txt"
        say(f"failed: {record.error}" + ("" if record.config.get("refused") else f" (more in {trace})"))
    return record
