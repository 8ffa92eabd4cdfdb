"""The store: a folder of records, each of which is complete or absent."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.records.claims import Claims, Watch, hold
from bench.records.record import LARGEST_RECORD, Record
from bench.records.rules import check_fingerprint
from bench.system.errors import BenchError

RECORD, MODEL, PREDICTIONS = "record.json", "model.safetensors", "predictions.safetensors"
CLASSES = "classes.csv"
MEGABYTE = 1_000_000

_FULL = {errno.ENOSPC: "disk full", errno.EDQUOT: "disk quota used up"}
_REFUSED = {
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EROFS: "read-only file system",
    errno.ENOTDIR: "a file stands where a folder should",
    errno.EEXIST: "a file stands where a folder should",
    errno.ENAMETOOLONG: "path too long",
}


class StoreError(BenchError):
    """The store cannot be read or written: no trial can go on, so this is never a failed record."""


class UnreadableRecord(StoreError):
    """One file in the store is not a record; the message names it. The other records can be read."""


@dataclass(frozen=True)
class Store:
    """Records under `root/records/<fingerprint>/`, with the files of each beside its `record.json`."""

    root: Path

    def folder(self, fingerprint: str) -> Path:
        """Where the record and its files are kept; StoreError if the text is not a fingerprint."""
        try:
            return self.root / "records" / check_fingerprint(fingerprint)
        except ValueError as error:
            raise StoreError(f"store {self.root}: fingerprint {error}") from None

    def get(self, fingerprint: str) -> Record | None:
        """The record of a trial, None if there is none; UnreadableRecord for a damaged one."""
        path = self.folder(fingerprint) / RECORD
        return own_record(path) if path.exists() else None

    def records(self) -> list[Record]:
        """All records, in the order they were measured.

        UnreadableRecord at the first file that is not a record: a board without it would be wrong without saying so.
        `bench run` reads only the records of its own trials, and goes on if one of them is unreadable.
        """
        records = [own_record(path) for path in (self.root / "records").glob(f"*/{RECORD}")]
        return sorted(records, key=lambda record: (record.started_at, record.fingerprint))

    def missing_files(self, record: Record) -> list[str]:
        """Files that every measured trial leaves and that are missing here; the record itself does not need them."""
        if record.status != "ok":
            return []
        home = self.folder(record.fingerprint)
        return [name for name in (MODEL, PREDICTIONS) if not (home / name).is_file()]

    @contextmanager
    def prepare(self, fingerprint: str) -> Iterator[Path]:
        """A scratch folder for `record.json` and the files beside it, which takes its place when the block ends.

        It replaces what an earlier trial left there. An exception, including Ctrl-C, removes the scratch folder and
        leaves the store as it was. UnreadableRecord if the block wrote no valid record of this trial; StoreError if the
        disk is full or cannot be written.
        """
        home = self.folder(fingerprint)
        scratch = self._partial / f"{fingerprint}@{secrets.token_hex(4)}"
        try:
            with self._explained(), _alive(scratch):
                scratch.mkdir()
                yield scratch
                _check_record(scratch / RECORD, fingerprint)
                self._commit(scratch, home)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def claim(self, fingerprint: str) -> Iterator[bool]:
        """Whether the trial is ours to run until the block ends; False if another run has it.

        A claim ends when its process does, for whatever reason.
        """
        with ExitStack() as stack:
            with self._explained():
                ours = stack.enter_context(self._claims.take(fingerprint))
            yield ours

    def checkpoints(self, fingerprint: str) -> Path:
        """The folder for the checkpoints of a trial, until it is recorded. It need not exist."""
        return self._checkpoints.absolute() / check_fingerprint(fingerprint)

    def forget_checkpoints(self, fingerprint: str) -> None:
        """Remove the checkpoints of a trial, because it is recorded."""
        shutil.rmtree(self.checkpoints(fingerprint), ignore_errors=True)
        with suppress(OSError):
            self._checkpoints.rmdir()

    def watch(self, fingerprint: str) -> Watch:
        """A watch over the process that has this claim."""
        return self._claims.watch(fingerprint)

    def check_writable(self, needed_bytes: int = 0) -> None:
        """Create the store, tidy up after killed runs, and try to write; StoreError if that fails."""
        with self._explained():
            self.root.mkdir(parents=True, exist_ok=True)
            self._tidy()
            with tempfile.TemporaryFile(dir=self.root) as file:
                file.write(bytes(4096))
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes:
            raise StoreError(
                f"store {self.root}: {free // MEGABYTE} MB free, {-(-needed_bytes // MEGABYTE)} MB needed; "
                "free some space or choose another folder"
            )

    @property
    def _partial(self) -> Path:
        return self.root / ".partial"

    @property
    def _claims(self) -> Claims:
        return Claims(self.root / ".claims")

    @property
    def _checkpoints(self) -> Path:
        return self.root / ".checkpoints"

    def _commit(self, scratch: Path, home: Path) -> None:
        home.parent.mkdir(parents=True, exist_ok=True)
        replaced = scratch.with_name(f"{scratch.name}@replaced")
        if home.exists():
            home.rename(replaced)
        scratch.rename(home)
        shutil.rmtree(replaced, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove what killed runs left, and restore a record that was just being replaced."""
        self._claims.tidy()
        for path in self._checkpoints.glob("*"):
            if self._is_measured(path.name):
                self.forget_checkpoints(path.name)
        for name in {path.name.removesuffix(".lock").removesuffix("@replaced") for path in self._partial.glob("*@*")}:
            with suppress(NotImplementedError), hold(_lock(self._partial / name)) as dead:
                if dead:
                    self._clear(self._partial / name)

    def _is_measured(self, name: str) -> bool:
        """Whether there is a record of this trial, and it did not fail."""
        try:
            record = self.get(name)
        except StoreError:
            return False
        return record is not None and record.status == "ok"

    def _clear(self, scratch: Path) -> None:
        replaced = scratch.with_name(f"{scratch.name}@replaced")
        home = self.root / "records" / scratch.name.partition("@")[0]
        if replaced.exists() and not home.exists():
            replaced.rename(home)
        for leftover in (scratch, replaced):
            shutil.rmtree(leftover, ignore_errors=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if explanation := self._explain(error):
                raise StoreError(f"store {self.root}: {explanation}") from error
            raise

    def _explain(self, error: Exception) -> str | None:
        """None if the store is not at fault: a trial reads and writes elsewhere too."""
        number = _error_number(error)
        path = getattr(error, "filename", None)
        if path is not None and not self._concerns(Path(path)):
            return None
        if number in _FULL:
            return f"{_FULL[number]}; free some space or choose another folder"
        if path is not None and (number in _REFUSED or not self.root.exists()):
            reason = _REFUSED.get(number or 0) or str(error)
            return f"{reason}; choose another folder"
        return None

    def _concerns(self, path: Path) -> bool:
        """Whether the path lies in the store, or is a folder above it."""
        path, root = path.absolute(), self.root.absolute()
        return path.is_relative_to(root) or root.is_relative_to(path)


@contextmanager
def _alive(scratch: Path) -> Iterator[None]:
    """Hold the lock that shows that a process works in this folder. Containers may share process ids and host names."""
    with ExitStack() as stack:
        with suppress(NotImplementedError):  # without locks `_tidy` removes nothing
            stack.enter_context(hold(_lock(scratch), timeout=-1))
        yield


def _lock(scratch: Path) -> Path:
    return scratch.with_name(f"{scratch.name}.lock")


def write_record(record: Record, folder: Path) -> Record:
    """Write `record.json` into `folder`, and return the record as it will be read. ValueError if it is not valid."""
    text = record.to_json()
    (folder / RECORD).write_text(text, encoding="utf-8")
    return Record.from_json(text)


def read_record(path: Path) -> Record:
    """The record in a file; UnreadableRecord where it is unreadable, too large or not a record."""
    try:
        return Record.from_json(read_text(path, LARGEST_RECORD))
    except (OSError, ValueError) as error:
        raise UnreadableRecord(
            f"{path}: not a record ({reason(error)}); delete its folder and run the trial again"
        ) from error


def read_text(path: Path, most: int) -> str:
    """A file as text; ValueError, before it is read, if it is not a regular file or has more than `most` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size > most:
        raise ValueError(f"{status.st_size / 1e6:.0f} MB, expected at most {most / 1e6:.0f} MB")
    return path.read_text(encoding="utf-8")


def reason(error: Exception) -> str:
    """What an exception says, in one line."""
    told = error.strerror if isinstance(error, OSError) else str(error)
    return (told or type(error).__name__).splitlines()[0]


def regular_files(folder: Path) -> list[Path]:
    """The files in a record's folder, in order of their names. Symbolic links are left out: they may lead anywhere."""
    if folder.is_symlink():
        return []
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(e.name for e in entries if e.is_file(follow_symlinks=False))]
    except (FileNotFoundError, NotADirectoryError):
        return []


def own_record(path: Path) -> Record:
    """The record in a folder of its fingerprint's name; UnreadableRecord where it is another's."""
    record = read_record(path)
    if record.fingerprint != path.parent.name:
        raise UnreadableRecord(f"{path}: the record is {record.fingerprint}'s; rename its folder, or move it away")
    return record


def _check_record(path: Path, fingerprint: str) -> None:
    """Raise an error unless the store could read this record again."""
    if not path.is_file():
        raise RuntimeError(f"{path.parent}: a trial ended without writing {RECORD}")
    if (other := read_record(path).fingerprint) != fingerprint:
        raise UnreadableRecord(f"{path}: the record is {other}'s, expected {fingerprint}'s")


def _error_number(error: Exception) -> int | None:
    """Libraries that write from Rust or C++ give the number in their message only: `... (os error 28)`."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None
