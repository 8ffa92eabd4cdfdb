"""Work for other processes: one setting with one seed on one network, settled by whoever gets it.

On another machine a unit has to find the same code and data: its trials must have the identity that they have here, but
for the device. What they measure is recorded for the device that they ran on. A trial counts as recorded if the store
has it for the device of this machine, or for one of those that the engine would use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

from bench.deploying.runtimes import DEFAULT
from bench.isolation.snapshot import SpoiledProcess
from bench.measuring.exclusive import making_way
from bench.plugins.setting import Pipeline
from bench.records.record import Record
from bench.records.store import Store, StoreError, UnreadableRecord
from bench.system.environment import select_device
from bench.system.errors import BenchError
from bench.system.text import listed
from bench.trials.kinds import Kind
from bench.trials.lent import Lent
from bench.trials.plan import Opened, Opener, Plan
from bench.trials.session import Runner, Session
from bench.trials.shards import WHOLE
from bench.trials.task import Task
from bench.trials.trial import Trial, run_trial

MEANT = {
    "sources": "the code of its methods",
    "model_source": "the code of the network",
    "dataset_digest": "the images",
    "weights_digest": "the weights",
    "runtime_version": "the version of the runtime",
    "protocol": "the version of this program",
}
"""What differs, in words, where a part of an identity does."""


class Unfit(BenchError):
    """This process has other code or other data than the one that asks for a unit."""


@dataclass(frozen=True)
class Unit:
    """A plan of one setting, one seed and one network; its trials are those in each runtime."""

    plan: Plan
    title: str
    missing: Mapping[str, str]
    """The fingerprints of the trials that have no record, by their runtimes."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """That of the first of them."""
    recorded: tuple[str, ...] = ()
    """The fingerprints of records of its other trials."""
    lent: Any = None
    """What the engine lends for the task; see `Engine.lend`."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        return tuple(self.missing.values())

    def check(self, trials: Sequence[Trial]) -> None:
        """Unfit where the trials have another identity here, beyond what depends on the machine."""
        runtime = next(iter(self.missing))
        trial = next(trial for trial in trials if trial.runtime == runtime)
        machine = Kind.of(trial.device).identity
        names = sorted((self.identity.keys() | trial.identity.keys()) - machine.keys())
        differing = [
            MEANT.get(name, name) for name in names if _text(self.identity, name) != _text(trial.identity, name)
        ]
        if differing:
            raise Unfit(f"{self.title}: {listed(differing)} not as where the run was started")


def _text(identity: Mapping[str, Any], name: str) -> str:
    return json.dumps(identity.get(name), sort_keys=True, default=str)


@dataclass(frozen=True)
class Settled:
    """What came of a unit: which of its trials have a record, and why others have none."""

    fingerprints: list[str]
    problems: list[str] = field(default_factory=list)
    spoiled: bool = False
    """Whether a trial changed the process for good, so that nothing more can be measured in it."""


class Engine(Protocol):
    """Has units settled elsewhere, in any order."""

    def prepare(self, plans: Sequence[Plan]) -> Sequence[Kind]:
        """The kinds of machines that will run trials of these plans; called first, unless all of them are recorded."""

    def lend(self, task: Task) -> Any:
        """What processes that settle units of this task get with them; None if they find everything by themselves."""

    def settle(self, units: Sequence[Unit], store: Store) -> Generator[tuple[Unit, Settled]]:
        """Each unit with what came of it, as they are finished. Their records are in the store by then."""


def settle(
    unit: Unit, store: Store, opener: Opener, runner: Runner = run_trial, *, lent: Lent | None = None
) -> Settled:
    """Run in this process what the store lacks of a unit. `opener` keeps datasets and networks from unit to unit.

    Raises Unfit where this process cannot run the trials that were meant, and StoreError if it cannot write.
    """
    session = Session(store, None, runner, lambda steps: None)
    try:
        select_device(str(unit.plan.device))
        with making_way():
            for part in opener.open([unit.plan], lent):
                if part.ruler is not None:
                    unit.check(part.trials)
                session.take(part)
            session.wait()
    except SpoiledProcess as error:
        return Settled([], [str(error)], spoiled=True)
    except (Unfit, StoreError):  # no other trial can go on either
        raise
    except BenchError as error:
        return Settled([], [str(error)])
    spoiled = any(record.config.get("spoiled") for record in session.records.values())
    return Settled(list(session.records), list(session.problems), spoiled)


def run_elsewhere(session: Session, plans: Sequence[Plan], engine: Engine, opener: Opener) -> None:
    """Settle all trials of the plans: those that are recorded here, the others by the engine.

    Baselines are trained and operating points looked for here, once for all.
    """
    kinds = cache(lambda: engine.prepare(plans))
    units = [unit for part in opener.open(plans) for unit in _open(session, part, engine, kinds)]
    if not units:
        return
    with closing(engine.settle(units, session.store)) as outcomes:  # after Ctrl-C here, its processes end at once
        for unit, settled in outcomes:
            _collect(session, unit, settled)


def _open(session: Session, part: Opened, engine: Engine, kinds: Callable[[], Sequence[Kind]]) -> Iterator[Unit]:
    """What of a part of a plan has to be run. The rest is settled."""
    session.note(part)
    if part.ruler is None:
        return
    task, lent = part.ruler.task, None
    model = next(name for name in part.plan.models if str(name) == part.model)
    for setting, seed in part.pairs:
        assert isinstance(setting, Pipeline)
        plan = replace(part.plan, models=[model], settings=[setting], seeds=(seed,), shard=WHOLE)
        trials = [trial for trial in plan.trials(task, [(setting, seed)]) if session.is_new(trial)]
        missing = {trial.runtime: trial for trial in trials if not _reused(session, trial, kinds)}
        if missing:
            lent = lent or engine.lend(task)
            recorded = [
                session.records[trial.fingerprint].fingerprint
                for trial in trials
                if trial.fingerprint in session.records
            ]
            wanted = {runtime: trial.fingerprint for runtime, trial in missing.items()}
            identity = next(iter(missing.values())).identity
            yield Unit(plan, str(trials[0]), wanted, identity, tuple(recorded), lent)


def _reused(session: Session, trial: Trial, kinds: Callable[[], Sequence[Kind]]) -> bool:
    """Whether there is a record of a trial, or something in its place that cannot be read."""
    try:
        before = _measured(session.store, trial.fingerprint)
        others = (_measured(session.store, trial.fingerprint_on(kind)) for kind in (() if before else kinds()))
        before = before or next(filter(None, others), None)
    except UnreadableRecord as error:
        session.give_up(str(error), 1)
        return True
    if before is None:
        return False
    session.reuse(before, trial.fingerprint)
    return True


def _measured(store: Store, fingerprint: str) -> Record | None:
    record = store.get(fingerprint)
    return record if record is not None and record.status == "ok" else None


def _collect(session: Session, unit: Unit, settled: Settled) -> None:
    """Settle the trials of a unit; their records may be for another kind of machine."""
    problems, found = list(settled.problems), dict[str, Record]()
    for fingerprint in settled.fingerprints:
        try:
            if (record := session.store.get(fingerprint)) is not None:
                found[record.runtime or DEFAULT] = record
        except UnreadableRecord as error:
            problems.append(str(error))
    for runtime, fingerprint in unit.missing.items():
        if runtime in found:
            session.keep(found[runtime], fingerprint)
        else:
            session.give_up("; ".join(problems) or f"{unit.title}: no record was left", 1)
