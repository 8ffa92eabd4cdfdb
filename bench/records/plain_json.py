"""JSON that holds nothing that `rules.plain` would change or refuse: most records, which are then read much faster.

Whether a text is of this kind is seen without parsing it, and in doubt it is not.
"""

from __future__ import annotations

from bench.records.rules import DEEPEST, LONGEST_INTEGER

_DIGITS_AS_ZERO = bytes.maketrans(b"123456789", b"000000000")
_SIGNS = (b"NaN", b"Infinity", b"\\ud", b"\\uD", b"e+000", b"E000", b"E+000", b"0" * LONGEST_INTEGER)
"""Words for what is not finite, half a character, exponents that may overflow, and an integer that is too long."""
_EXPONENT = b"e000"
"""It also occurs in digests, in quotes."""
_BEFORE_A_NUMBER = b" \n\t\r:,[-"


def is_plain_json(text: str) -> bool:
    """Whether `rules.plain` leaves what this JSON holds as it is."""
    if not text.isascii() or text.count("[") + text.count("{") > DEEPEST:
        return False
    content = text.encode().translate(_DIGITS_AS_ZERO)
    if any(sign in content for sign in _SIGNS):
        return False
    place = content.find(_EXPONENT)
    while place >= 0:
        if content[:place].rstrip(b"0.")[-1:] in _BEFORE_A_NUMBER:
            return False
        place = content.find(_EXPONENT, place + 1)
    return True
