"""The gate's report: a table for the terminal, Markdown for a pull request, JUnit XML for a CI server."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bench.gate.check import Report, Row
from bench.gate.verdict import ALPHA, DRIFT, SLACK, Finding, Limits, Verdict
from bench.leaderboard import markdown as md
from bench.leaderboard.columns import label
from bench.system.files import write_atomically
from bench.system.text import one_line, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {
    Verdict.REGRESSION: "✗",
    Verdict.CHANGED: "≠",
    Verdict.IMPROVED: "▲",
    Verdict.MOVED: "~",
    Verdict.NEW: "+",
    Verdict.NOT_COMPARED: "○",
    Verdict.SAME: "·",
}
COLOURS = {Verdict.REGRESSION: "red", Verdict.CHANGED: "red", Verdict.IMPROVED: "green"}
COLUMNS = {
    "top-1 %": "top-1",
    "outputs": "outputs",
    "bytes": "artifact bytes",
    "MACs": "MACs",
    "latency": "latency",
}
"""The header of each column, and the figure in it."""


def headline(report: Report) -> str:
    """The verdict in one line."""
    counts = Counter(row.verdict for row in report.rows)
    parts = [
        f"{counts[verdict]} {word}"
        for verdict, word in (
            (Verdict.REGRESSION, "worse"),
            (Verdict.CHANGED, "with other outputs"),
            (Verdict.IMPROVED, "better"),
            (Verdict.MOVED, "moved"),
            (Verdict.NEW, "new"),
        )
        if counts[verdict]
    ]
    unjudged = Counter(f.figure for row in report.rows for f in row.findings if f.verdict is Verdict.NOT_COMPARED)
    parts = parts or ["all the same"]
    parts += [f"{figure} not compared in {count}" for figure, count in unjudged.items()]
    outcome = "regression" if counts[Verdict.REGRESSION] else "change" if report.failed else "no regression"
    return f"{outcome}: {len(report.rows)} settings, {', '.join(parts)}"


def lines(report: Report) -> Iterator[tuple[Finding, str]]:
    """One line for each finding that differs, the worst first; settings with the same reason share a line."""
    order = list(Verdict)
    notable = [(row, finding) for row in report.rows for finding in row.findings if finding.verdict is not Verdict.SAME]
    notable.sort(key=lambda pair: order.index(pair[1].verdict))
    alone = [(row, finding) for row, finding in notable if finding.verdict is not Verdict.NOT_COMPARED]
    for row, finding in alone:
        yield finding, f"{MARKS[finding.verdict]} {label(row.setting)} on {row.task.split(', ')[0]}: {finding.text}"
    shared: dict[str, list[Finding]] = {}
    for _, finding in notable[len(alone) :]:
        shared.setdefault(finding.text, []).append(finding)
    for text, same in shared.items():
        yield same[0], f"{MARKS[Verdict.NOT_COMPARED]} {text} ({len(same)} of {len(report.rows)} settings)"


def advice(report: Report, baseline: Path, store: Path) -> str | None:
    """How to accept the differences, or a note that baseline and store share no trial; None without differences."""
    settled = (Verdict.SAME, Verdict.NOT_COMPARED)
    if all(row.verdict in settled for row in report.rows):
        return None
    if {finding.cell for row in report.rows for finding in row.findings} == {"missing", "new"}:
        return f"No trial of {baseline} is in {store}: other models, datasets, weights or budgets? See the headings."
    command = shlex.join(["bench", "check", str(baseline), "--store", str(store), "--update"])
    return f"If the change is intended, `{command}` makes it the baseline; commit the file."


def method(limits: Limits) -> str:
    """How the gate judges, one sentence for each figure."""
    return (
        f"Top-1 must not drop significantly (image by image, exact one-sided test, {ALPHA:.0%} over all settings, "
        f"Holm) by more than {100 * limits.tolerance:g} points; another device or other versions may add {DRIFT:.0%} "
        "of what the setting loses. Outputs must be the same to the last digit where only the code differs. Bytes, "
        f"parameters and MACs must not grow; {SLACK:.0%} is allowed on another device or with other versions. "
        "Latency, as the ratio to the dense network on the same device, must not lose more than "
        f"{limits.slowdown:.0%} where the 95% intervals do not overlap."
    )


def legend() -> str:
    return "  ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())


def render_terminal(report: Report) -> RenderableType:
    """One table for each task, then the findings; it fits every width."""
    from rich.console import Group

    from bench.system.terminal import styled

    parts: list[RenderableType] = []
    for task, rows in groupby(report.rows, key=lambda row: row.task):
        parts += [styled(one_line(task), "bold"), _table(list(rows)), ""]
    parts += [styled(one_line(text), COLOURS.get(finding.verdict, "")) for finding, text in lines(report)]
    parts.append(styled(legend(), "dim"))
    parts.append(styled(headline(report), "bold red" if report.failed else "bold"))
    return Group(*parts)


def _table(rows: list[Row]) -> RenderableType:
    from bench.system.grid import Grid, Heading

    table = Grid([Heading(""), Heading("setting", folds=True), *(Heading(header, right=True) for header in COLUMNS)])
    for row in rows:
        texts, styles = zip(*_cells(row), strict=True)
        cells = [MARKS[row.verdict], one_line(label(row.setting)).replace(")+", ")\n+"), *map(one_line, texts)]
        table.add_row(cells, styles=[COLOURS.get(row.verdict, ""), "", *styles])
    return table


def _cells(row: Row) -> Iterator[tuple[str, str]]:
    """Text and colour of each cell; without figures, the first cell gives the reason."""
    by_figure = {finding.figure: finding for finding in row.findings}
    if len(row.findings) == 1:
        finding = row.findings[0]
        yield finding.cell, COLOURS.get(finding.verdict, "")
        yield from [("–", "")] * (len(COLUMNS) - 1)
        return
    for figure in COLUMNS.values():
        yield by_figure[figure].cell, COLOURS.get(by_figure[figure].verdict, "")


def to_markdown(report: Report, baseline: Path, store: Path) -> str:
    """For a pull request: the verdict, the findings, a table for each task, how to accept them, how it was judged."""
    parts = [f"### {'❌' if report.failed else '✅'} Compression gate: {headline(report)}\n"]
    if bullets := [f"- {md.escaped(text)}" for _, text in lines(report)]:
        parts.append("\n".join(bullets) + "\n")
    for task, rows in groupby(report.rows, key=lambda row: row.task):
        parts.append(f"**{md.escaped(task)}**\n\n{_markdown_table(list(rows))}\n")
    if text := advice(report, baseline, store):
        parts.append(text + "\n")
    parts.append(f"<sub>{legend()}<br>{method(report.limits)}</sub>")
    return "\n".join(parts) + "\n"


def write(report: Report, baseline: Path, store: Path, *, markdown: Path | None, junit: Path | None) -> None:
    """Write the report to each of the given files."""
    if markdown is not None:
        write_atomically(markdown, to_markdown(report, baseline, store).encode())
    if junit is not None:
        write_atomically(junit, to_junit(report).encode())


def _markdown_table(rows: list[Row]) -> str:
    cells = ([MARKS[row.verdict], label(row.setting), *(text for text, _ in _cells(row))] for row in rows)
    return "\n".join(md.table(["", "setting", *COLUMNS], [False, False, *(True for _ in COLUMNS)], cells))


def to_junit(report: Report) -> str:
    """One test case for each figure, named by task, setting and figure, as GitLab's and GitHub's reporters read it.

    They show a test case's `classname` as its suite. For a failure GitLab shows the text; others show the `message`.
    """
    suites = ElementTree.Element("testsuites", name="bench check")
    for task, rows in groupby(report.rows, key=lambda row: row.task):
        findings = [(row, finding) for row in rows for finding in row.findings]
        verdicts = [finding.verdict for _, finding in findings]
        suite = _add(suites, "testsuite", name=task, tests=str(len(findings)), errors="0")
        suite.set("failures", str(sum(verdict.fails for verdict in verdicts)))
        suite.set("skipped", str(verdicts.count(Verdict.NOT_COMPARED)))
        for row, finding in findings:
            name = f"{label(row.setting)}: {finding.figure}"
            _add_outcome(_add(suite, "testcase", classname=task, name=name, time="0"), finding)
    ElementTree.indent(suites)
    content: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return content.decode() + "\n"


def _add_outcome(case: ElementTree.Element, finding: Finding) -> None:
    if finding.verdict.fails:
        _add(case, "failure", finding.text, type=finding.verdict.value, message=finding.text)
    elif finding.verdict is Verdict.NOT_COMPARED:
        _add(case, "skipped", message=finding.text)
    else:
        _add(case, "system-out", finding.text)


def _add(parent: ElementTree.Element, tag: str, text: str = "", **attributes: str) -> ElementTree.Element:
    """Add an element to `parent`. ElementTree escapes markup; control characters are replaced, as XML allows none."""
    element = ElementTree.SubElement(parent, tag, {name: printable(value) for name, value in attributes.items()})
    element.text = printable(text) or None
    return element
