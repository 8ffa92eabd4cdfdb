"""Untrusted text, such as names of settings and error messages, as MLflow can store it.

Descriptions use Markdown; `escaped` in `bench.leaderboard.markdown` makes text safe in them, as on the board.
"""

from __future__ import annotations

import hashlib
import unicodedata

LONGEST = 5000
"""Characters of a tag's or parameter's value, at most, in every version of MLflow."""
LONGEST_NAME = 250
"""Characters of the name of a run, tag, metric or parameter, at most."""


def fitting(text: str, longest: int = LONGEST) -> str:
    """The text as MLflow can store it: at most `longest` characters, valid Unicode, no control characters.

    A shortened text ends in a digest, so different texts stay different. A text that fits is returned unchanged.
    """
    text = "".join(map(_storable, text))
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{text[: longest - 13]} ... {digest}"


def _storable(character: str) -> str:
    # Cc: control characters, which PostgreSQL or a terminal refuses; Cs: halves of surrogate pairs.
    allowed = character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
    return character if allowed else "\N{REPLACEMENT CHARACTER}"
