"""What the page of one setting on one task shows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from shutil import copyfile
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bench.leaderboard.board import board_title
from bench.leaderboard.columns import COLUMNS, Row, additions_matter, label
from bench.leaderboard.glossary import GROUPS, Term
from bench.leaderboard.grouping import LINE
from bench.leaderboard.setting_links import Described, described, models
from bench.leaderboard.summary import FRONTS
from bench.records.store import CLASSES, regular_files
from bench.system.errors import BenchError
from bench.system.text import printable

if TYPE_CHECKING:
    from markupsafe import Markup

LAYERS = "layers.csv"
CLASS_FIGURES = ("top1", "top1_dense", "drop")
CUT = "\x1f"
"""The separator of cells, so that a whole table can be escaped at once."""
SPACES = "\n\u202f\u00a0"
"""Characters that a page keeps although they are not printable: line breaks, and the spaces within numbers."""
_NUMBERS = re.compile(rf"([-+.\de]*[×–]?{CUT})*[-+.\de]*[×–]?")
FRONT_NAMES = {"pareto": "size", "pareto_macs": "MACs", "pareto_latency": "latency"}
HEADLINE = ("top1", "top1_drop", "compression_ratio", "macs_ratio", "latency_speedup")


def page_name(row: Row) -> str:
    """The file name of a setting's page; it is the same at every build, so that links last."""
    key = "\n".join(str(row[name]) for name in LINE)
    words = re.sub(r"[^A-Za-z0-9.]+", "-", f"{row['model']}-{row['dataset']}-{row['method']}")
    return f"{words[:80].strip('-.')}-{sha256(key.encode()).hexdigest()[:10]}.html"


