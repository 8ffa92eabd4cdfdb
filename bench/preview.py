"""`bench run --dry-run`: the trials, and which of them are recorded already. Nothing is trained, no store written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from bench.run import Plan, open_plans
from bench.store import Store
from bench.terminal import output

RECORDED, FAILED, TO_RUN, TO_TRAIN = "recorded", "failed, to run again", "to run", "to run, baseline to be trained"


@dataclass(frozen=True)
class Expected:
    """A trial, and whether the store has it."""

    model: str
    dataset: str
    setting: str
    epochs: float
    seed: int
    state: str


@dataclass(frozen=True)
class Preview:
    """The trials of plans in their order, each once, and what cannot be opened."""

    trials: list[Expected] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def preview(plans: Sequence[Plan], store: Store) -> Preview:
    """What `run` would find and do. Datasets and published weights are fetched, for a trial is known by them."""
    found = Preview()
    seen: set[str] = set()
    for part in open_plans(plans, train=False):
        if part.problem and part.problem not in found.problems:
            found.problems.append(part.problem)
        elif part.ruler is None and not part.problem:
            for setting, seed in part.plan.pairs:
                row = (part.model, part.plan.dataset, str(setting), part.plan.epochs, seed)
                found.trials.append(Expected(*row, TO_TRAIN))
        for trial in part.trials:
            if trial.fingerprint not in seen:
                row = (trial.task.name, part.plan.dataset, str(trial.setting), trial.epochs, trial.seed)
                found.trials.append(Expected(*row, _state(store, trial.fingerprint)))
            seen.add(trial.fingerprint)
    return found


def _state(store: Store, fingerprint: str) -> str:
    record = store.get(fingerprint)
    if record is None:
        return TO_RUN
    return RECORDED if record.status == "ok" else FAILED


def show(found: Preview) -> None:
    """Print a line a trial, and how many there are of each state."""
    table = Table("model", "dataset", "setting", "epochs", "seed", "state", box=None, pad_edge=False)
    for trial in found.trials:
        place = (trial.model, trial.dataset, trial.setting, f"{trial.epochs:g}", str(trial.seed))
        table.add_row(*place, trial.state)
    counts = Counter(trial.state for trial in found.trials)
    output().print(table, markup=False)
    output().print("; ".join(f"{count} {state}" for state, count in counts.items()), markup=False)
