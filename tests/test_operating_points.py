"""The tables that set methods side by side at equal size, at equal compressed size and at equal multiply-adds."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, replace
from hashlib import sha256
from typing import Any

import pandas
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bench.leaderboard.headline import MEANING, MEASURES
from bench.leaderboard.operating_points import GAINS, NEAR, TARGETS, Cell, Table, mean_ranks, tables_of
from bench.leaderboard.summary import summarise
from bench.records.record import Record
from bench.trials.ruler import GAINS as RULER_GAINS


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
    assert (macs.measure, macs.targets) == ("macs", (2,)) and size.measure == "size"
    assert [cell.ratio for (cell,) in macs.cells.values() if cell] == [2.0, 2.04]


def test_compressed_sizes_have_a_table_of_their_own() -> None:
    size, compressed = tables(record("tic", 4, 0.9, compressed_ratio=8.2), record("kse", 4, 0.8, compressed_ratio=7.9))
    assert (compressed.measure, compressed.targets) == ("compressed", (8,)) and size.targets == (4,)
    assert [cell.ratio for (cell,) in compressed.cells.values() if cell] == [8.2, 7.9]


def test_the_board_and_the_search_know_the_same_measures() -> None:
    assert set(GAINS) == set(RULER_GAINS) == set(MEASURES) == set(MEANING)


def test_the_dense_network_is_the_baseline_and_no_method() -> None:
    pair = [record("tic", 4, 0.9), record("kse", 4, 0.8)]
    dense = record("none", 1, 0.95, setting="none", config={})
    (table,) = tables(*pair, dense)
    assert table.dense[0] == 0.95 and set(table.cells) == {"tic", "kse"}
    named = [record(family, 4, top1, top1_drop=0.94 - top1) for family, top1 in (("tic", 0.9), ("kse", 0.8))]
    (table,) = tables(*named, replace(dense, budget_epochs=3.0))
    assert table.dense[0] == pytest.approx(0.94), "of another budget, the dense network is another row"


def ranks(**families: dict[int, float]) -> dict[str, float]:
    found = {
        family: {target: Cell(family, family, top1, math.nan, target, 1) for target, top1 in by.items()}
        for family, by in families.items()
    }
    return mean_ranks(found, sorted({target for by in families.values() for target in by}))


def test_mean_ranks_by_hand() -> None:
    """At 2x: a 0.9, b 0.8, and c, which starts at 4x, 0.85; at 4x: c 0.85, a 0.7, b 0.7; at 8x: c, b; a has none."""
    found = ranks(a={2: 0.9, 4: 0.7}, b={2: 0.8, 4: 0.7, 8: 0.1}, c={4: 0.85, 8: 0.5})
    assert found == {"a": pytest.approx((1 + 2.5 + 3) / 3), "b": pytest.approx(7.5 / 3), "c": pytest.approx(4 / 3)}


curves = st.dictionaries(st.sampled_from(TARGETS), st.floats(0, 1), min_size=1)


@given(curves, curves, st.lists(curves, max_size=4))
def test_ranks_are_those_of_scipy_and_none_gains_by_reaching_less(
    more: dict[int, float], extra: dict[int, float], others: list[dict[int, float]]
) -> None:
    less = {target: top1 for target, top1 in more.items() if target < max(more)} or more
    families = {"more": more, "less": less, **{f"other {n}": by for n, by in enumerate([extra, *others])}}
    found = ranks(**families)
    targets = sorted({target for by in families.values() for target in by})
    assert found["more"] <= found["less"] + 1e-9
    rows = [[max([-by[t] for t in [min([t for t in by if t >= target])]]) if any(t >= target for t in by) else 1.0
             for target in targets] for by in families.values()]  # fmt: skip
    expected = scipy.stats.rankdata(rows, axis=0).mean(1)
    assert list(found.values()) == pytest.approx(list(expected))


def test_rows_are_in_the_order_of_the_ranks() -> None:
    """`late` starts at 4x; the sum of top-1 over the columns would put it last."""
    points = [("a", 2, 0.9), ("a", 4, 0.8), ("b", 2, 0.92), ("b", 4, 0.85), ("late", 4, 0.93)]
    (table,) = tables(*(record(*point) for point in points))
    assert list(table.cells) == ["late", "b", "a"] and table.cells["late"][0] is None


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
