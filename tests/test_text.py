"""Text of strangers: no output format obeys it, and none loses a row, a column or a figure to it."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table

from bench.gate.check import Report, Row
from bench.gate.report import render_terminal as render_gate
from bench.gate.report import to_junit
from bench.gate.report import to_markdown as gate_markdown
from bench.gate.verdict import Finding, Limits, Verdict
from bench.leaderboard.board import to_markdown, to_text
from bench.leaderboard.columns import columns_of
from bench.leaderboard.exports import to_csv, to_json, to_parquet
from bench.leaderboard.markdown import escaped
from bench.leaderboard.summary import summarise
from bench.records.record import Record
from bench.system import progress
from bench.system.errors import BadArgument
from bench.system.terminal import Screen, styled
from bench.system.text import did_you_mean, encoded, one_line, printable, shown

HOSTILE = [
    "l1[/red]",
    "[bold]x[/bold] :smile:",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\u202egpj.exe\u2066",
    "a|b\\|c`d`",
    "one\ntwo\r\nthree\x85\u2028four",
    "<script>alert(1)</script></table>",
    "[x](http://evil.example) www.evil.example @all #1",
    '=HYPERLINK("http://evil.example")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\udcff",
    "\0",
    "x\x1fy",
    "]]>",
    "${jndi:x} $\\frac$",
]
hostile = st.sampled_from(HOSTILE) | st.text(st.characters(), max_size=30)
FIGURE = "12.50×"


def record(setting: str, **figures: Any) -> Record:
    return Record(
        fingerprint=f"f{setting}",
        status="ok" if figures else "failed",
        error=None if figures else "error",
        method="method",
        setting=setting,
        model="model",
        dataset="dataset",
        weights="weights",
        seed=0,
        budget_epochs=1,
        device="cpu",
        started_at="2026-01-01T00:00:00+00:00",
        **figures,
    )


@cache
def plain_board() -> pandas.DataFrame:
    """Three settings of one task, one of them failed."""
    records = [
        record("none", top1=0.9, top1_drop=0.0, compression_ratio=1.0),
        record("x", top1=0.8, top1_drop=0.1, compression_ratio=12.5),
        record("y"),
    ]
    return summarise(pandas.DataFrame([vars(one) for one in records]))


def board(text: str) -> pandas.DataFrame:
    """`plain_board` with this text in every name and error, as far as pandas can hold it: without lone surrogates."""
    text = encoded(text).decode()
    names = dict.fromkeys(("method", "model", "dataset", "weights", "device"), text)
    return plain_board().assign(**names, setting=["none", "x" + text, "y" + text], error=[None, None, text])


def gate_report(text: str) -> Report:
    findings = [Finding("trial", Verdict.REGRESSION, "failed", f"failed: {text}")]
    return Report([Row(f"{text} on {text}", text, findings), Row(f"{text} on {text}", "none", findings)], Limits())


def harmless(printed: str) -> bool:
    """Whether no character in it is obeyed by a terminal."""
    return all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in printed)


@given(hostile)
def test_printable_text_has_no_control_characters_and_keeps_the_rest(text: str) -> None:
    assert printable(text).isprintable() and "\n" not in one_line(text)
    assert printable(text, keep="\n").count("\n") == text.count("\n")
    if text.isprintable():
        assert printable(text) == text
    encoded(text).decode()


def test_what_is_escaped_is_told() -> None:
    assert printable("\x1b[31mred\u202e\udcff") == r"\x1b[31mred\u202e\udcff"
    assert printable("a\u00a0b ü 漢字 é") == "a b ü 漢字 é"
    assert json.loads(encoded('"\udcff"')) == "\udcff"


def test_a_value_in_a_message_is_short_whatever_it_is() -> None:
    for value in (10**5000, -(10**5000), "x" * 10**6, [[[[[[[1]]]]]]], {"a": ["b"] * 10**5}, "\x1b"):
        assert len(shown(value)) < 300 and shown(value).isprintable()
        assert len(str(BadArgument("x", value, "expected less"))) < 320


@given(hostile)
@settings(max_examples=25)
def test_the_boards_table_in_the_terminal(text: str) -> None:
    printed = to_text(board(text))
    assert harmless(printed)
    assert printed.count("90.00") == 1 and printed.count(FIGURE) == 1, "a row for each setting, with its figures"
    assert printed.count("failed: ") >= 1


@given(hostile)
@settings(max_examples=25)
def test_a_tables_cells_are_text_and_nothing_else(text: str) -> None:
    screen = Screen(width=200, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    table = Table("name", "figure", box=None)
    table.add_row(one_line(text), "1")
    with screen.capture() as printed:
        screen.print(table)
        screen.print(styled(text))
        screen.print(text)
    # Rich's own escapes are of the header, which is bold.
    assert harmless(re.sub(r"\x1b\[[01]m", "", printed.get()))


def test_markup_is_printed_as_it_stands() -> None:
    screen = Screen(width=80, file=io.StringIO())
    with screen.capture() as printed:
        screen.print("l1[/red] [bold]x[/] :smile:")
    assert printed.get() == "l1[/red] [bold]x[/] :smile:\n"


@given(hostile)
@settings(max_examples=25)
def test_bars_and_lines_of_progress(text: str) -> None:
    screen = Screen(file=io.StringIO(), force_terminal=True, color_system=None, width=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "console", screen)
        with screen.capture() as printed, progress.bar(text, 3) as advance:
            advance(1)
            progress.say(text)
    rest = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", printed.get()).replace("\r", "")
    assert harmless(rest) and one_line(text).strip() in re.sub(r"\s*\n", "", rest)


def cells(line: str) -> list[str]:
    """As GitHub splits a row: at the bars that have no backslash before them."""
    return re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]


@given(hostile)
@settings(max_examples=25)
def test_markdown_keeps_its_rows_and_columns(text: str) -> None:
    summary = board(text)
    written = to_markdown(summary)
    assert harmless(written)
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {len(cells(row)) for row in rows} == {len(columns_of(summary))}
    assert not re.search(r"<(?!/?sub>|br>)", written) and "@all" not in written and "://" not in written
    gate = gate_markdown(gate_report(text), Path("b.json"), Path("runs"))
    rows = [line for line in gate.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {len(cells(row)) for row in rows} == {7} and harmless(gate)


@pytest.mark.parametrize("text", ["**b**", "_i_", "~s~", "`c`", "[l](u)", "a|b", "<b>", "&amp;", "@me", "#1"])
def test_every_sign_of_markdown_is_escaped(text: str) -> None:
    assert not re.search(r"(?<![\\&])[*_~`\[\]|<>@#]|&(?!#\d+;)", re.sub(r"&#\d+;", "", escaped(text)))


def test_addresses_are_no_links() -> None:
    assert escaped("http://a.example www.a.example v1.2") == "http&#58;//a.example www&#46;a.example v1.2"


@given(hostile)
@settings(max_examples=25)
def test_csv_keeps_rows_columns_and_numbers_and_has_no_formulas(text: str) -> None:
    summary = board(text)
    rows = list(csv.reader(io.StringIO(to_csv(summary), newline="")))
    assert len(rows) == 4 and {len(row) for row in rows} == {len(summary.columns)}
    columns = {name: index for index, name in enumerate(rows[0])}
    assert [row[columns["top1"]] for row in rows[1:]] == ["0.9", "0.8", ""]
    numbers = {name for name in columns if pandas.api.types.is_numeric_dtype(summary[name])}
    for row in rows[1:]:
        assert not any(
            row[columns[name]].startswith(("=", "+", "-", "@", "\t", "\r")) for name in columns.keys() - numbers
        )


def test_a_negative_number_stays_a_number() -> None:
    frame = pandas.DataFrame({"name": ["-1", "tic(k=64)", None], "figure": [-0.5, 2.0, None], "seeds": [-3, 1, 2]})
    assert to_csv(frame) == "name,figure,seeds\n'-1,-0.5,-3\ntic(k=64),2,1\n,,2\n"


@given(hostile)
@settings(max_examples=30)
def test_json_and_parquet_hold_any_text(text: str) -> None:
    summary = board(text)
    rows = json.loads(encoded(to_json(summary)))
    assert {row["setting"] for row in rows} == set(summary["setting"])
    read = pandas.read_parquet(io.BytesIO(to_parquet(summary)))
    assert len(read) == 3 and read["top1"].dropna().tolist() == [0.9, 0.8]


@given(hostile)
@settings(max_examples=25)
def test_the_gates_table_and_junit(text: str) -> None:
    report = gate_report(text)
    screen = Screen(width=300, file=io.StringIO(), color_system=None)
    with screen.capture() as printed:
        screen.print(render_gate(report))
    assert harmless(printed.get())
    assert sum(line.startswith("✗ ") and " – " in line for line in printed.get().splitlines()) >= 2 or len(text) > 30
    tree = ElementTree.fromstring(to_junit(report).encode())
    cases = list(tree.iter("testcase"))
    assert len(cases) == 2 and cases[0].get("name") == f"{printable(text)}: trial"


class Elements(HTMLParser):
    """What a page's text would run, and the content of its data element."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.inside, self.data = False, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.inside = tag == "script" and ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        self.data += data if self.inside else ""


def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


@given(hostile)
@example("</script><script>alert(1)</script><!--")
@settings(max_examples=20)
def test_the_page(text: str) -> None:
    page = _light_page(board(text))
    parsed = elements(page)
    assert parsed.tags == elements(_light_page(board("plain"))).tags
    data = json.loads(parsed.data)
    assert len(data["shown"]["setting"]) == 3 and harmless(page.replace("\u202f", ""))


def _light_page(summary: pandas.DataFrame) -> str:
    from bench.leaderboard import page

    return page._render(summary.assign(page="x.html"), inline=False, points=None, records=None)


def test_a_long_text_is_compared_quickly() -> None:
    assert "There are: tic" in did_you_mean("t" * 10**6, ["tic"])
