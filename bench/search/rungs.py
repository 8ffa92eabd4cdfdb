"""A search in rungs: many settings with little training, a third of them with three times as much, and so on.

Optuna proposes the settings of the first rung, a few at a time, from what the earlier ones gave (tree-structured Parzen
estimators: Bergstra et al., Algorithms for Hyper-Parameter Optimization, NeurIPS 2011). The best third of a rung goes
on to the next (successive halving: Jamieson and Talwalkar, AISTATS 2016). At the last rung, which has the whole budget,
the strengths of the families that are ahead are narrowed to where the bounds are just kept.

Proposals depend on the seed and on results only. So a search that was interrupted asks for the same settings again,
finds them in the store, and goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.records.record import Record
from bench.search.candidates import Candidate, Measure, Tried
from bench.search.goal import Goal
from bench.search.narrowing import as_places, grid_of, next_place
from bench.search.space import Family
from bench.system.progress import say

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

KEPT = 3
"""One of so many settings goes on to the next rung, with so many times the budget."""
RUNGS = 3
BATCH = 4
"""Settings that are proposed at once; the same for any number of processes, so that proposals are the same, too."""
SEED = 0
STARTS = 10
"""Settings that are proposed before earlier results count, at most. The first are one of each family."""
GENTLE, STRICT = 0.25, 4.0
"""Doublings of the gain that a point of lost accuracy beyond the bound outweighs: before the last rung, where training
may still win it back, and at the last."""
UNREACHED = 10.0
"""The same for a doubling that lacks to a bound on a ratio or a size, which training does not change."""
POINTS = 4.0
"""Points of top-1 that count like a doubling of a gain, if top-1 is what is to be improved."""
LEADERS, NARROWED = 2, 8
"""Families whose strengths are narrowed at the last rung, in turn, and the steps together."""


@dataclass(frozen=True)
class Search:
    """Looks for what meets `goal` in `families`, with up to `epochs` of training a setting.

    The first rung has `trials` proposals, and at least one of each family.
    """

    families: Sequence[Family]
    goal: Goal
    epochs: float
    trials: int
    measure: Measure

    @property
    def budgets(self) -> list[float]:
        """Epochs of each rung, the whole budget last."""
        return sorted({round(self.epochs / KEPT**rung, 6) for rung in range(RUNGS)})

    def run(self) -> list[Tried]:
        """Everything that was tried with the whole budget, best first."""
        first, *later = self.budgets
        tried = self._explore(first)
        for number, budget in enumerate(later, 2):
            going_on = self._best(tried, math.ceil(len(tried) / KEPT))
            say(f"rung {number} of {len(self.budgets)}: the best {len(going_on)} with {budget:g} epochs each")
            tried = self._try([each.candidate for each in going_on], budget)
        tried += self._narrow(tried)
        return self._ranked(tried)

    def _explore(self, budget: float) -> list[Tried]:
        count = max(self.trials, len(self.families))
        say(f"rung 1 of {len(self.budgets)}: {count} settings with {budget:g} epochs each")
        study, tried = _study([family.name for family in self.families]), dict[str, Tried]()
        for family in self.families:
            study.enqueue_trial({FAMILY: family.name, **family.middle})
        for begin in range(0, count, BATCH):
            asked = [self._ask(study) for _ in range(min(BATCH, count - begin))]
            for each in self._try([candidate for _, candidate in asked if candidate], budget):
                tried[str(each.candidate.setting)] = each
            for trial, candidate in asked:
                known = tried.get(str(candidate.setting)) if candidate else None
                _tell(study, trial, None if known is None else self._loss(known.record, GENTLE))
        return list(tried.values())

    def _ask(self, study: Study) -> tuple[Trial, Candidate | None]:
        """A proposal; no candidate where its options exclude each other."""
        trial = study.ask()
        name = trial.suggest_categorical(FAMILY, [family.name for family in self.families])
        family = next(family for family in self.families if family.name == name)
        point = family.suggest(trial)
        return trial, Candidate(family, point) if family.fits(point) else None

    def _try(self, candidates: Iterable[Candidate], budget: float) -> list[Tried]:
        asked = {str(candidate.setting): candidate for candidate in candidates}
        records = self.measure([candidate.setting for candidate in asked.values()], budget) if asked else {}
        return [Tried(candidate, records[name]) for name, candidate in asked.items() if name in records]

    def _loss(self, record: Record, weight: float) -> float:
        """What is to be as low as possible, in doublings of the gain; `weight` is `GENTLE` or `STRICT`."""
        worth = self.goal.worth(record) / (POINTS if self.goal.gain.is_accuracy else 1)
        lost, lacking = (self.goal.violation(record, of_accuracy=kind) for kind in (True, False))
        return min(-worth + weight * lost + UNREACHED * lacking, 1e6)

    def _best(self, tried: Sequence[Tried], count: int) -> list[Tried]:
        """Half of them keep every bound already; the others are those that more training may bring there."""
        keeping = sorted(
            (each for each in tried if self.goal.keeps(each.record)), key=lambda each: -self.goal.worth(each.record)
        )
        best = self.goal.worth(keeping[0].record) if keeping else -math.inf
        others = sorted(
            (each for each in tried if not self.goal.keeps(each.record) and self.goal.worth(each.record) > best),
            key=lambda each: self._loss(each.record, GENTLE),
        )
        ranked = [*keeping[: math.ceil(count / 2)], *others]
        return (ranked + keeping[math.ceil(count / 2) :])[:count]

    def _narrow(self, tried: Sequence[Tried]) -> list[Tried]:
        known = list(tried)
        for step in range(NARROWED):
            candidate = self._moved(known, step % LEADERS)
            if candidate is None or str(candidate.setting) in {str(each.candidate.setting) for each in known}:
                continue
            say(f"narrowing {step + 1} of {NARROWED}: {candidate.setting}")
            known += self._try([candidate], self.budgets[-1])
        return known[len(tried) :]

    def _ranked(self, tried: Iterable[Tried]) -> list[Tried]:
        return sorted(tried, key=lambda each: (not self.goal.keeps(each.record), self._loss(each.record, STRICT)))

    def _moved(self, known: Sequence[Tried], place: int) -> Candidate | None:
        """The best candidate of the family in this place, with strengths to try next; see `bench.search.narrowing`."""
        strong = [each for each in known if each.candidate.family.strengths]
        if not strong:
            return None
        leaders: dict[str, Candidate] = {}
        for each in sorted(strong, key=lambda each: self._loss(each.record, STRICT)):
            leaders.setdefault(each.candidate.family.name, each.candidate)
        leader = list(leaders.values())[min(place, len(leaders) - 1)]
        alike = [
            each
            for each in known
            if each.candidate.family.name == leader.family.name and each.candidate.words == leader.words
        ]
        kept, broken = ([each for each in alike if self.goal.keeps(each.record) == kind] for kind in (True, False))
        best = max((self.goal.worth(each.record) for each in known if self.goal.keeps(each.record)), default=-math.inf)
        count = len(leader.family.strengths)
        easy, hard = (
            as_places([self._turned(each.candidate.places) for each in part], count) for part in (kept, broken)
        )
        worth = np.array([self.goal.worth(each.record) for each in (*kept, *broken)])
        grid = np.unique([self._turned(leader.family.snapped(place)) for place in grid_of(count)], axis=0)
        found = next_place(grid, easy, hard, worth, best)
        return None if found is None else leader.moved(self._turned(found.tolist()))

    def _turned(self, places: Sequence[float]) -> list[float]:
        """Strengths so that larger ones break the bounds: as they are, unless the weaker setting is the better."""
        return [place if self.goal.prefers_stronger else 1 - place for place in places]


FAMILY = "family"


def _study(names: Sequence[str]) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=SEED, n_startup_trials=min(len(names), STARTS))
    return optuna.create_study(sampler=sampler)


def _tell(study: Study, trial: Trial, loss: float | None) -> None:
    from optuna.trial import TrialState

    if loss is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, loss)
