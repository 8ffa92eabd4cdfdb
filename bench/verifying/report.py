"""The report of a verification: tables for the terminal, Markdown, JSON for programs; and a summary in words."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bench.leaderboard import markdown as md
from bench.system.text import counted, listed, one_line
from bench.verifying.findings import Finding, Outcome, Verdict, Verification

if TYPE_CHECKING:
    from bench.system.terminal import Screen

COLUMNS = ("", "figure", "claimed", "recomputed", "verdict")
NUMERIC = ("claimed", "recomputed")
MARKS = {
    Verdict.SAME: "·",
    Verdict.CLOSE: "~",
    Verdict.CONSISTENT: "·",
    Verdict.DIFFERS: "✗",
    Verdict.UNVERIFIED: "○",
}
COLOURS = {Verdict.DIFFERS: "red", Verdict.UNVERIFIED: "dim"}
LONGEST_CELL = 60
WORDS = {
    Outcome.VERIFIED: ("verifies", "verify"),
    Outcome.DIFFERS: ("differs", "differ"),
    Outcome.LACKING: ("could not be verified here", "could not be verified here"),
    Outcome.NO_ARTIFACT: ("has no artifact to verify", "have no artifact to verify"),
}
LEGEND = (
    "same: recomputed. close: recomputed, within what another machine may change. consistent: follows from other "
    "things that were submitted. not verified: only another run shows it."
)


def summary(verified: Sequence[Verification], failed: int = 0) -> list[str]:
    """What came out, in sentences: first the counts, then each trial that differs or lacks something."""
    counts = Counter(each.outcome for each in verified)
    parts = [f"{counts[outcome]:,} {WORDS[outcome][counts[outcome] != 1]}" for outcome in Outcome if counts[outcome]]
    lines = [f"{counted(len(verified), 'trial', 'trials')}: {', '.join(parts)}."]
    images, changed = (sum(getattr(each, name) for each in verified) for name in ("images", "changed"))
    if images:
        lines.append(f"{images:,} images were classified again; {changed:,} got another class than was submitted.")
    if failed:
        lines.append(f"{counted(failed, 'failed trial', 'failed trials')} left out.")
    for each in verified:
        if each.outcome is Outcome.DIFFERS:
            lines.append(f"✗ {each.title} ({each.place}): {listed([told(one) for one in each.differing], 4)}")
    lacking: dict[str, list[str]] = {}
    for each in verified:
        if each.outcome is Outcome.LACKING:
            lacking.setdefault(each.lacking, []).append(each.title)
    lines += [f"○ {listed(titles)}: {reason}" for reason, titles in lacking.items()]
    return list(map(one_line, lines))


def told(finding: Finding) -> str:
    """A finding in words: `top1 0.95 claimed, 0.9134 recomputed`."""
    if not finding.claimed and not finding.recomputed:
        return f"{finding.name}: {finding.note}"
    values = f"{finding.name} {_short(finding.claimed)} claimed"
    values += f", {_short(finding.recomputed)} recomputed" if finding.recomputed else ""
    return f"{values} ({finding.note})" if finding.note else values


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 3]}..."


def _cells(finding: Finding) -> list[str]:
    verdict = f"{finding.verdict}: {finding.note}" if finding.note else str(finding.verdict)
    if finding.name == finding.verdict:
        verdict = finding.note
    return [MARKS[finding.verdict], finding.name, _short(finding.claimed), _short(finding.recomputed), verdict]


def print_trial(verification: Verification, screen: Screen) -> None:
    """The table of one trial."""
    from bench.system.grid import Grid, Heading
    from bench.system.terminal import styled

    table = Grid([Heading(header, right=header in NUMERIC, folds=header != "figure") for header in COLUMNS])
    for finding in verification.findings:
        style = COLOURS.get(finding.verdict, "")
        table.add_row(list(map(one_line, _cells(finding))), styles=[style] * len(COLUMNS))
    screen.print(styled(heading(verification), "bold"), soft_wrap=True)
    screen.print(table)
    screen.print()


def print_summary(verified: Sequence[Verification], failed: int, screen: Screen) -> None:
    """The legend and the summary."""
    from bench.system.terminal import styled

    first, *others = summary(verified, failed)
    wrong = any(each.outcome is Outcome.DIFFERS for each in verified)
    screen.print(styled(LEGEND, "dim"))
    screen.print(styled(first, "bold red" if wrong else "bold"), soft_wrap=True)
    for line in others:
        screen.print(styled(line, "red" if line.startswith(MARKS[Verdict.DIFFERS]) else ""), soft_wrap=True)


def heading(verification: Verification) -> str:
    return one_line(f"{verification.title}: {WORDS[verification.outcome][0]} ({verification.place})")


def to_text(verified: Sequence[Verification], failed: int = 0) -> str:
    """What the terminal shows, for a file."""
    from bench.system.terminal import Screen, width_of_files

    content = io.StringIO()
    screen = Screen(file=content, width=width_of_files(), highlight=False)
    for each in verified:
        print_trial(each, screen)
    print_summary(verified, failed, screen)
    return content.getvalue()


def to_markdown(verified: Sequence[Verification], failed: int = 0) -> str:
    """For a pull request that brings results: the summary, then a table for each trial."""
    return "\n".join(_markdown(verified, failed)) + "\n"


def _markdown(verified: Sequence[Verification], failed: int) -> Iterator[str]:
    first, *others = summary(verified, failed)
    yield f"### {md.escaped(first)}\n"
    yield from (f"- {md.escaped(line)}" for line in others)
    for each in verified:
        yield f"\n**{md.escaped(heading(each))}**\n"
        yield from md.table(COLUMNS, [header in NUMERIC for header in COLUMNS], map(_cells, each.findings))
    yield f"\n<sub>{LEGEND}</sub>"


def to_json(verified: Sequence[Verification], failed: int = 0) -> str:
    """Every finding of every trial, for programs."""
    trials = [
        asdict(each) | {"outcome": each.outcome, "findings": [asdict(finding) for finding in each.findings]}
        for each in verified
    ]
    return json.dumps({"summary": summary(verified, failed), "trials": trials}, indent=1) + "\n"
