"""The file of a submission: a zip archive of trials with a manifest of digests, written and read.

It holds `submission.json` and, for each trial, `records/FINGERPRINT/` with the record, the artifact, the predictions
and the tables, so that it unpacks to a store. Nothing in it is a pickle or code.

An archive may be untrusted. Everything in it is checked before anything is written: the names, of which only those
above are allowed, that every entry is a plain file, and the sizes. What is unpacked must have the manifest's digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal

from annotated_types import Ge
from pydantic import StringConstraints, TypeAdapter, ValidationError

from bench.records.record import LARGEST_RECORD
from bench.records.rules import check_fingerprint
from bench.records.store import CLASSES, MODEL, PREDICTIONS, RECORD
from bench.system.errors import BenchError
from bench.system.text import printable, shown
from bench.trials.tables import LAYERS, TIMINGS

FORMAT = "cnn-compression-bench submission 1"
MANIFEST = "submission.json"
NEEDED = (RECORD, MODEL, PREDICTIONS)
LARGEST = {
    RECORD: LARGEST_RECORD,
    MODEL: 4 << 30,
    PREDICTIONS: 1 << 30,
    LAYERS: 50_000_000,
    CLASSES: 50_000_000,
    TIMINGS: 50_000_000,
}
"""Bytes of each kind of file that a trial may have, at most."""
LARGEST_MANIFEST = 50_000_000
MOST_TRIALS = 10_000
RATIO = 50
"""Bytes that an archive may unpack to for each of its own, above `UNSUSPICIOUS`. Networks hardly shrink."""
UNSUSPICIOUS = 200_000_000
CHUNK = 1 << 20
SOME_TIME = (1980, 1, 1, 0, 0, 0)
"""The date of every entry, so that equal trials give equal archives."""
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Content:
    """What the manifest says of a file."""

    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Ge(0)]


@dataclass(frozen=True)
class Manifest:
    """Every file of a submission by its name in the archive."""

    format: Literal["cnn-compression-bench submission 1"]
    files: dict[str, Content]


def write_archive(files: Mapping[str, Path], out: Path) -> None:
    """Pack files under their names in the archive; the file is complete or not there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            described = {}
            for name, path in sorted(files.items()):
                described[name] = _add(archive, name, path)
            manifest = {"format": FORMAT, "files": described}
            archive.writestr(_entry(MANIFEST), json.dumps(manifest, indent=1) + "\n", zipfile.ZIP_DEFLATED)
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> dict[str, str | int]:
    digest, size, entry = hashlib.sha256(), 0, _entry(name)
    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return {"sha256": digest.hexdigest(), "bytes": size}


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, SOME_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary store with the trials of a submission. BenchError for a file that is not one, or not a whole one."""
    with tempfile.TemporaryDirectory(prefix="bench-submission-") as folder:
        try:
            _unpack(path, Path(folder))
        except BROKEN as error:
            reason = printable(" ".join(str(error).split())) or type(error).__name__
            raise BenchError(f"{path}: not a submission ({reason}); expected a file from `bench submit`") from error
        yield Path(folder)


def _unpack(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_entries(entries, path.stat().st_size, shutil.disk_usage(folder).free)
        manifest = _manifest(archive)
        names = {entry.filename for entry in entries} - {MANIFEST}
        if apart := sorted(names ^ manifest.files.keys()):
            where = "not in its manifest" if apart[0] in names else "missing"
            raise ValueError(f"{shown(apart[0])} is {where}")
        for entry in entries:
            if entry.filename != MANIFEST:
                _write(archive, entry, folder, manifest.files[entry.filename])


def _check_entries(entries: list[zipfile.ZipInfo], size: int, free: int) -> None:
    """Raise ValueError for whatever `write_archive` would not have written."""
    if len(entries) > MOST_TRIALS * len(LARGEST) + 1:
        raise ValueError(f"{len(entries):,} entries")
    seen = set[str]()
    for entry in entries:
        most = LARGEST_MANIFEST if entry.filename == MANIFEST else LARGEST[_kind(entry.filename)]
        if entry.filename in seen:
            raise ValueError(f"{shown(entry.filename)} twice")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ValueError(f"{shown(entry.filename)} is not a plain file, but a link or a device")
        if entry.flag_bits & 1:
            raise ValueError(f"{shown(entry.filename)} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{shown(entry.filename)} is compressed in another way than by deflate")
        if entry.file_size > most:
            raise ValueError(f"{shown(entry.filename)} has {entry.file_size:,} bytes, expected at most {most:,}")
        seen.add(entry.filename)
    total, most = sum(entry.file_size for entry in entries), min(max(UNSUSPICIOUS, RATIO * size), free)
    if total > most:
        raise ValueError(f"it unpacks to {total:,} bytes, more than its size allows or than the disk has room for")


def _kind(name: str) -> str:
    """The kind of file that a name in an archive stands for; ValueError for any other name."""
    match = re.fullmatch(r"records/([^/\\]+)/([^/\\]+)", name)
    if match is None or match[2] not in LARGEST:
        raise ValueError(f"{shown(name)}, expected {MANIFEST} and records/FINGERPRINT/{RECORD} and the files beside it")
    check_fingerprint(match[1])
    return match[2]


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    try:
        content = json.loads(archive.read(MANIFEST))
        return TypeAdapter(Manifest).validate_python(content)
    except KeyError:
        raise ValueError(f"it has no {MANIFEST}") from None
    except RecursionError:
        raise ValueError(f"{MANIFEST} is nested too deeply") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{MANIFEST}: {'.'.join(map(str, first['loc']))[:200]}: {first['msg']}") from None


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, expected: Content) -> None:
    target = folder / entry.filename  # the name was checked: it lies in `folder`
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as file:
        digest = _copy(source, file, entry.file_size)
    if (digest, entry.file_size) != (expected.sha256, expected.bytes):
        raise ValueError(f"{entry.filename} is not what its manifest says: it was changed after it was packed")


def _copy(source: IO[bytes], file: IO[bytes], most: int) -> str:
    """Copy, and return the SHA-256; ValueError for more bytes than were announced."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        if size > most:
            raise ValueError("an entry is larger than the archive says")
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()
