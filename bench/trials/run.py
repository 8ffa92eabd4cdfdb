"""`bench run`: plans become trials; those already recorded are left out, the others run, recorded and delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.isolation.snapshot import SpoiledProcess
from bench.measuring.exclusive import making_way
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.system.progress import bar, say
from bench.trials.plan import Plan, check_models, open_plans
from bench.trials.session import Destination, Runner, Session
from bench.trials.trial import run_trial

NEEDED_BYTES = 50_000_000
"""Least free space to begin with."""


@dataclass(frozen=True)
class Outcome:
    """The records of one or more plans in their order, each once, and how many of them were recorded before."""

    records: list[Record]
    reused: int
    problems: list[str] = field(default_factory=list)
    """What could not be run: datasets that could not be opened, models that could not be loaded or trained, records
    that cannot be read, trials that a suspended process holds."""
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
) -> Outcome:
    """Run what the store lacks; a failed trial is tried again. Whatever ends the run, every finished trial is kept.

    Runs on one store at the same time share the work. A trial that another process works on is left to it and waited
    for at the end, until it is recorded; where that process is suspended, the trial is a problem of this run. So is a
    trial whose record cannot be read: it is left as it is, and the others go on.

    A trial that is recorded is not run again where its artifact or predictions were deleted, for its figures stand;
    one line says which folder to delete to measure it again.

    Without a `delivery` nothing goes to MLflow; where MLflow cannot be reached, the trials go on. `runner` takes the
    place of `run_trial`, for tests.
    """
    plans = [plans] if isinstance(plans, Plan) else plans
    check_models(plans)
    store.check_writable(NEEDED_BYTES)
    expected = sum(plan.expected(model) for plan in plans for model in plan.models)
    with making_way(), bar("trials", expected) as advance:
        session = Session(store, delivery, runner or run_trial, advance)
        try:
            for part in open_plans(plans):
                session.take(part)
            session.wait()
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


def _incomplete(session: Session) -> str:
    count = len(session.incomplete)
    lack = (
        "1 recorded trial lacks its artifact or predictions"
        if count == 1
        else (f"{count} recorded trials lack their artifacts or predictions")
    )
    return f"note: {lack}; their figures stand, and to measure one again delete its folder, as {session.incomplete[0]}"