@dataclass(frozen=True)
class Table:
    """Headers, which columns are numbers, and texts; the first column names the row."""

    headers: list[str]
    numeric: list[bool]
    rows: list[list[str]]
    groups: dict[int, str] = field(default_factory=dict)
    """Titles of groups, by the number of their first row."""

    def html(self) -> Markup:
        """The table's content. A large board has a million cells, too many for a template."""
        from markupsafe import Markup

        kinds = [' class="number"' if number else "" for number in self.numeric]
        line = '<tr><th scope="row">%s</th>' + "".join(f"<td{kind}>%s</td>" for kind in kinds[1:]) + "</tr>"
        title = f'<tr class="group"><th scope="rowgroup" colspan="{len(self.headers)}">%s</th></tr>\n'
        titles = {place: title % text for place, text in zip(self.groups, _escaped(self.groups.values()), strict=True)}
        lines = [titles.get(place, "").replace("%", "%%") + line for place in range(len(self.rows))]
        body = "\n".join(lines) % tuple(_escaped(chain.from_iterable(self.rows)))
        heads = zip(_escaped(self.headers), kinds, strict=True)
        head = "".join(f'<th scope="col"{kind}>{text}</th>' for text, kind in heads)
        return Markup(f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>")


def _escaped(texts: Iterable[str]) -> list[str]:
    """The texts as HTML without control characters. All are escaped at once: a large board has millions."""
    from markupsafe import escape

    harmless = [text.replace(CUT, " ") for text in texts]
    return str(escape(printable(CUT.join(harmless), keep=SPACES + CUT))).split(CUT) if harmless else []


@dataclass(frozen=True)
class SettingPage:
    """A row of the summary, and the records that it is the mean of."""

    row: Row
    records: list[Row]
    folders: Path

    @property
    def title(self) -> str:
        return label(self.row["setting"])

    @property
    def task(self) -> str:
        return board_title([self.row])

    @property
    def headline(self) -> list[tuple[str, str]]:
        return [(column.header, column.write(self.row)) for column in COLUMNS if column.name in HEADLINE]

    @property
    def fronts(self) -> str:
        """The gains whose fronts the setting is on, as the board's legend names them; empty where there is none."""
        return " and ".join(FRONT_NAMES[front] for front in FRONTS.values() if self.row[front])

    @property
    def additions_matter(self) -> bool:
        return bool(additions_matter(self.row))

    @cached_property
    def measured(self) -> list[Row]:
        """The records with figures, by seed."""
        return sorted((r for r in self.records if r["status"] == "ok"), key=lambda record: record["seed"])

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Captions and commands: first the one that runs this setting alone with all its seeds, then those typed."""
        last = max(self.records, key=lambda record: record["seed"])["config"].get("repeat")
        alone = [("This setting, every seed:", last)] if last else []
        typed = dict.fromkeys(r["config"]["command"] for r in self.records if r["config"].get("command"))
        return alone + [("As it was run, with others:" if last else "As it was run:", command) for command in typed]

    @property
    def failures(self) -> list[tuple[int, str]]:
        return [(r["seed"], r["error"] or "no reason given") for r in self.records if r["status"] != "ok"]

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(note for record in self.records for note in record["notes"]))

    @property
    def figures(self) -> Table:
        """Every figure that was measured, for each seed, and the mean of several seeds; in groups, as on the board."""
        headers = ["figure", "unit", *(f"seed {record['seed']}" for record in self.measured)]
        headers += ["mean"] if len(self.measured) > 1 else []
        rows: list[list[str]] = []
        groups: dict[int, str] = {}
        for group, terms in GROUPS.items():
            known = [row for row in map(self._figure, terms) if row]
            groups |= {len(rows): group} if known else {}
            rows += known
        return Table([*headers, "field"], [False, False] + [True] * (len(headers) - 2) + [False], rows, groups)

    def _figure(self, term: Term) -> list[str]:
        """The line of one figure; empty if no seed has it."""
        figures = (record[term.field] for record in self.measured)
        values = [None if value is None or value != value else term.scale * float(value) for value in figures]
        known = [value for value in values if value is not None]
        mean = [fmean(known)] if known and len(values) > 1 else []
        texts = ["–" if value is None else number(value) for value in [*values, *mean]]
        return [term.name, term.unit, *texts, term.field] if known else []

    @property
    def configuration(self) -> Iterator[tuple[str, str]]:
        """The options and the machine, from one record: the seeds differ in nothing else."""
        record = self.records[0]
        yield from flatten({k: v for k, v in record["config"].items() if k not in ("command", "repeat", "seed")})
        yield from flatten(record["versions"], "versions")

    @property
    def configuration_list(self) -> Markup:
        from markupsafe import Markup

        names, values = zip(*self.configuration, strict=True)
        pairs = zip(_escaped(names), _escaped(values), strict=True)
        return Markup("\n".join(f"<div><dt><code>{name}</code></dt><dd>{value}</dd></div>" for name, value in pairs))

    @cached_property
    def layers(self) -> Table | None:
        """The table of layers of the first seed; None if its folder has none."""
        path = self._first_file(LAYERS)
        return None if path is None else read_layers(path)

    @cached_property
    def classes(self) -> Table | None:
        """Top-1 of each class, from the first seed that has a table; the class that lost most comes first."""
        path = self._first_file(CLASSES)
        return None if path is None else read_classes(path)

    def _first_file(self, name: str) -> Path | None:
        """The file of that name that belongs to the first seed that has one."""
        paths = (path for record in self.measured for path in self._files[record["fingerprint"]] if path.name == name)
        return next(paths, None)

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """The files beside each record, by its fingerprint."""
        return {fingerprint: regular_files(self.folders / fingerprint) for fingerprint in self._fingerprints}

    @property
    def _fingerprints(self) -> list[str]:
        return [record["fingerprint"] for record in self.records]

    @property
    def methods(self) -> list[Described]:
        """The methods of the setting, as they describe themselves."""
        return described(self.row["method"])

    def models(self, page: Path) -> list[tuple[str, str]]:
        """Captions and addresses, from the folder `page`, of the networks' files that are in the store."""
        return models(self.measured, self._files, page)

    def copy_pictures(self, out: Path) -> list[tuple[str, str]]:
        """Copy pictures, but no links, into one folder per record. Returns each picture's address and caption."""
        copied = []
        for record in self.records:
            pictures = [path for path in self._files[record["fingerprint"]] if path.name.endswith(".png")]
            for name in (path.name for path in pictures):
                place = out / record["fingerprint"] / name
                place.parent.mkdir(parents=True, exist_ok=True)
                copyfile(self.folders / record["fingerprint"] / name, place, follow_symlinks=False)
                shown = f"{re.sub('[_-]+', ' ', name.removesuffix('.png'))}, seed {record['seed']}"
                copied.append((f"../{out.name}/{record['fingerprint']}/{quote(name)}", shown))
        return copied


def read_layers(path: Path) -> Table:
    """The table as it was written, without empty columns, and with a column for how much smaller each layer is."""
    try:
        headers, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
        columns = {header: list(values) for header, *values in zip(headers, *rows, strict=True) if any(values)}
        if {"bits", "bits_dense"} <= columns.keys():
            pairs = zip(columns["bits_dense"], columns["bits"], strict=True)
            smaller = [f"{float(dense) / float(bits):.2f}×" if bits and float(bits) else "–" for dense, bits in pairs]
            columns = dict(_inserted(columns, "bits", "smaller", smaller))
    except ValueError as error:
        raise BenchError(f"{path}: not a table of layers ({error}); delete it and build the page again") from error
    numeric = [_NUMBERS.fullmatch(CUT.join(values)) is not None for values in columns.values()]
    texts = [
        [grouped(value) for value in values] if is_number else values
        for values, is_number in zip(columns.values(), numeric, strict=True)
    ]
    return Table([name.replace("_", " ") for name in columns], numeric, [list(row) for row in zip(*texts, strict=True)])


def read_classes(path: Path) -> Table:
    """The table that a trial wrote, sorted by drop, in percent."""
    try:
        rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        texts = [
            [row["class"], grouped(row["images"]), *(f"{100 * float(row[name]):.2f}" for name in CLASS_FIGURES)]
            for row in sorted(rows, key=lambda row: -float(row["drop"]))
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise BenchError(f"{path}: not a table of classes ({error}); delete it and build the page again") from error
    return Table(["class", "images", "top-1 %", "dense %", "drop"], [False] + [True] * 4, texts)


def _inserted(columns: dict[str, Any], after: str, name: str, values: list[str]) -> Iterator[tuple[str, Any]]:
    for known, column in columns.items():
        yield known, column
        if known == after:
            yield name, values


def number(value: float) -> str:
    """A number as text: whole numbers in groups of three digits, others with five significant digits."""
    return (
        grouped(str(int(value))) if value.is_integer() else grouped(f"{value:.5g}" if value < 1e5 else f"{value:.0f}")
    )


def grouped(digits: str) -> str:
    """The digits with narrow spaces between groups of three, from ten thousand on."""
    return f"{int(digits):,}".replace(",", "\u202f") if len(digits) > 4 and digits.isdecimal() else digits


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested options by dotted names."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value, 1):
            yield from flatten(item, f"{name}.{index}")
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
