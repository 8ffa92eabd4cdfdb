"""Untrusted text made harmless: names, notes and errors come from methods, files and other people's records.

`printable` is for everything that a person reads; formats with their own syntax (Markdown, CSV, HTML) build on it.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Sequence
from unicodedata import category

LONGEST = 200
"""Characters of a value that a message shows, at most."""
LARGEST_BITS = 128
"""Bits of an integer that a message shows, at most; Python refuses to print more than 4300 digits."""


def printable(text: str, keep: str = "") -> str:
    r"""Replace each character that a terminal would obey by an escape such as `\x1b`, except for those in `keep`.

    These are control characters, marks that change the direction of text, lone surrogates and unassigned code points.
    Spaces of other kinds become plain spaces.
    """
    if text.isprintable():
        return text
    if keep and text.translate(dict.fromkeys(map(ord, keep))).isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def one_line(text: str) -> str:
    """`printable`, with a space for each line break."""
    return printable(" ".join(text.splitlines()))


def encoded(text: str) -> bytes:
    r"""UTF-8. A lone surrogate, which UTF-8 cannot hold, becomes an escape like `\udcff`; JSON reads that back."""
    return text.encode("utf-8", "backslashreplace")


def has_surrogate(text: str) -> bool:
    """Whether the text has a lone surrogate: half of a character, which no UTF-8 file can hold."""
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def shown(value: object) -> str:
    """`repr(value)` in one short line, whatever its size or depth."""
    return printable(_SHORT.repr(value))


def shortened(text: str) -> str:
    """At most `LONGEST` characters: the beginning, three dots and the end."""
    half = (LONGEST - 3) // 2
    return text if len(text) <= LONGEST else f"{text[:half]}...{text[-half:]}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few names, each shortened, and how many more there are."""
    shown = ", ".join(map(shortened, names[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'tic'? There are dynamic, kse, ...`"""
    names, name = sorted(known), name[:LONGEST]  # the comparison takes quadratic time
    near = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.lower(), names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return f"{hint} There are: {', '.join(names)}"


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun: `1 image`, `2,000 images`."""
    return f"{count:,} {one if count == 1 else many}"


class _Short(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()
        return f"an integer of {bits} bits" if bits > LARGEST_BITS else repr(value)


_SHORT = _Short()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, LONGEST, LONGEST


def _escape(char: str) -> str:
    return " " if category(char) == "Zs" else char.encode("unicode_escape").decode("ascii")
