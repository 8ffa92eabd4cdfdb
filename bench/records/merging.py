"""Joins stores: `bench merge shards/1 shards/2 --into runs`.

Every record of every store is kept, with all files beside it. Where several hold the same trial, one record stands for
it (`bench.records.agreement`):

- Where measured figures agree, what the store that is merged into holds stays, and otherwise the earlier is taken:
  times are no reason to prefer the other.
- A trial that was measured replaces one that failed; one with its artifact replaces one that lost it.
- Where measured figures differ, nothing is merged until `keep` says whether the first store or the last one counts.
  Choosing silently would make the board depend on the order of names.

The stores to merge are only read, and nothing in them is trusted: what is no regular file of a well-formed record, such
as a symbolic link, is refused before anything is copied. Each record is copied into a scratch folder and renamed, so a
kill leaves whole records, and the same command continues. Other processes may use the store that is merged into.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from bench.records.agreement import Found, differences, standing
from bench.records.record import Record
from bench.records.store import MODEL, PREDICTIONS, RECORD, Store, StoreError, own_record, read_record, reason
from bench.system.progress import bar, say
from bench.system.text import counted, listed

Keep = Literal["first", "last"]
SPARE_BYTES = 1_000_000
"""Free space that stays, beyond what is copied."""

NEW, REPLACES, THERE = "copied", "replaces what is there", "there already"


class Differing(StoreError):
    """Stores hold different figures for one trial, and nobody said which to keep."""


@dataclass(frozen=True)
class Step:
    """A trial, the record that stands for it, and what is done with it."""

    kept: Found
    action: str
    twice: bool = False
    """Whether several stores have measured it, with figures that agree."""
    before: Record | None = None
    """What the store that is merged into holds."""


@dataclass(frozen=True)
class Merge:
    """What a merge does, trial by trial."""

    into: Store
    steps: list[Step]

    @property
    def copies(self) -> list[Step]:
        return [step for step in self.steps if step.action != THERE]


@dataclass(frozen=True)
class Merged:
    """What was copied, and the trials that could not be, because another process was working on them."""

    copied: int = 0
    held: list[str] = field(default_factory=list)


def plan_merge(stores: Iterable[Path], into: Path, keep: Keep | None = None) -> Merge:
    """Read every record and decide; nothing is written.

    Raises StoreError for a store that is missing or cannot be read, for what is no record in it, and where none holds a
    record; `Differing` where figures differ and `keep` does not say whether the first or the last store counts. What
    the store merged into holds comes first.
    """
    if into.exists() and not into.is_dir():
        raise StoreError(f"store {into}: a file, expected a folder")
    target, sources = Store(into), _others(stores, into)
    theirs = [each for root in sources for each in _read(root)]
    if not theirs:
        raise StoreError(f"no records to merge in {listed([str(root) for root in sources]) or 'any other store'}")
    own = [Found(into, record, whole=not target.missing_files(record)) for record in target.records()]
    found: dict[str, list[Found]] = {}
    for each in [*own, *theirs]:
        found.setdefault(each.record.fingerprint, []).append(each)
    differing: list[str] = []
    steps = [_step(several, into, keep, differing) for several in found.values()]
    if differing:
        more = counted(len(differing) - 1, "more trial differs", "more trials differ")
        raise Differing(differing[0] + (f"; {more}" if len(differing) > 1 else ""))
    return Merge(target, steps)


def join(stores: Iterable[Path], into: Path, keep: Keep | None = None) -> tuple[Merge, Merged]:
    """`plan_merge` and `merge`, after what killed processes left was tidied up: a record comes back that way."""
    if into.is_dir():
        Store(into).check_writable()
    planned = plan_merge(stores, into, keep)
    return planned, merge(planned)


def merge(planned: Merge) -> Merged:
    """Copy what `plan_merge` found. A trial that another process works on just now is left out and told."""
    into, copies, held = planned.into, planned.copies, list[str]()
    if copies:
        into.check_writable(sum(step.kept.size for step in copies) + SPARE_BYTES)
    with bar("records", len(copies)) as advance:
        for step in copies:
            record = step.kept.record
            with into.claim(record.fingerprint) as ours:
                if ours and into.get(record.fingerprint) == step.before:
                    _copy(step.kept, into)
                else:
                    held.append(f"{record.fingerprint} ({record.setting}, seed {record.seed})")
            advance(1)
    return Merged(len(copies) - len(held), held)


def _others(stores: Iterable[Path], into: Path) -> list[Path]:
    """The stores to read, each once, without the one that is merged into."""
    found: dict[Path, Path] = {}
    for root in stores:
        if not root.is_dir():
            what = "a file, expected a folder" if root.exists() else "there is no such folder"
            raise StoreError(f"store {root}: {what}")
        if root.resolve() == into.resolve():
            say(f"note: {root} is the store that is merged into")
        else:
            found.setdefault(root.resolve(), root)
    return list(found.values())


def _read(root: Path) -> Iterator[Found]:
    """The records of a store. StoreError for what a merge must not copy."""
    records = root / "records"
    try:
        _check_no_link(records)
        folders = sorted(records.iterdir()) if records.is_dir() else []
        count = 0
        for folder in folders:
            if not folder.name.startswith("."):
                _check_no_link(folder)
                if (folder / RECORD).exists() or (folder / RECORD).is_symlink():
                    count += 1
                    yield _found(root, folder)
    except OSError as error:
        raise StoreError(f"store {root}: {error.filename or records} cannot be read ({reason(error)})") from error
    if not count:
        say(f"note: {root} holds no records")


def _found(root: Path, folder: Path) -> Found:
    sizes: dict[Path, int] = {}
    for path in sorted(folder.iterdir()):
        _check_no_link(path)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path}: not a regular file, and a record has nothing else; move it away")
        sizes[path] = status.st_size
    record = own_record(folder / RECORD)
    model = sizes.get(folder / MODEL)
    whole = model == (record.artifact_bytes or model) and {folder / MODEL, folder / PREDICTIONS} <= sizes.keys()
    return Found(root, record, tuple(sizes), sum(sizes.values()), whole or record.status != "ok")


def _check_no_link(path: Path) -> None:
    if path.is_symlink():
        raise StoreError(
            f"{path}: a symbolic link, which may lead anywhere; put the file itself there or remove the link"
        )


def _step(several: Sequence[Found], into: Path, keep: Keep | None, differing: list[str]) -> Step:
    """What becomes of one trial; adds to `differing` where that cannot be said."""
    kept, *rest = several
    twice = False
    for other in rest:
        better = _standing(kept, other, into)
        if better is None and keep is None:
            record, apart = kept.record, differences(kept.record, other.record)
            named = f"{record.fingerprint} ({record.setting} on {record.model}, seed {record.seed})"
            differing.append(f"{named} differs between {kept.store} and {other.store}: {listed(apart, 6)}")
        measured = kept.record.status == other.record.status == "ok"
        twice = twice or (better is not None and measured and kept.record != other.record)
        kept = better or (other if keep == "last" else kept)
    before = several[0].record if several[0].store == into else None
    if before == kept.record and several[0].whole:
        kept = several[0]
    action = THERE if kept.store == into else NEW if before is None else REPLACES
    return Step(kept, action, twice, before)


def _standing(first: Found, second: Found, into: Path) -> Found | None:
    """`standing`, but what is there is not replaced by what is no better."""
    is_no_better = first.record.status == second.record.status and (first.whole or not second.whole)
    better = standing(first, second)
    return first if better is second and first.store == into and is_no_better else better


def _copy(found: Found, into: Store) -> None:
    """Copy one record with its files. StoreError where it changes meanwhile; then nothing of it is kept."""
    fingerprint = found.record.fingerprint
    with into.prepare(fingerprint) as scratch:
        # The record comes last: if it is still the one that was read, the files before it are its own.
        for path in sorted(found.files, key=lambda path: path.name == RECORD):
            try:
                with _open_regular(path) as source, (scratch / path.name).open("xb") as copy:
                    shutil.copyfileobj(source, copy)
            except OSError as error:
                if error.filename == str(path):
                    raise StoreError(f"{path}: cannot be read ({reason(error)}); run the same command again") from error
                raise
        if read_record(scratch / RECORD) != found.record:
            raise StoreError(f"{path.parent}: changed while it was copied; run the same command again")


def _open_regular(path: Path) -> BinaryIO:
    """Open a file, but neither a symbolic link nor anything that reading would wait for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file
