"""What the page of a setting links to: the papers and descriptions of its methods, and the files of its models."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bench.leaderboard.columns import Row
from bench.leaderboard.style import installed
from bench.records.store import MODEL

if TYPE_CHECKING:
    from bench.plugins.declared import Declared

_ADDRESS = re.compile(r"https?://[^\s<>\"']+")


@dataclass(frozen=True)
class Described:
    """A method of the setting: its summary, its paper with an address, and the paragraphs of its description."""

    name: str
    summary: str
    paper: str
    address: str
    paragraphs: tuple[str, ...]


def described(method: str) -> list[Described]:
    """The methods of a pipeline that are installed here, in turn."""
    known = installed()
    return [_described(name, known[name]) for name in dict.fromkeys(method.split("+")) if name in known]


def _described(name: str, about: Declared) -> Described:
    found = _ADDRESS.search(about.details)
    address = found[0].rstrip(".,;:)") if found else ""
    paragraphs = tuple(part.strip("\n") for part in about.details.split("\n\n") if part.strip())
    return Described(name, about.summary, about.paper, address, paragraphs)


def models(records: Iterable[Row], files: Mapping[str, list[Path]], page: Path) -> list[tuple[str, str]]:
    """A caption and the address, from the folder `page`, of the file of each record's network that is still there.

    `files` holds the files beside each record by its fingerprint.
    """
    found = []
    for record in records:
        for path in (path for path in files[record["fingerprint"]] if path.name == MODEL):
            address = Path(os.path.relpath(path.resolve(), page.resolve())).as_posix()
            found.append((f"seed {record['seed']}, {path.stat().st_size / 1000:.0f} kB", quote(address)))
    return found
