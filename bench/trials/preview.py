"""`bench run --dry-run`: the trials, and which of them are recorded already. Nothing is trained, no store written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from bench.records.store import Store
from bench.system.terminal import output
from bench.trials.run import Plan, check_models, open_plans

RECORDED, FAILED, TO_RUN, TO_TRAIN = "recorded", "failed, to run again", "to run", "to run, baseline to be trained"


@dataclass(frozen=True)
class Expected:
    """A trial as a plan names it, and whether the store has it."""

    model: str
    dataset: str
    setting: str
    epochs: float
    seed: int
    attack: int
    state: str


@dataclass(frozen=True)
class Preview:
    """The trials of plans in their order, each once, and what cannot be opened."""

    trials: list[Expected] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def preview(plans: Sequence[Plan], store: Store) -> Preview:
    """What `run` would find and do. Datasets and published weights are fetched, for a trial is known by them."""
    trials: dict[object, Expected] = {}
    problems: dict[str, None] = {}
    check_models(plans)
    for part in open_plans(plans, train=False):
        plan = part.plan
        if part.problem:
            problems[part.problem] = None
            continue
        prints: list[str | None] = [trial.fingerprint for trial in part.trials]
        prints = prints or [None] * len(plan.pairs)
        for (setting, seed), fingerprint in zip(plan.pairs, prints, strict=True):
            state = _state(store, fingerprint) if fingerprint else TO_TRAIN
            trial = Expected(part.model, plan.dataset, str(setting), plan.epochs, seed, plan.attack, state)
            trials.setdefault(fingerprint or trial, trial)
    return Preview(list(trials.values()), list(problems))


def _state(store: Store, fingerprint: str) -> str:
    record = store.get(fingerprint)
    if record is None:
        return TO_RUN
    return RECORDED if record.status == "ok" else FAILED


def show(found: Preview) -> None:
    """Print a line a trial, and how many there are of each state."""
    table = Table("model", "dataset", "setting", "epochs", "seed", "attack", "state", box=None, pad_edge=False)
    for trial in found.trials:
        named = (trial.model, trial.dataset, trial.setting, f"{trial.epochs:g}", str(trial.seed))
        table.add_row(*named, str(trial.attack or "–"), trial.state)
    counts = Counter(trial.state for trial in found.trials)
    output().print(table)
    output().print("; ".join(f"{count} {state}" for state, count in counts.items()))
