"""Text of strangers, such as names of settings and error messages, made to fit what MLflow stores.

What formats nothing in a description is `escaped` in `bench.leaderboard.markdown`, as on the board.
"""

from __future__ import annotations

import hashlib
import unicodedata

LONGEST = 5000
"""Characters of a tag's or a parameter's value that every version of MLflow keeps."""
LONGEST_NAME = 250
"""Characters of a run's name, or of the name of a tag, a metric or a parameter."""


def fitting(text: str, longest: int = LONGEST) -> str:
    """The text as MLflow stores it: at most `longest` characters, valid Unicode, no control characters but line breaks.

    Two long texts that differ stay different, and a text that fits is returned unchanged.
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
