"""Text in GitHub's Markdown: every character is shown as it is, and none is interpreted."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bench.system.text import printable

_SYNTAX = re.compile(r"[\\|*_`\[\]~]")
_HTML = re.compile(r"[&<>@#]")
_LINKS = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)
"""The characters that make GitHub turn an address into a link."""


def escaped(text: str) -> str:
    """Untrusted text, such as a record's from somebody's branch, in one line: no table, link, mention or HTML."""
    text = _SYNTAX.sub(r"\\\g<0>", printable(" ".join(text.split())))
    return _LINKS.sub(_entity, _HTML.sub(_entity, text))


def table(headers: Iterable[str], numeric: Iterable[bool], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table; numbers are aligned to the right."""
    return [
        _row(headers),
        "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|",
        *map(_row, rows),
    ]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(escaped, cells)) + " |"


def _entity(character: re.Match[str]) -> str:
    return f"&#{ord(character[0])};"
