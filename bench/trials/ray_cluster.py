"""Trials on a Ray cluster: `bench run --ray`. Ray decides where and when; this module says what.

A unit is a task that takes as many CPUs as a trial has threads, or one GPU. It gets the network's weights from Ray's
object store, settles in a folder of its own, and returns its records with their files, which go into the one store
here. Ray runs a task again if its process or its node is lost. Before the first task every node is asked whether it has
the same program, methods, datasets and files, because a node that fails at once would get, and spoil, all units.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from bench.records.parcels import Parcel, packed, unpacked
from bench.records.store import Store, UnreadableRecord
from bench.system.errors import BadArgument, BenchError
from bench.system.progress import SAID
from bench.system.text import one_line, shortened
from bench.trials.cluster_address import AUTO, TOKEN, named
from bench.trials.kinds import Kind
from bench.trials.lent import Lent
from bench.trials.plan import Plan
from bench.trials.ray_display import mailbox, shown
from bench.trials.ray_nodes import kinds_of_nodes, resources, share_of_cpus, told
from bench.trials.remote import Home, Needs, Returned, work
from bench.trials.task import Task
from bench.trials.units import Settled, Unit

RETRIES = 3
"""Times that Ray runs a unit again after its process or its node was lost."""
AT_ONCE = 2000
"""Tasks that Ray has at a time, running or waiting; each look at them takes time in proportion."""


@dataclass
class RayCluster:
    """Settles units on a Ray cluster. It connects when the first of them come, and stays connected until `close`."""

    address: str = AUTO
    gpu: bool = False
    """Whether a unit takes a GPU."""
    home: Home = field(default_factory=Home.here)
    _messages: Any = None
    _known: dict[Needs, list[Kind]] = field(default_factory=dict)

    def __enter__(self) -> RayCluster:
        if self.address != AUTO:  # a wrong one is told before a baseline is trained
            self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connect, or start a cluster of this machine where none is named or found; BadArgument if that fails."""
        if self._messages is not None:
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = named(self.address)
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
            self._messages = mailbox()
        except (OSError, RuntimeError, ValueError, RayError) as error:
            self.close()
            raise BadArgument("ray", self.address, f"{shortened(one_line(str(error)))}; {TOKEN}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Disconnect. Ray ends the processes of this run, and the cluster if it was started for it."""
        self._messages = None
        ray.shutdown()

    def prepare(self, plans: Sequence[Plan]) -> Sequence[Kind]:
        needs = Needs.of(plans)
        if needs not in self._known:
            self.connect()
            self._known[needs] = kinds_of_nodes(self.home, needs, self.gpu)
        return self._known[needs]

    def lend(self, task: Task) -> Any:
        return ray.put(Lent.of(task))

    def settle(self, units: Sequence[Unit], store: Store) -> Generator[tuple[Unit, Settled]]:
        waiting, pending = deque(units), dict[Any, Unit]()
        held: list[tuple[Unit, Returned]] = []
        with shown(self._messages) as ended:
            try:
                while waiting or pending:
                    while waiting and len(pending) < AT_ONCE:
                        unit = waiting.popleft()
                        pending[self._submit(unit, store)] = unit
                    (reference,), _ = ray.wait(list(pending), num_returns=1)
                    unit = pending.pop(reference)
                    returned = _outcome(unit, reference)
                    ended(unit)
                    if _kept(returned, store):
                        yield unit, returned.settled
                    else:
                        held.append((unit, returned))
            finally:
                for reference in pending:
                    with suppress(RayError):
                        ray.cancel(reference, force=True)
        for unit, returned in held:
            yield unit, _insist(unit, returned, store)

    def _submit(self, unit: Unit, store: Store) -> Any:
        known = {fingerprint: packed(store, fingerprint) for fingerprint in unit.recorded}
        task = _run.options(**resources(self.home, self.gpu), max_retries=RETRIES, scheduling_strategy="SPREAD")
        return task.remote(replace(unit, lent=None), unit.lent, known, str(store.root), self.home, self._messages)


@ray.remote
def _run(unit: Unit, lent: Lent | None, known: Mapping[str, Parcel], root: str, home: Home, messages: Any) -> Returned:
    """A unit in a process of the cluster."""
    home.enter(share_of_cpus() if unit.plan.device.type == "cuda" else home.threads)
    node, fingerprint = socket.gethostname(), unit.fingerprints[0]

    def send(kind: str, text: str) -> None:
        messages.add.remote((fingerprint, unit.title, kind, text if kind == SAID else f"{node}: {text}"))

    returned = work(unit, lent, known, Path(root), send)
    return replace(returned, fault=returned.fault and f"node {node}: {returned.fault}")


def _outcome(unit: Unit, reference: Any) -> Returned:
    """What came of a task. BenchError where its node cannot run any."""
    try:
        returned: Returned = ray.get(reference)
    except RayTaskError as error:
        return Returned(Settled([], [f"{unit.title}: {told(error)}"]))
    except RayError as error:
        return Returned(Settled([], [f"{unit.title}: given up after {RETRIES + 1} attempts: {told(error)}"]))
    if returned.fault:
        raise BenchError(returned.fault)
    return returned


def _kept(returned: Returned, store: Store) -> bool:
    """Store the records; False if another process works on one of their trials just now."""
    return all([_stored(store, *each) for each in returned.parcels.items()])


def _stored(store: Store, fingerprint: str, parcel: Parcel) -> bool:
    try:
        return unpacked(parcel, fingerprint, store)
    except UnreadableRecord:  # what stands there instead is not touched, and is told when it is read
        return True


def _insist(unit: Unit, returned: Returned, store: Store) -> Settled:
    """Store the records when the process that works on the same trials ends, or is suspended."""
    watches = {fingerprint: store.watch(fingerprint) for fingerprint in returned.parcels}
    while not _kept(returned, store):
        if any([watch.stalled for watch in watches.values()]):
            held = "measured, but another process that is suspended holds it; run the same command again"
            return Settled([], [f"{unit.title}: {held}"])
        time.sleep(1.0)
    return returned.settled
