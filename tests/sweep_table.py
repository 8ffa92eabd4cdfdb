"""The cells of the sweep: a CSV that grows a line at a time, and the Markdown made of it."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bench.system.environment import versions

DISCOVERY = "-"
"""What stands in place of a setting where a family's network was looked for."""


@dataclass(frozen=True)
class Cell:
    """One setting on one family's network, and what came of it."""

    family: str
    setting: str
    status: str
    model: str = ""
    image_size: int = 0
    params: int = 0
    layers: int = 0
    smaller: int = 0
    reason: str = ""
    seconds: float = 0.0

    @property
    def handled(self) -> bool:
        return self.status != "FAILED"

    @property
    def mark(self) -> str:
        return f"{self.smaller}/{self.layers}" if self.status == "partly" else self.status


def append(path: Path, cell: Cell) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Cell)], lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(cell))


def read(path: Path) -> dict[tuple[str, str], Cell]:
    """The last word on each cell."""
    if not path.exists():
        return {}
    kinds = {"image_size": int, "params": int, "layers": int, "smaller": int, "seconds": float}
    with path.open(newline="") as file:
        rows = [{name: kinds.get(name, str)(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return {(row["family"], row["setting"]): Cell(**row) for row in rows}


def markdown(cells: dict[tuple[str, str], Cell], command: str) -> str:
    tried = [cell for cell in cells.values() if cell.setting != DISCOVERY]
    found = [cell for cell in cells.values() if cell.setting == DISCOVERY and cell.status == "found"]
    out = sorted(cell.family for cell in cells.values() if cell.status == "left out")
    settings = list(dict.fromkeys(cell.setting for cell in tried))
    good, statuses = sum(cell.handled for cell in tried), Counter(cell.status for cell in tried)
    whole = [row for row in found if all((row.family, setting) in cells for setting in settings)]
    rest = [row for row in found if row not in whole]
    known = versions()
    lines = [
        "# Any network",
        "",
        f"{len(found)} convolutional families of timm and pytorchcv, {len(settings)} settings: {good} of {len(tried)} "
        f"cells hold ({100 * good / max(1, len(tried)):.1f}%). {counted(statuses)}; "
        f"{sum(c.seconds for c in tried) / 60:.0f} minutes in all, one thread each, on a busy machine."
        + (f" {len(rest)} families have been run in part." if rest else ""),
        "",
        "Random weights, no training. **ok**: every convolution is encoded or smaller. **n/m**: n of m are, and each "
        "other says why not in the per-layer table. **dense**: none, with reasons. **refused**: one clear line. In "
        "every cell the encoded network, its folded form and the reloaded file give the same outputs, and the counts "
        "hold. `sweep.csv` has it all with times and reasons.",
        "",
        f"torch {known.get('torch')}, timm {known.get('timm')}; `{command}`",
        "",
        *_table(whole, settings, cells),
        "",
        *_rest(rest, settings, cells),
        "## Refused and failed",
        "",
        *_grouped((c.status, c.setting, c.reason, c.family) for c in tried if c.status in ("refused", "FAILED")),
        "",
        "## Why layers stay dense",
        "",
        *_reasons(tried),
        "",
        f"Left out, no convolution whose windows overlap, or several outputs: {', '.join(out)}.",
    ]
    return "\n".join(lines) + "\n"


def counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())


def _table(found: list[Cell], settings: list[str], cells: dict[tuple[str, str], Cell]) -> Iterator[str]:
    yield "| family | network | " + " | ".join(f"`{setting}`" for setting in settings) + " |"
    yield "| --- | --- |" + " :-: |" * len(settings)
    for row in sorted(found, key=lambda cell: cell.family):
        marks = [cells[row.family, s].mark if (row.family, s) in cells else "" for s in settings]
        yield f"| {row.family} | {row.model} at {row.image_size} | " + " | ".join(marks) + " |"


def _rest(rows: list[Cell], settings: list[str], cells: dict[tuple[str, str], Cell]) -> Iterator[str]:
    """The families with cells that have not been run, under the settings that some of them have."""
    if rows:
        some = [setting for setting in settings if any((row.family, setting) in cells for row in rows)]
        yield from ("## Run in part", "", "A blank cell, or a setting that is not here, has not been run.", "")
        yield from (*_table(rows, some, cells), "")


def _grouped(items: Iterable[tuple[str, str, str, str]]) -> Iterator[str]:
    families: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for *key, family in items:
        families[tuple(key)].append(family)
    for (status, setting, reason), names in sorted(families.items()):
        yield f"- {status}, `{setting}`: {reason} ({', '.join(names)})"
    if not families:
        yield "None."


def _reasons(tried: list[Cell]) -> Iterator[str]:
    layers: Counter[tuple[str, str]] = Counter()
    families: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell in tried:
        for part in filter(None, cell.reason.split("; ") if cell.status in ("partly", "dense") else ()):
            count, _, reason = part.partition("x ")
            layers[cell.setting, reason] += int(count)
            families[cell.setting, reason].add(cell.family)
    yield "| setting | layers | families | reason |"
    yield "| --- | ---: | ---: | --- |"
    for (setting, reason), count in sorted(layers.items(), key=lambda item: (item[0][0], -item[1])):
        yield f"| `{setting}` | {count} | {len(families[setting, reason])} | {reason} |"
