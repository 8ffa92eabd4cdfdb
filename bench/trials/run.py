"""`bench run`: turns plans into trials; skips those already recorded, and runs, records and delivers the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.isolation.snapshot import SpoiledProcess
from bench.measuring.exclusive import making_way
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.system.progress import bar, say
from bench.trials.plan import Opener, Plan, check_models
from bench.trials.session import Destination, Runner, Session
from bench.trials.trial import run_trial
from bench.trials.units import Engine, run_elsewhere

NEEDED_BYTES = 50_000_000
"""Free disk space that a run needs to start."""


@dataclass(frozen=True)
class Outcome:
    """The records of one or more plans in order, each once, and how many of them were recorded before."""

    records: list[Record]
    reused: int
    problems: list[str] = field(default_factory=list)
    """What could not be run: datasets that could not be opened, models that could not be loaded or trained, records
    that cannot be read, and trials held by a suspended process."""
    missed: list[str] = field(default_factory=list)
    """Operating points that a method cannot reach, and how close it gets."""

    @property
    def failed(self) -> list[Record]:
        return [record for record in self.records if record.status == "failed"]

    @property
    def refused(self) -> bool:
        """Whether the only failures are settings that do not fit their networks."""
        return not self.problems and all(record.config.get("refused") for record in self.failed)


def run(
    plans: Plan | Sequence[Plan],
    store: Store,
    delivery: Destination | None = None,
    runner: Runner | None = None,
    engine: Engine | None = None,
    opener: Opener | None = None,
) -> Outcome:
    """Run the trials that the store lacks, and failed ones again. However the run ends, every finished trial is kept.

    Several runs on one store at the same time share the work. A trial that another process works on is left to that
    process, and at the end this run waits until it is recorded. If that process is suspended, the trial is listed in
    `problems`. So is a trial whose record cannot be read; the record is not touched, and the other trials go on.

    A recorded trial is not run again if its artifact or predictions were deleted, because its figures are still valid;
    one line says which folder to delete to measure it again.

    Without a `delivery` nothing goes to MLflow; if MLflow cannot be reached, the trials go on. An `engine` runs trials
    in other processes. An `opener` keeps datasets and networks for the next call. `runner` is `run_trial`'s, in tests.
    """
    plans = [plans] if isinstance(plans, Plan) else plans
    check_models(plans)
    store.check_writable(NEEDED_BYTES)
    expected = sum(plan.expected(model) for plan in plans for model in plan.models)
    with making_way(), bar("trials", expected) as advance:
        session = Session(store, delivery, runner or run_trial, advance)
        try:
            _settle(session, plans, engine, opener or Opener())
        except SpoiledProcess:
            if delivery is not None:
                delivery.finish()
            raise
    if session.problems and not session.records:
        raise BenchError("; ".join(session.problems))
    if session.incomplete:
        say(_incomplete(session))
    if delivery is not None:
        delivery.finish()
    records = [session.records[fingerprint] for fingerprint in session.order if fingerprint in session.records]
    return Outcome(records, session.reused, list(session.problems), list(session.missed))


def _settle(session: Session, plans: Sequence[Plan], engine: Engine | None, opener: Opener) -> None:
    if engine is not None:
        run_elsewhere(session, plans, engine, opener)
        return
    for part in opener.open(plans):
        session.take(part)
    session.wait()


def _incomplete(session: Session) -> str:
    count = len(session.incomplete)
    lack = (
        "1 recorded trial lacks its artifact or predictions"
        if count == 1
        else (f"{count} recorded trials lack their artifacts or predictions")
    )
    return f"note: {lack}; their figures stand, and to measure one again delete its folder, as {session.incomplete[0]}"
