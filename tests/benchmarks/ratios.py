"""Holds the speeds of a run against the committed ones, as ratios: seconds of another machine say nothing here.

    pytest tests/benchmarks --benchmark-only --benchmark-timer=time.process_time --benchmark-json=times.json
    python tests/benchmarks/ratios.py times.json [--update]

In each group one benchmark sets `benchmark.extra_info["ours"] = True`. A ratio is an alternative's best time over
ours in the same run. It fails below half of the committed one: between machines ratios differ too, by caches and
libraries, but an algorithm that lost its point loses more.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

COMMITTED = Path(__file__).with_suffix(".json")
LEAST = 0.5
"""Share of the committed ratio that must be left."""

Ratios = dict[str, dict[str, float]]
"""By group and alternative: how many times as long as ours it takes."""


def measured(times: dict[str, Any]) -> Ratios:
    """From what pytest-benchmark wrote. ValueError for a group without exactly one that is ours, and an alternative."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for benchmark in times["benchmarks"]:
        groups.setdefault(benchmark["group"], []).append(benchmark)
    found: Ratios = {}
    for group, members in groups.items():
        ours = [member["stats"]["min"] for member in members if member["extra_info"].get("ours")]
        others = {member["name"]: member["stats"]["min"] for member in members if not member["extra_info"].get("ours")}
        if len(ours) != 1 or not others:
            raise ValueError(f"group {group!r}: {len(ours)} benchmarks are ours, {len(others)} are alternatives")
        found[group] = {name: float(f"{seconds / ours[0]:.3g}") for name, seconds in others.items()}
    return found


def compare(committed: Ratios, found: Ratios) -> tuple[list[str], bool]:
    """A line for each ratio, and whether one fell too low or was not measured."""
    told, failed = [], False
    for group in committed | found:
        for name in committed.get(group, {}) | found.get(group, {}):
            before, after = committed.get(group, {}).get(name), found.get(group, {}).get(name)
            slow = before is not None and (after is None or after < LEAST * before)
            failed |= slow
            verdict = "FELL" if slow else "new" if before is None else "ok"
            told.append(f"{verdict:4} {group} / {name}: {_written(before)} → {_written(after)}")
    return told, failed


def _written(ratio: float | None) -> str:
    return "not measured" if ratio is None else f"{ratio:g}x"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare speeds with the committed ratios.")
    parser.add_argument("times", type=Path, help="what --benchmark-json wrote")
    parser.add_argument("--committed", type=Path, default=COMMITTED)
    parser.add_argument("--update", action="store_true", help="make this run's ratios the committed ones")
    options = parser.parse_args(words)
    try:
        found = measured(json.loads(options.times.read_text()))
        committed: Ratios = json.loads(options.committed.read_text()) if options.committed.exists() else {}
    except (OSError, ValueError, KeyError) as error:
        print(f"ratios: {error}", file=sys.stderr)
        return 2
    told, failed = compare(committed, found)
    print(*told, sep="\n")
    if options.update:
        options.committed.write_text(json.dumps(found, indent=2) + "\n")
    return int(failed and not options.update)


if __name__ == "__main__":
    sys.exit(main())
