"""Facts about installed code that take seconds to find out, kept in the cache until the code changes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.system.cache import cache_dir
from bench.system.files import write_atomically

METADATA = (".dist-info", ".egg-info")
"""What the name of a folder with an installed package's metadata ends in; the name has the version."""

Stamp = list[int]
"""Time of the last change in nanoseconds, and size; a folder's size says nothing and is 0."""


def remembered(name: str, find: Callable[[], tuple[Any, Iterable[str] | None]]) -> Any:
    """What `find` finds, as JSON can hold it; from the cache if no code has changed since it was found.

    `find` also returns the packages whose code the answer comes from, or None for an answer that must not be kept. The
    cache holds a stamp of each of their files and folders, as far as they are imported, and of those of this program.
    For all other code the versions of the installed packages stand.
    """
    place = cache_dir() / "remembered" / f"{name}-{_digest(sys.version, *sys.path)}.json"
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads(place.read_bytes())
        if kept["installed"] == _installed() and all(_stamp(path) == stamp for path, stamp in kept["files"].items()):
            return kept["found"]
    found, packages = find()
    if packages is not None:
        files = {path: _stamp(path) for path in _files({*packages, "bench"})}
        kept = {"installed": _installed(), "files": files, "found": found}
        with suppress(OSError):  # it is found again then
            write_atomically(place, json.dumps(kept).encode())
    return found


def _files(packages: set[str]) -> Iterator[str]:
    """The imported files of these packages, and their folders, in which another file may appear."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in packages and (file := getattr(module, "__file__", None)):
            yield os.path.abspath(file)
            yield os.path.dirname(os.path.abspath(file))


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return [status.st_mtime_ns, 0 if os.path.isdir(path) else status.st_size]


def _installed() -> str:
    """A digest of the names of installed packages, with versions, and of when they were installed."""
    known = []
    for folder in sys.path:
        with suppress(OSError), os.scandir(folder or Path.cwd()) as entries:
            known += [f"{e.path} {e.stat().st_mtime_ns}" for e in entries if e.name.endswith(METADATA)]
    return _digest(*sorted(known))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode(errors="surrogateescape")).hexdigest()[:16]
