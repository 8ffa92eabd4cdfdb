"""The tables that set methods side by side at equal size and at equal multiply-adds."""

from __future__ import annotations

import random
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import pandas

from bench.leaderboard.operating_points import NEAR, TARGETS, Table, tables_of
from bench.leaderboard.summary import summarise
from bench.records.record import Record


def record(family: str, strength: float, top1: float, **changes: Any) -> Record:
    setting = f"{family}(strength={strength:g})"
    values: dict[str, Any] = {
        "fingerprint": sha256(f"{setting} {changes}".encode()).hexdigest()[:16],
        "status": "ok",
        "method": family,
        "setting": setting,
        "model": "resnet20",
        "dataset": "fashion-mnist",
        "weights": "shipped",
        "seed": 0,
        "budget_epochs": 1.0,
        "device": "cpu",
        "top1": top1,
        "compression_ratio": strength,
        "started_at": "2026-01-01T00:00:00+00:00",
        "config": {"family": family},
    }
    return Record(**{**values, **changes})


def tables(*records: Record) -> list[Table]:
    return tables_of(summarise(pandas.DataFrame([asdict(item) for item in records])))


def test_two_methods_meet_where_both_are_near_a_target() -> None:
    (table,) = tables(
        record("tic", 3.9, 0.9),
        record("tic", 4.05, 0.8),
        record("tic", 15.9, 0.7),
        record("kse", 4.1, 0.85),
        record("kse", 8.0, 0.6),
        record("l1", 3, 0.95),
    )
    assert (table.measure, table.targets, list(table.cells)) == ("size", (4,), ["kse", "tic"])
    (kse,), (tic,) = table.cells.values()
    assert kse and tic and (kse.top1, tic.setting) == (0.85, "tic(strength=4.05)"), "the nearest, not the best"


def test_methods_that_do_not_meet_make_no_table() -> None:
    assert tables(record("tic", 4, 0.9), record("kse", 8, 0.9)) == []


def test_budgets_and_tasks_are_apart() -> None:
    assert tables(record("tic", 4, 0.9), record("kse", 4, 0.9, budget_epochs=2.0)) == []
    assert tables(record("tic", 4, 0.9), record("kse", 4, 0.9, model="resnet56")) == []


def test_multiply_adds_have_a_table_of_their_own() -> None:
    size, macs = tables(record("tic", 4, 0.9, macs_ratio=2.0), record("kse", 4, 0.8, macs_ratio=2.04))
    assert (macs.measure, macs.targets) == ("MACs", (2,)) and size.measure == "size"
    assert [cell.ratio for (cell,) in macs.cells.values() if cell] == [2.0, 2.04]


def test_records_without_a_family_are_families_of_their_own() -> None:
    (table,) = tables(record("tic", 4, 0.9, config={}), record("kse", 4, 0.8, config={"family": 3}))
    assert list(table.cells) == ["tic(strength=4)", "kse(strength=4)"]


def test_against_a_search_by_hand() -> None:
    draw = random.Random(1)
    for _ in range(20):
        points = [(name, draw.uniform(1.5, 20), draw.random()) for name in "abc" for _ in range(6)]
        expected: dict[tuple[str, int], float] = {}
        for name in "abc":
            for target in TARGETS:
                near = [p for p in points if p[0] == name and abs(p[1] - target) <= NEAR * target]
                if near:
                    expected[name, target] = min(near, key=lambda p, t=target: abs(p[1] - t))[2]  # type: ignore[misc]
        met = [t for t in TARGETS if sum((name, t) in expected for name in "abc") > 1]
        found = tables(*(record(*point) for point in points))
        assert (len(found) == 1) == bool(met)
        for table in found:
            assert list(table.targets) == met
            shown = {
                (family, target): cell.top1
                for family, cells in table.cells.items()
                for target, cell in zip(table.targets, cells, strict=True)
                if cell
            }
            assert shown == {key: value for key, value in expected.items() if key[1] in met}
