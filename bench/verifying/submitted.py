"""The trials at the places that a user names: stores, folders of single trials, submission files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.leaderboard.summary import records_folder
from bench.records.record import Record
from bench.records.store import RECORD, own_record, read_record, regular_files
from bench.system.errors import BenchError
from bench.verifying.archive import unpacked


@dataclass(frozen=True)
class Submitted:
    """One trial: its record, and by name the regular files beside it. `place` is where it lies, for messages."""

    place: str
    record: Record
    folder: Path
    files: frozenset[str]
    packed: bool = False
    """Whether it was handed in as a submission file, which has to hold everything."""

    @property
    def title(self) -> str:
        record = self.record
        return f"{record.setting} on {record.model}, {record.dataset}, seed {record.seed}"

    def path(self, name: str) -> Path | None:
        """A file of the trial; None if it is missing."""
        return self.folder / name if name in self.files else None


@dataclass
class Found:
    """The trials that were measured, and how many records of failed trials were left out."""

    trials: list[Submitted] = field(default_factory=list)
    failed: int = 0

    def add(self, trial: Submitted) -> None:
        if trial.record.status == "ok":
            self.trials.append(trial)
        else:
            self.failed += 1


@contextmanager
def submitted_at(paths: Iterable[Path]) -> Iterator[Found]:
    """The trials at these places, in order; what submission files hold is unpacked until the block ends.

    BenchError for a place without a measured trial, and for what is no record.
    """
    with ExitStack() as stack:
        found = Found()
        for path in paths:
            before = len(found.trials) + found.failed
            for trial in _at(path, stack):
                found.add(trial)
            if len(found.trials) + found.failed == before:
                raise BenchError(
                    f"{path}: no records; expected a store, a trial's folder or a file from `bench submit`"
                )
        if not found.trials:
            raise BenchError(f"nothing to verify: all {found.failed} trials failed")
        yield found


def _at(path: Path, stack: ExitStack) -> Iterator[Submitted]:
    if path.is_file():
        store = stack.enter_context(unpacked(path))
        for folder in sorted(store.glob("records/*")):
            yield _read(folder, f"{path}:{folder.name}", named=True, packed=True)
    elif (path / RECORD).exists():
        yield _read(path, str(path), named=False)
    elif path.is_dir():
        for file in sorted(records_folder(path).glob(f"*/{RECORD}")):
            yield _read(file.parent, str(file.parent), named=True)
    else:
        raise BenchError(f"{path}: there is no such file or folder")


def _read(folder: Path, place: str, *, named: bool, packed: bool = False) -> Submitted:
    """One trial. With `named`, its folder must have the name of its fingerprint."""
    files = frozenset(path.name for path in regular_files(folder))
    if RECORD not in files:
        raise BenchError(f"{place}: {RECORD} is missing, or no regular file")
    record = own_record(folder / RECORD) if named else read_record(folder / RECORD)
    return Submitted(place, record, folder, files, packed)
