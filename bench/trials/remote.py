"""What a process on another machine does for a run: it looks whether it fits, settles units, and returns records."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from bench.deploying.runtimes import check_runtimes
from bench.isolation.snapshot import SpoiledProcess, require_intact
from bench.networks.own import is_reference
from bench.plugins.registry import datasets, methods
from bench.records.parcels import Parcel, packed, unpacked
from bench.records.store import Store, StoreError
from bench.system import cache, progress
from bench.system.errors import BenchError
from bench.trials.kinds import Kind
from bench.trials.lent import Lent
from bench.trials.plan import Opener, Plan
from bench.trials.sources import source_digest
from bench.trials.units import Settled, Unfit, Unit, settle


@dataclass(frozen=True)
class Home:
    """The process that started the run: its folder, its cache if one was chosen, and the threads that a trial gets."""

    folder: str
    cache: str | None
    threads: int

    @classmethod
    def here(cls) -> Home:
        return cls(os.getcwd(), os.environ.get(cache.VARIABLE), torch.get_num_threads())

    def enter(self, threads: int) -> None:
        """Make this process like that one, as far as its folders exist here."""
        with suppress(OSError):
            os.chdir(self.folder)
        if self.cache is not None:
            os.environ.setdefault(cache.VARIABLE, self.cache)
        torch.set_num_threads(threads)
        # What opening a dataset warns of was told by the process that started the run; trials show their own warnings.
        warnings.showwarning = lambda *_, **__: None


@dataclass(frozen=True)
class Needs:
    """What plans need wherever their trials run."""

    methods: tuple[tuple[str, str], ...]
    """Names with the digests of their code."""
    datasets: tuple[str, ...]
    runtimes: tuple[str, ...]
    paths: tuple[str, ...]
    """Files and folders that a plan names, as given: data, and networks of one's own."""

    @classmethod
    def of(cls, plans: Iterable[Plan]) -> Needs:
        plans = list(plans)
        stages = {type(stage) for plan in plans for setting in plan.settings for stage in setting.nested}
        named = {(stage.name, source_digest(stage)) for stage in stages}
        runtimes = {runtime for plan in plans for runtime in plan.all_runtimes}
        kinds = {plan.dataset.partition(":")[0] for plan in plans}
        paths = {path for plan in plans for path in _paths(plan)}
        return cls(tuple(sorted(named)), tuple(sorted(kinds)), tuple(sorted(runtimes)), tuple(sorted(paths)))

    def lacking(self) -> list[str]:
        """What of it is missing in this process, each in a few words."""
        known = methods()
        missing = [f"there is no method '{name}'" for name, _ in self.methods if name not in known]
        there = [(name, digest) for name, digest in self.methods if name in known]
        missing += [f"{name} has other code" for name, digest in there if source_digest(known[name]) != digest]
        missing += [f"there is no dataset '{name}'" for name in self.datasets if name not in datasets()]
        missing += [f"there is no {path}" for path in self.paths if not Path(path).expanduser().exists()]
        try:
            check_runtimes(list(self.runtimes), torch.device("cpu"))
        except BenchError as error:
            missing.append(str(error))
        return missing


def _paths(plan: Plan) -> list[str]:
    """What exists here; weights do not count, because they are lent."""
    named = [str(plan.data_root or ""), plan.dataset.partition(":")[2]]
    named += [str(name).rpartition(":")[0] for name in plan.models if is_reference(str(name))]
    return [path for path in named if path and Path(path).expanduser().exists()]


def look(home: Home, needs: Needs, device: str) -> tuple[list[str], tuple[str, str] | None]:
    """What this machine lacks, or its kind with the threads of a trial."""
    home.enter(home.threads)
    if lacking := needs.lacking():
        return lacking, None
    kind = Kind.of(torch.device(device))
    return [], (kind.device, kind.training)


@dataclass(frozen=True)
class Returned:
    """What came of a unit, and its records with their files by fingerprint."""

    settled: Settled
    parcels: Mapping[str, Parcel] = field(default_factory=dict)
    fault: str = ""
    """Why no trial can be run in that process."""


_opener = Opener(train=False)
"""Datasets and networks of the last unit in this process."""


def work(
    unit: Unit, lent: Lent | None, known: Mapping[str, Parcel], root: Path, send: Callable[[str, str], None]
) -> Returned:
    """Settle a unit in a store of its own, which begins with the `known` records.

    `root` is the store that the records are for; messages name it. A process that an earlier unit spoiled ends at once.
    """
    try:
        require_intact()
    except SpoiledProcess:
        os._exit(1)
    if unit.plan.device.type == "cuda":  # of a machine's GPUs, this process sees one
        unit = replace(unit, plan=replace(unit.plan, device=torch.device("cuda", 0)))
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            progress.send_to(lambda kind, text: send(kind, text.replace(folder, str(root))))
            store = Store(Path(folder))
            for fingerprint, parcel in known.items():
                unpacked(parcel, fingerprint, store)
            settled = settle(unit, store, _opener, lent=lent)
            parcels = {each.fingerprint: packed(store, each.fingerprint) for each in store.records()}
            return Returned(replace(settled, fingerprints=list(parcels)), parcels)
    except (Unfit, StoreError, OSError) as error:
        return Returned(Settled([]), fault=cache.explained(error) if isinstance(error, OSError) else str(error))
