"""The store: a folder of records, each of which is complete or absent."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.records.record import Record
from bench.system.errors import BenchError

RECORD, PREDICTIONS = "record.json", "predictions.safetensors"
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


@dataclass(frozen=True)
class Store:
    """Records under `root/records/<fingerprint>/`, with the files of each beside its `record.json`."""

    root: Path

    def folder(self, fingerprint: str) -> Path:
        """Where the record and its files lie, once they do."""
        return self.root / "records" / fingerprint

    def get(self, fingerprint: str) -> Record | None:
        """StoreError for a record that cannot be read."""
        path = self.folder(fingerprint) / RECORD
        return read_record(path) if path.exists() else None

    def records(self) -> list[Record]:
        """All of them, in the order they were measured; StoreError at the first that cannot be read."""
        found = [self._own(path) for path in (self.root / "records").glob(f"*/{RECORD}")]
        return sorted(found, key=lambda record: (record.started_at, record.fingerprint))

    def _own(self, path: Path) -> Record:
        record = read_record(path)
        if record.fingerprint != path.parent.name:
            raise StoreError(f"{path}: the record is {record.fingerprint}'s; rename its folder, or move it away")
        return record

    @contextmanager
    def prepare(self, fingerprint: str) -> Iterator[Path]:
        """A scratch folder for `record.json` and the files beside it, which takes its place when the block ends.

        It replaces what an earlier trial left there. An exception, Ctrl-C too, removes the scratch folder and leaves
        the store as it was; StoreError where the disk is full or cannot be written.
        """
        scratch = self._partial / f"{fingerprint}@{_owner()}"
        try:
            with self._explained():
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir(parents=True)
                yield scratch
                if not (scratch / RECORD).is_file():
                    raise RuntimeError(f"{scratch}: a trial ended without writing {RECORD}")
                self._commit(scratch, fingerprint)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def claim(self, fingerprint: str, wait: bool = False) -> Iterator[bool]:
        """Whether the trial is ours to run until the block ends; False where another run is at it, unless we `wait`.

        A claim ends with its process, however that ends. A file system without locks lets everybody have it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / ".claims" / fingerprint)
        try:
            with self._explained():
                Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except NotImplementedError:
            yield True
            return
        try:
            yield True
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def check_writable(self, needed_bytes: int = 0) -> None:
        """Create the store, tidy up after killed runs, try to write. StoreError says what is wrong and what works."""
        with self._explained():
            self.root.mkdir(parents=True, exist_ok=True)
            self._tidy()
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".writable.") as file:
                file.write(bytes(4096))
        free = shutil.disk_usage(self.root).free
        if free < needed_bytes:
            raise StoreError(
                f"store {self.root}: {free // MEGABYTE} MB free, {-(-needed_bytes // MEGABYTE)} MB needed; "
                "free some space or choose another folder with --store DIR"
            )

    @property
    def _partial(self) -> Path:
        return self.root / ".partial"

    def _commit(self, scratch: Path, fingerprint: str) -> None:
        home = self.folder(fingerprint)
        home.parent.mkdir(parents=True, exist_ok=True)
        replaced = self._partial / f"{fingerprint}@{_owner()}@replaced"
        if home.exists():
            home.rename(replaced)
        scratch.rename(home)
        shutil.rmtree(replaced, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove what killed runs left; a record that was being replaced just then goes back."""
        for leftover in self._partial.glob("*@*"):
            fingerprint, owner, *replaced = leftover.name.split("@")
            if _is_alive(owner):
                continue
            if replaced and not self.folder(fingerprint).exists():
                leftover.rename(self.folder(fingerprint))
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
        """None where the store is not at fault: a trial reads and writes elsewhere too."""
        number = _error_number(error)
        path = getattr(error, "filename", None)
        if path is not None and not self._concerns(Path(path)):
            return None
        if number in _FULL:
            return f"{_FULL[number]}; free some space or choose another folder with --store DIR"
        if path is not None and (number in _REFUSED or not self.root.exists()):
            reason = _REFUSED.get(number or 0) or str(error)
            return f"{reason}; choose another folder with --store DIR"
        return None

    def _concerns(self, path: Path) -> bool:
        """Whether it lies in the store, or on the way to it."""
        path, root = path.absolute(), self.root.absolute()
        return path.is_relative_to(root) or root.is_relative_to(path)


def write_record(record: Record, folder: Path) -> None:
    """Write `record.json` into `folder`."""
    (folder / RECORD).write_text(record.to_json(), encoding="utf-8")


def read_record(path: Path) -> Record:
    """StoreError where `path` is unreadable or holds no record."""
    try:
        record = Record.from_json(path.read_text(encoding="utf-8"))
        if record.fingerprint in ("", ".", "..") or set(record.fingerprint) & set("/\\"):  # it names folders
            raise ValueError(f"its fingerprint is {record.fingerprint!r}")
        return record
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise StoreError(f"{path}: not a record ({reason}); delete its folder and run the trial again") from error


def _error_number(error: Exception) -> int | None:
    """Libraries that write from Rust or C++ keep the number in their message only: `... (os error 28)`."""
    if isinstance(error, OSError):
        return error.errno
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else None


def _owner() -> str:
    """The host too: a store may be shared between machines."""
    return f"{socket.gethostname()}.{os.getpid()}"


def _is_alive(owner: str) -> bool:
    host, _, pid = owner.rpartition(".")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
