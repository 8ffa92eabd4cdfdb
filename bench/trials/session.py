"""One call of `run`: which trials are recorded, which run here, and which another process runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from bench.deploying.runtimes import DEFAULT
from bench.records import claims
from bench.records.claims import Watch
from bench.records.record import Record
from bench.records.store import Store, UnreadableRecord, write_record
from bench.system.progress import Advance, detail, say
from bench.trials.plan import Opened, Plan
from bench.trials.ruler import Ruler
from bench.trials.runtimes import run_in_runtime
from bench.trials.trial import Trial

POLL_SECONDS = 1.0
"""Seconds between two checks of trials that other processes run."""


class Destination(Protocol):
    """Where finished records go in addition to the store, such as MLflow."""

    def send(self, record: Record) -> None:
        """Take one record. Called for every record of the run, new or old."""

    def finish(self) -> None:
        """Called once, after the last record."""


Runner = Callable[[Trial, Ruler, Path, str], Record]
"""Runs one trial, writes its files into the folder and returns its record; `run_trial` is the real one."""


@dataclass(frozen=True)
class Job:
    """A trial with everything that is needed to run it."""

    trial: Trial
    ruler: Ruler
    plan: Plan

    @property
    def fingerprint(self) -> str:
        return self.trial.fingerprint

    def run(self, store: Store, runner: Runner) -> Record:
        """Run the trial and store its record; a record that is not valid becomes a failed one."""
        self.ruler.announce()
        say(f"{self.trial}, {self.trial.epochs:g} epochs")
        detail(f"on {self.trial.identity['device']}; the record will be in {store.folder(self.fingerprint)}")
        with store.prepare(self.fingerprint) as folder:
            if self.trial.runtime == DEFAULT:
                trial = replace(self.trial, checkpoints=store.checkpoints(self.fingerprint))
                record = runner(trial, self.ruler, folder, self.plan.command)
            else:
                record = run_in_runtime(self.trial, self.ruler, store, folder, self.plan.command)
            try:
                record = write_record(self._described(record), folder)
            except ValueError as error:
                record = write_record(self._invalid(error), folder)
        store.forget_checkpoints(self.fingerprint)
        if record.error:
            trace = store.folder(self.fingerprint) / "traceback.txt"
            more = f" (more in {trace})" if trace.is_file() and not record.config.get("refused") else ""
            say(f"failed: {record.error}{more}")
        detail(f"{record.status} after {record.duration_seconds or 0:.1f} s{_told(record)}")
        return record

    def _described(self, record: Record) -> Record:
        record.config["repeat"] = self.plan.command_for(self.trial)
        setting = self.trial.setting
        record.config["family"] = self.plan.families.get(str(setting)) or setting.family(setting.searched)
        if self.plan.suite:
            record.config["suite"] = self.plan.suite
        return record

    def _invalid(self, error: ValueError) -> Record:
        record = self._described(self.trial.blank(self.plan.command))
        record.error = f"the record of this trial is not valid: {error}"
        if str(error).startswith("config"):
            record.config = {}
        return record


@dataclass(frozen=True)
class Waiting:
    """A job that another process works on, the earlier record of its trial, and a watch over that process."""

    job: Job
    before: Record | None
    watch: Watch


@dataclass
class Session:
    """Handles trials one by one, and remembers the outcome of each. A trial is settled once its outcome is known."""

    store: Store
    delivery: Destination | None
    runner: Runner
    advance: Advance
    records: dict[str, Record] = field(default_factory=dict)
    """By the fingerprints that were asked for."""
    order: dict[str, None] = field(default_factory=dict)
    """The fingerprints of all trials, in the order in which they were asked for."""
    problems: dict[str, None] = field(default_factory=dict)
    missed: dict[str, None] = field(default_factory=dict)
    """Operating points that a method cannot reach, and how close it gets."""
    reused: int = 0
    """Trials that were recorded before."""
    last: list[Job] = field(default_factory=list)
    """Trials that spoiled an earlier process. They are tried again when no others are left."""
    elsewhere: list[Waiting] = field(default_factory=list)
    incomplete: list[Path] = field(default_factory=list)
    """Folders of trials that were recorded before, but whose artifact or predictions are now missing."""

    def take(self, part: Opened) -> None:
        """Settle every trial of a part of a plan, except those that another process works on."""
        self.note(part)
        for trial in part.trials:
            if self.is_new(trial) and part.ruler is not None:
                self._start(Job(trial, part.ruler, part.plan))

    def note(self, part: Opened) -> None:
        """Tell and remember what of a part of a plan cannot be run."""
        for point in part.missed:
            say(f"not reached: {point}")
            self.missed[point] = None
        for error in part.errors:
            self.give_up(error, 0)
        if part.ruler is None and part.problem:
            self.give_up(part.problem, len(part.names))

    def is_new(self, trial: Trial) -> bool:
        """Note a trial that was asked for; False, and one step on, where it was asked for before."""
        if trial.fingerprint in self.order:
            self.advance(1)
            return False
        self.order[trial.fingerprint] = None
        return True

    def wait(self) -> None:
        """Settle the trials that were put off, and those of other processes as these processes finish or are killed.

        A process without a heartbeat is suspended. Once only such processes are left, their trials become problems.
        """
        for job in self.last:
            self._start(job, put_off=False)
        waiting = self.elsewhere
        for each in waiting:
            say(f"{each.job.trial}: waiting for {each.watch.owner}, which runs it")
        while waiting := [each for each in waiting if not self._settle(each)]:
            if all([each.watch.stalled for each in waiting]):
                break
            time.sleep(POLL_SECONDS)
        for each in waiting:
            self.give_up(_held(each), 1)

    def _start(self, job: Job, put_off: bool = True) -> None:
        try:
            before = self.store.get(job.fingerprint)
            if put_off and before is not None and before.config.get("spoiled"):
                self.last.append(job)
            elif before is not None and before.status == "ok":
                self.reuse(before)
            elif not self._claimed(job, before):
                self.elsewhere.append(Waiting(job, before, self.store.watch(job.fingerprint)))
        except UnreadableRecord as error:
            self.give_up(str(error), 1)

    def reuse(self, before: Record, asked: str = "") -> None:
        """Settle a trial that was recorded before."""
        self.reused += 1
        if self.store.missing_files(before):
            self.incomplete.append(self.store.folder(before.fingerprint))
        self.keep(before, asked)

    def _settle(self, waiting: Waiting) -> bool:
        """Whether there is nothing more to wait for."""
        try:
            now = self.store.get(waiting.job.fingerprint)
            if now is not None and now.status == "ok":  # its process may be suspended and still hold the claim
                self.keep(now)
                return True
            return self._claimed(waiting.job, waiting.before)
        except UnreadableRecord as error:
            self.give_up(str(error), 1)
            return True

    def _claimed(self, job: Job, before: Record | None) -> bool:
        """Settle a job; False if another process works on it.

        A failed trial is tried again, unless another process recorded the failure after we saw `before`.
        """
        with self.store.claim(job.fingerprint) as ours:
            if ours:
                now = self.store.get(job.fingerprint)
                done = now is not None and (now.status == "ok" or now != before)
                self.keep(now if now is not None and done else job.run(self.store, self.runner))
        return ours

    def keep(self, record: Record, asked: str = "") -> None:
        """Settle a trial with its record, and deliver it.

        `asked` is the fingerprint that the trial has here, if it was measured on another kind of machine.
        """
        self.records[asked or record.fingerprint] = record
        if self.delivery is not None:
            self.delivery.send(record)
        self.advance(1)

    def give_up(self, problem: str, trials: int) -> None:
        """Settle so many trials with the reason why they have no record."""
        if problem not in self.problems:
            say(f"failed: {problem}")
        self.problems[problem] = None
        self.advance(trials)


def _told(record: Record) -> str:
    """The main figures of a record, as far as it has them."""
    top1 = f"; top-1 {100 * record.top1:.2f}%" if record.top1 is not None else ""
    size = f"; size {record.compression_ratio:.2f}×" if record.compression_ratio is not None else ""
    fast = f"; latency {record.latency_speedup:.2f}×" if record.latency_speedup is not None else ""
    return top1 + size + fast


def _held(waiting: Waiting) -> str:
    since = f"has made no progress for {claims.STALLED_SECONDS:g} s"
    return (
        f"{waiting.job.trial}: held by {waiting.watch.owner}, which {since}; "
        "resume it or end it, then run the same command again"
    )
