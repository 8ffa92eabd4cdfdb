"""A search, the confirmation of its finalists on test images, and the answer."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.data.held_out import PREFIX
from bench.networks.own import is_reference
from bench.plugins.setting import Pipeline, with_dense
from bench.records.record import Record
from bench.records.store import Store
from bench.search.finalists import finalists
from bench.search.goal import Goal
from bench.search.rungs import Search
from bench.search.space import Family
from bench.search.verdict import Answer, Verdict, answer, best
from bench.system.errors import BenchError
from bench.system.progress import say
from bench.trials.plan import Opener, Plan
from bench.trials.run import Outcome, run
from bench.trials.session import Destination
from bench.trials.units import Engine


@dataclass(frozen=True)
class Found:
    """What a search has found: an answer for each finalist, the best first, and all records from test images.

    `epochs_spent` is the training of the search, in passes over the training images; `tried` counts its settings.
    """

    goal: Goal
    answers: tuple[Answer, ...]
    outcome: Outcome
    tried: int
    epochs_spent: float


class Unfinished:
    """Delivers records one by one; the means of MLflow are updated at the end of everything, not of every run."""

    def __init__(self, delivery: Destination) -> None:
        self.send = delivery.send

    def finish(self) -> None:
        """Not yet."""


@dataclass
class Finder:
    """Finds settings for one network: `plan` has one model, the dataset, and the budget and seeds of a finalist."""

    plan: Plan
    families: Sequence[Family]
    goal: Goal
    trials: int
    store: Store
    delivery: Destination | None = None
    engine: Engine | None = None

    def __post_init__(self) -> None:
        self._opener = Opener()
        self._records: dict[str, Record] = {}

    def find(self) -> Found:
        """The answer. Raises BenchError if no setting could be run."""
        say(f"looking for {self.goal}, on images held out of the training images")
        search = Search(self.families, self.goal, self.plan.epochs, self.trials, self._measure)
        tried = search.run()
        if not tried:
            raise BenchError("no setting could be run; the lines above say why")
        chosen = finalists(tried, self.goal, self.store)
        names = " and ".join(str(each.candidate.setting) for each in chosen)
        say(f"confirming {names} on the test images, with {len(self.plan.seeds)} seeds")
        spent = sum(record.epochs_spent or 0 for record in self._records.values())
        settings = {str(record.setting) for record in self._records.values()}
        outcome = self._run(replace(self.plan, settings=with_dense([each.candidate.setting for each in chosen])))
        return Found(self.goal, self._answers(outcome), outcome, len(settings), spent)

    def _answers(self, outcome: Outcome) -> tuple[Answer, ...]:
        by_setting: dict[str, list[Record]] = {}
        for record in outcome.records:
            if record.status == "ok" and record.setting != "none":
                by_setting.setdefault(record.setting, []).append(record)
        if not by_setting:
            raise BenchError("no finalist could be measured on the test images; the lines above say why")
        answers = [answer(records, self.goal, self.store) for records in by_setting.values()]
        first = best(answers, self.goal)
        return (first, *(each for each in answers if each is not first))

    def _measure(self, settings: Sequence[Pipeline], epochs: float) -> dict[str, Record]:
        plan = replace(
            self.plan,
            settings=settings,
            epochs=epochs,
            dataset=f"{PREFIX}:{self.plan.dataset}",
            seeds=(0,),
            timed=self.goal.is_timed,
        )
        records = self._run(plan).records
        self._records |= {record.fingerprint: record for record in records}
        return {record.setting: record for record in records if record.status == "ok"}

    def _run(self, plan: Plan) -> Outcome:
        delivery = None if self.delivery is None else Unfinished(self.delivery)
        return run(plan, self.store, delivery, engine=self.engine, opener=self._opener)


VERDICTS: dict[Verdict, str] = {
    "met": "{} is what was asked for",
    "not met": "no setting that was found is what was asked for; {} comes nearest",
    "cannot be told": "it cannot be told whether {} is what was asked for",
}


TWO_SEEDS = (
    "two seeds: the intervals are very wide, because their spread is known with one degree of freedom only; --seeds 3 "
    "makes them much narrower"
)


def in_words(found: Found) -> list[str]:
    """The answer, in sentences."""
    first, *others = found.answers
    return [
        f"{VERDICTS[first.verdict].format(first.setting)}: {_figures(first, found.goal)}",
        *(f"also confirmed: {each.setting} ({each.verdict}): {_figures(each, found.goal)}" for each in others),
        f"{found.tried} settings were compared on held-out images, with {found.epochs_spent:.3g} epochs of training "
        "together; these figures are from the test images, which took no part in the choice",
        *([TWO_SEEDS] if len(first.records) == 2 else []),
    ]


def _figures(each: Answer, goal: Goal) -> str:
    """The gain, and each bounded figure with its interval."""
    noisy = " (noisy)" if each.gain.noisy else ""
    texts = [f"{goal.gain.words} {goal.gain.written(each.gain.value)}{noisy}"]
    for bound, interval in each.bounds:
        figure = bound.figure
        spread = f" [{interval.low:.3g}, {interval.high:.3g}]" if interval.high > interval.low else ""
        noisy = " (noisy)" if interval.noisy else ""
        asked = f"at {bound.kind} {figure.written(bound.limit)} was asked for"
        texts.append(f"{figure.words} {figure.written(interval.value)}{spread}{noisy}, {asked}")
    return "; ".join(texts)


def deploying(found: Found, plan: Plan, store: Store) -> str:
    """The command that writes the answer's network as a file for other programs; of the seeds, that of the first."""
    record = found.answers[0].records[0]
    words = ["bench", "export", record.fingerprint, "--store", str(store.root), "--to", "onnx", "--out", "found.onnx"]
    words += ["--dataset", plan.dataset]
    words += ["--data-root", str(plan.data_root)] if plan.data_root else []
    words += ["--model", record.model] if is_reference(record.model) else []
    return shlex.join(words)
