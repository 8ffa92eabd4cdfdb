"""Work for other processes: one setting with one seed on one network, settled by whoever gets it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Protocol

from bench.isolation.snapshot import SpoiledProcess
from bench.measuring.exclusive import making_way
from bench.plugins.setting import Pipeline
from bench.records.store import Store, UnreadableRecord
from bench.system.errors import BenchError
from bench.trials.plan import Opened, Opener, Plan
from bench.trials.session import Runner, Session
from bench.trials.shards import WHOLE
from bench.trials.trial import run_trial


@dataclass(frozen=True)
class Unit:
    """A plan of one setting, one seed and one network; its trials are those in each runtime."""

    plan: Plan
    title: str
    fingerprints: tuple[str, ...]


@dataclass(frozen=True)
class Settled:
    """What came of a unit: which of its trials have a record, and why others have none."""

    fingerprints: list[str]
    problems: list[str] = field(default_factory=list)
    spoiled: bool = False
    """Whether a trial changed the process for good, so that nothing more can be measured in it."""


class Engine(Protocol):
    """Has units settled elsewhere, in any order."""

    def settle(self, units: Sequence[Unit], store: Store) -> Generator[tuple[Unit, Settled]]:
        """Each unit with what came of it, as they are finished. Their records are in the store by then."""


def settle(unit: Unit, store: Store, opener: Opener, runner: Runner = run_trial) -> Settled:
    """Run in this process what the store lacks of a unit. `opener` keeps datasets and networks from unit to unit."""
    session = Session(store, None, runner, lambda steps: None)
    try:
        with making_way():
            for part in opener.open([unit.plan]):
                session.take(part)
            session.wait()
    except SpoiledProcess:
        return Settled([], spoiled=True)
    except BenchError as error:
        return Settled([], [str(error)])
    spoiled = any(record.config.get("spoiled") for record in session.records.values())
    return Settled(list(session.records), list(session.problems), spoiled)


def run_elsewhere(session: Session, plans: Sequence[Plan], engine: Engine, opener: Opener) -> None:
    """Settle all trials of the plans: those that are recorded here, the others by the engine.

    Baselines are trained and operating points looked for here, once for all.
    """
    units = [unit for part in opener.open(plans) for unit in _open(session, part)]
    if not units:
        return
    with closing(engine.settle(units, session.store)) as outcomes:  # after Ctrl-C here, its processes end at once
        for unit, settled in outcomes:
            _collect(session, unit, settled)


def _open(session: Session, part: Opened) -> Iterator[Unit]:
    """What of a part of a plan has to be run. The rest is settled."""
    session.note(part)
    if part.ruler is None:
        return
    model = next(name for name in part.plan.models if str(name) == part.model)
    for setting, seed in part.pairs:
        assert isinstance(setting, Pipeline)
        plan = replace(part.plan, models=[model], settings=[setting], seeds=(seed,), shard=WHOLE)
        trials = [trial for trial in plan.trials(part.ruler.task, [(setting, seed)]) if session.is_new(trial)]
        missing = tuple(trial.fingerprint for trial in trials if not _reused(session, trial.fingerprint))
        if missing:
            yield Unit(plan, str(trials[0]), missing)


def _reused(session: Session, fingerprint: str) -> bool:
    try:
        before = session.store.get(fingerprint)
    except UnreadableRecord as error:
        session.give_up(str(error), 1)
        return True
    if before is None or before.status != "ok":
        return False
    session.reuse(before)
    return True


def _collect(session: Session, unit: Unit, settled: Settled) -> None:
    problems = list(settled.problems)
    for fingerprint in unit.fingerprints:
        try:
            record = session.store.get(fingerprint) if fingerprint in settled.fingerprints else None
        except UnreadableRecord as error:
            record, problems = None, [*problems, str(error)]
        if record is None:
            session.give_up("; ".join(problems) or f"{unit.title}: no record was left", 1)
        else:
            session.keep(record)
