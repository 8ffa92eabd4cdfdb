"""What a verification finds out about one claim of a record, and about a trial as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bench.system.errors import BenchError

EXACTLY = 1e-9
"""Numbers that differ by no more, relatively, are the same: they went through JSON, or were summed in another order."""


class Unavailable(BenchError):
    """What a verification needs is not on this machine, such as the images or the code of a network."""


class Verdict(StrEnum):
    """`SAME` was recomputed from the artifact; `CLOSE` too, and is within the tolerance for other machines.
    `CONSISTENT` only follows from other things that were handed in; `UNVERIFIED` cannot be known here."""

    SAME = "same"
    CLOSE = "close"
    CONSISTENT = "consistent"
    DIFFERS = "differs"
    UNVERIFIED = "not verified"


class Outcome(StrEnum):
    """The outcome for a trial. `NO_ARTIFACT`: nothing to recompute from, and what there is does not contradict itself.
    `LACKING`: this machine lacks something, and the trial was not verified."""

    VERIFIED = "verified"
    NO_ARTIFACT = "no artifact"
    LACKING = "not verified"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Finding:
    """The verdict on a claim. `fields` are those of the record that it is about, and `note` says more in words."""

    name: str
    verdict: Verdict
    claimed: str = ""
    recomputed: str = ""
    note: str = ""
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What was found out about one trial. `lacking` says what is missing on this machine, if anything is.

    `images` were classified again, and `changed` of them got another class than in the submitted predictions.
    """

    place: str
    title: str
    fingerprint: str
    findings: list[Finding] = field(default_factory=list)
    has_artifact: bool = True
    lacking: str = ""
    images: int = 0
    changed: int = 0

    @property
    def outcome(self) -> Outcome:
        if self.differing:
            return Outcome.DIFFERS
        if self.lacking:
            return Outcome.LACKING
        return Outcome.VERIFIED if self.has_artifact else Outcome.NO_ARTIFACT

    @property
    def differing(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict is Verdict.DIFFERS]


def about(name: str, claimed: Any, recomputed: Any, allowed: float = 0.0, note: str = "") -> Finding:
    """A figure of the record beside the recomputed one. Numbers may differ by `allowed` on another machine."""
    verdict = verdict_on(claimed, recomputed, allowed)
    return Finding(name, verdict, written(claimed), written(recomputed), note, (name,))


def verdict_on(claimed: Any, recomputed: Any, allowed: float = 0.0) -> Verdict:
    if is_same(claimed, recomputed):
        return Verdict.SAME
    numbers = _is_number(claimed) and _is_number(recomputed)
    close = numbers and abs(claimed - recomputed) <= allowed * (1 + EXACTLY)
    return Verdict.CLOSE if close else Verdict.DIFFERS


def is_same(claimed: Any, recomputed: Any) -> bool:
    """Whether two values are equal; numbers up to rounding."""
    if isinstance(claimed, float) or isinstance(recomputed, float):
        numbers = _is_number(claimed) and _is_number(recomputed)
        return numbers and math.isclose(claimed, recomputed, rel_tol=EXACTLY, abs_tol=EXACTLY)
    return bool(claimed == recomputed)


def together(name: str, pairs: Iterable[tuple[str, Any, Any]], good: Verdict, note: str = "") -> list[Finding]:
    """Claims that are shown as one if all are right, and otherwise only those that are wrong.

    `pairs` are a name of each, the claimed value and the right one.
    """
    pairs = list(pairs)
    wrong = [
        Finding(each, Verdict.DIFFERS, written(claimed), written(right), note, (each,))
        for each, claimed, right in pairs
        if not is_same(claimed, right)
    ]
    fields = tuple(each for each, _, _ in pairs)
    return wrong or ([Finding(name, good, note=note, fields=fields)] if pairs else [])


def written(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.9g}"
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
