"""Records that were read and checked once are not read again until their files change.

The index of a folder lies in the cache. It holds, for each record, a stamp of its file and the fields as columns. Parts
of the configuration that many records share, such as the recipe, become one object.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from bench.records import record as record_module
from bench.records import rules
from bench.records.record import Record
from bench.records.store import RECORD, read_record
from bench.system.cache import cache_dir
from bench.system.files import write_atomically

LEAST = 200
"""Records in a folder from which on an index is kept; fewer are read in a moment."""
FRESH_SHARE = 0.02
"""The index is written again if more than this share of the records was not in it."""
SETTLED_SECONDS = 2
"""A file that was changed less than this ago may be changed again without another stamp."""
POOLED = 32
"""Different values of a part of the configuration that are remembered at a time."""
NAMES = [item.name for item in fields(Record)]
NESTED = ("versions", "notes")

_written = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode

Stamp = tuple[int, int, int, int]
"""Times of change of a file's content and of its entry in nanoseconds, its size, and its number."""


def records_below(folder: Path) -> Iterator[Record]:
    """The records in the folders within a folder, in order of their names.

    UnreadableRecord at the first file that is not a record.
    """
    began, stamps = time.time_ns(), _stamps(folder)
    known = _kept(folder) if len(stamps) >= LEAST else {}
    read: dict[str, tuple[Stamp, Record]] = {}
    fresh, pool = 0, _Pool()
    for name, stamp in stamps.items():
        before = known.get(name)
        if before is None or before[0] != stamp:
            before = stamp, pool.sharing(read_record(folder / name / RECORD))
            fresh += 1
        read[name] = before
        yield before[1]
    settled = {name: row for name, row in read.items() if _is_settled(row[0], began)}
    if len(settled) >= LEAST and fresh > FRESH_SHARE * len(stamps):
        _keep(folder, settled)


def _stamps(folder: Path) -> dict[str, Stamp]:
    found = {}
    for name in sorted(os.listdir(folder)):
        with suppress(OSError):
            status = os.stat(f"{folder}{os.sep}{name}{os.sep}{RECORD}")
            found[name] = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
    return found


def _is_settled(stamp: Stamp, began: int) -> bool:
    return max(stamp[:2]) < began - SETTLED_SECONDS * 1_000_000_000


def _place(folder: Path) -> Path:
    """The index of a folder, for records as this version of the program checks them."""
    checked_by = [os.stat(str(module.__file__)) for module in (record_module, rules)]
    key = [str(folder.absolute()), *(f"{status.st_mtime_ns} {status.st_size}" for status in checked_by)]
    digest = hashlib.sha256("\n".join(key).encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_dir() / "records" / f"{digest}.arrow"


def _keep(folder: Path, rows: dict[str, tuple[Stamp, Record]]) -> None:
    import pyarrow

    contents = [vars(record) for _, record in rows.values()]
    columns: dict[str, list[Any]] = {name: [content[name] for content in contents] for name in NAMES}
    shared, own = zip(*map(_split, columns["config"]), strict=True)
    texts: dict[tuple[int, ...], str] = {}
    for part in shared:
        key = tuple(map(id, part.values()))
        texts[key] = texts.get(key) or _written(part)
    columns["shared"] = [texts[tuple(map(id, part.values()))] for part in shared]
    columns["config"] = list(map(_written, own))
    columns |= {name: list(map(_written, columns[name])) for name in NESTED}
    columns["folder"] = list(rows)
    columns["stamp"] = [list(stamp) for stamp, _ in rows.values()]
    table = pyarrow.table(columns)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema, options=pyarrow.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    with suppress(OSError):  # they are read again then
        write_atomically(_place(folder), sink.getvalue())


def _kept(folder: Path) -> dict[str, tuple[Stamp, Record]]:
    """What the index has; nothing if there is none, or a damaged one."""
    try:
        content = _place(folder).read_bytes()
    except OSError:
        return {}
    import pyarrow

    try:
        table = pyarrow.ipc.open_stream(content).read_all()
        columns = {name: table[name].to_pylist() for name in [*NAMES, "shared", "folder", "stamp"]}
        parse = _parser()
        for name in (*NESTED, "shared"):
            columns[name] = list(map(parse, columns[name]))
        columns["config"] = [
            json.loads(own) | shared for own, shared in zip(columns["config"], columns["shared"], strict=True)
        ]
        stamps = [tuple(stamp) for stamp in columns["stamp"]]
        records = map(_restored, zip(*(columns[name] for name in NAMES), strict=True))
        return dict(zip(columns["folder"], zip(stamps, records, strict=True), strict=True))
    except (pyarrow.ArrowException, ValueError, KeyError, TypeError):
        return {}


def _parser() -> Callable[[str], Any]:
    """Parses JSON; the same text becomes the same object."""
    return cache(json.loads)


def _restored(values: tuple[Any, ...]) -> Record:
    """A record from its fields; they were checked before the index was written."""
    record = object.__new__(Record)
    record.__dict__ = dict(zip(NAMES, values, strict=True))
    return record


def _split(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parts of a configuration that other records share, and the others, with None in place of these."""
    shared = {name: part for name, part in config.items() if isinstance(part, dict)}
    return shared, {name: None if name in shared else part for name, part in config.items()}


class _Pool:
    """Parts of configurations that were seen before, so that equal ones can be one object."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Any]] = {}

    def sharing(self, record: Record) -> Record:
        config = record.config
        for name, part in config.items():
            if isinstance(part, dict):
                config[name] = self._same(name, part)
        record.versions = self._same("versions", record.versions)
        return record

    def _same(self, name: str, part: Any) -> Any:
        seen = self._seen.setdefault(name, [])
        for place, other in enumerate(seen):
            if other == part:
                if place:
                    seen.insert(0, seen.pop(place))
                return other
        seen.insert(0, part)
        del seen[POOLED:]
        return part
