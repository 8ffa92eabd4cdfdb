"""Trials in several processes on this machine: `bench run --jobs N`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from bench.records.store import Store
from bench.system import progress
from bench.system.progress import SAID, activities, say
from bench.trials.kinds import Kind
from bench.trials.plan import Opener, Plan
from bench.trials.task import Task
from bench.trials.units import Settled, Unit, settle

BEGINS = "begins"
"""The kind of message that names a unit when a process begins with it."""
PARENT_SECONDS = 1.0
"""Between two looks whether the process that started this one still lives."""
ENDED = "its process was ended from outside, perhaps for lack of memory; fewer --jobs need less"


@dataclass
class Processes:
    """Settles units in `jobs` processes of `threads` threads each; with `spread_gpus`, of several GPUs each gets one.

    A process that dies takes no other trial with it: those that were running are tried again, one at a time.
    """

    jobs: int
    threads: int
    spread_gpus: bool = True
    _running: set[str] = field(default_factory=set)
    """The first fingerprints of units that have begun and are not finished."""

    def prepare(self, plans: Sequence[Plan]) -> Sequence[Kind]:
        return ()

    def lend(self, task: Task) -> None:
        return None

    def settle(self, units: Sequence[Unit], store: Store) -> Generator[tuple[Unit, Settled]]:
        waiting, suspects = list(units), list[Unit]()
        while waiting or suspects:
            batch = suspects[:1] or list(waiting)
            settled = 0
            with closing(self._round(batch, store, 1 if suspects else self.jobs)) as outcomes:
                for unit, outcome in outcomes:
                    if outcome is not None and (outcome.fingerprints or not outcome.spoiled):
                        settled += 1
                        (suspects or waiting).remove(unit)
                        yield unit, outcome
            begun = [unit for unit in batch if unit.fingerprints[0] in self._running]
            self._running.clear()
            if not settled and (suspects or not begun):
                for unit in batch:
                    (suspects or waiting).remove(unit)
                    yield unit, Settled([], [f"{unit.title}: {ENDED}"])
            elif not suspects:
                suspects = begun
                waiting = [unit for unit in waiting if unit not in begun]

    def _round(self, units: Sequence[Unit], store: Store, jobs: int) -> Generator[tuple[Unit, Settled | None]]:
        """Units as they are finished, until all are, or a process is of no use any more: it died, or it is spoiled."""
        context = multiprocessing.get_context("spawn")
        messages = context.SimpleQueue()
        with self._shown(messages):
            pool = ProcessPoolExecutor(
                min(jobs, len(units)),
                mp_context=context,
                initializer=_begin,
                initargs=(self.threads, self.spread_gpus, messages, context.Value("i", 0), os.getpid()),
            )
            try:
                with _uninterrupted():  # a process that is interrupted while it starts would print a traceback
                    pending: dict[Future[Settled], Unit] = {pool.submit(_work, unit, store): unit for unit in units}
                while pending:
                    done, _ = wait(pending, return_when=FIRST_COMPLETED)
                    outcomes = [(pending.pop(future), _outcome(future)) for future in done]
                    for unit, outcome in outcomes:
                        if outcome is not None:
                            self._running.discard(unit.fingerprints[0])
                        yield unit, outcome
                    if any(outcome is None for _, outcome in outcomes):
                        return
                    if any(outcome is not None and outcome.spoiled for _, outcome in outcomes):
                        yield from self._rest(pool, pending)
                        return
            except BaseException:
                _end(pool)
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _rest(
        self, pool: ProcessPoolExecutor, pending: dict[Future[Settled], Unit]
    ) -> Iterator[tuple[Unit, Settled | None]]:
        """What was still running when no more is begun."""
        pool.shutdown(wait=True, cancel_futures=True)
        for future, unit in pending.items():
            if not future.cancelled():
                self._running.discard(unit.fingerprints[0])
                yield unit, _outcome(future)

    @contextmanager
    def _shown(self, messages: Any) -> Iterator[None]:
        """Print what the processes say, and show what they do, until the block ends."""

        def show() -> None:
            with activities() as act:
                while (message := messages.get()) is not None:
                    process, kind, text = message
                    if kind == BEGINS:
                        self._running.add(text)
                    elif kind == SAID:
                        say(text)
                    else:
                        act(process, text)

        thread = threading.Thread(target=show, daemon=True, name="messages")
        thread.start()
        try:
            yield
        finally:
            messages.put(None)
            thread.join()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C within this block takes effect at its end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def sharing_threads(jobs: int, *, spread_gpus: bool) -> Processes:
    """The engine of `--jobs`, with the threads of this process divided among them.

    This process gets as many as each of them, because the device's name, which identifies a trial, counts them.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    torch.set_num_threads(threads)
    return Processes(jobs, threads, spread_gpus)


def _outcome(future: Future[Settled]) -> Settled | None:
    """None where the process is gone."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _end(pool: ProcessPoolExecutor) -> None:
    """End the processes at once; what they had claimed is free with that, and the next run tidies up."""
    for process in list((pool._processes or {}).values()):
        process.terminate()


_opener = Opener(train=False)
"""Datasets and networks of the last unit in this process."""


def _begin(threads: int, spread_gpus: bool, messages: Any, counter: Any, parent: int) -> None:
    """Set up a new process, before it is used."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    threading.Thread(target=_end_with, args=(parent,), daemon=True, name="parent").start()
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    if spread_gpus and (gpu := own_gpu(number, os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())):
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(threads)
    # What opening a dataset warns of was told by the process that started this one; trials show their own warnings.
    warnings.showwarning = lambda *_, **__: None
    name = f"job {number + 1}"
    progress.send_to(lambda kind, text: messages.put((name, kind, text)))


def own_gpu(number: int, visible: str | None, count: int) -> str | None:
    """The GPU of process `number`, as CUDA_VISIBLE_DEVICES names it; None if there is at most one of the `count`.

    `visible` is that variable's value before: the GPUs that may be used, by number or by name.
    """
    names = [str(gpu) for gpu in range(count)] if visible is None else [name for name in visible.split(",") if name]
    return names[number % len(names)] if len(names) > 1 else None


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def _work(unit: Unit, store: Store) -> Settled:
    progress.send(BEGINS, unit.fingerprints[0])
    return settle(unit, store, _opener)
