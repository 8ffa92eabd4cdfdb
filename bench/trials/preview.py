"""`bench run --dry-run`: lists the trials and which are recorded. It trains nothing and writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.records.store import Store, UnreadableRecord
from bench.system.grid import Grid, Heading
from bench.system.terminal import output
from bench.system.text import one_line
from bench.trials.plan import Plan, check_models, open_plans
from bench.trials.recalibration import BATCHES

RECORDED, FAILED, TO_RUN, TO_TRAIN = "recorded", "failed, to run again", "to run", "to run, baseline to be trained"
INCOMPLETE, UNREADABLE = "recorded, without its artifact or predictions", "its record cannot be read"

GRANTED = (
    f"A trial that does not train after its last change of weights gets up to {BATCHES} training batches to "
    "re-estimate batch-norm statistics, beyond its budget where that is spent; with --no-recalibrate it gets none."
)


@dataclass(frozen=True)
class Expected:
    """A trial of a plan, and its state in the store."""

    model: str
    dataset: str
    setting: str
    epochs: float
    seed: int
    attack: int
    recalibrate: bool
    state: str


@dataclass(frozen=True)
class Preview:
    """The trials of the plans in order, each once, and the datasets, models and records that cannot be read."""

    trials: list[Expected] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """Operating points that a method cannot reach, and how close it gets."""


def preview(plans: Sequence[Plan], store: Store) -> Preview:
    """The trials that `run` would measure. Datasets and published weights are fetched: they identify a trial."""
    trials: dict[object, Expected] = {}
    problems: dict[str, None] = {}
    missed: dict[str, None] = {}
    check_models(plans)
    for part in open_plans(plans, train=False):
        plan = part.plan
        problems |= dict.fromkeys(filter(None, [part.problem, *part.errors]))
        missed |= dict.fromkeys(part.missed)
        if part.problem or ((part.missed or part.errors) and not part.ruler):
            continue
        prints: list[str | None] = [trial.fingerprint for trial in part.trials]
        prints = prints or [None] * len(part.names)
        for (setting, seed), fingerprint in zip(part.names, prints, strict=True):
            try:
                state = _state(store, fingerprint) if fingerprint else TO_TRAIN
            except UnreadableRecord as error:
                state = UNREADABLE
                problems[str(error)] = None
            named = (part.model, plan.dataset, setting, plan.epochs, seed, plan.attack, plan.recalibrate)
            trial = Expected(*named, state)
            trials.setdefault(fingerprint or trial, trial)
    return Preview(list(trials.values()), list(problems), list(missed))


def _state(store: Store, fingerprint: str) -> str:
    record = store.get(fingerprint)
    if record is None:
        return TO_RUN
    if record.status != "ok":
        return FAILED
    return INCOMPLETE if store.missing_files(record) else RECORDED


def show(shown: Preview) -> None:
    """Print one line per trial, the number of trials in each state, and what is granted beyond the budget."""
    attacked = any(trial.attack for trial in shown.trials)
    names = ["model", "dataset", "setting", "epochs", "seed", *(["attack"] if attacked else []), "state"]
    folds = ("model", "dataset", "setting", "state")
    table = Grid([Heading(name, folds=name in folds) for name in names], ruled=False)
    for trial in shown.trials:
        cells = {**vars(trial), "epochs": f"{trial.epochs:g}", "attack": trial.attack or "–"}
        table.add_row([one_line(str(cells[name])) for name in names])
    counts = Counter(trial.state for trial in shown.trials)
    output().print(table)
    output().print("; ".join(f"{count} {state}" for state, count in counts.items()) or "no trials")
    if any(trial.recalibrate for trial in shown.trials):
        output().print(GRANTED, soft_wrap=True)
