"""Records on held-out images show how a search chose. They are no results, and are shown where they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pandas import DataFrame

from bench.leaderboard.finding import find
from bench.leaderboard.grouping import without_searches
from bench.leaderboard.summary import frame_of
from bench.records.record import Record
from bench.records.store import Store, write_record
from bench.reproducing.beside import compare
from bench.reproducing.published import papers
from bench.system.errors import BenchError
from tests.search_curves import record

FOUND = replace(record("kse(G=4)", top1=0.9), fingerprint="a" * 16)
SEARCHED = replace(record("kse(G=4)", top1=0.8), fingerprint="b" * 16, dataset="held-out:d")


def kept(records: DataFrame) -> list[str]:
    return list(records["fingerprint"])


@pytest.mark.parametrize(
    ("records", "asked", "left"),
    [
        ([FOUND, SEARCHED], [], [FOUND]),
        ([FOUND, SEARCHED], ["d"], [FOUND]),
        ([FOUND, SEARCHED], ["held-out:d"], [FOUND, SEARCHED]),
        ([SEARCHED], [], [SEARCHED]),
        ([FOUND], [], [FOUND]),
        ([], [], []),
    ],
)
def test_they_stay_where_they_are_asked_for_or_alone(
    records: list[Record], asked: list[str], left: list[Record]
) -> None:
    assert kept(without_searches(frame_of(records), asked)) == [each.fingerprint for each in left]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for each in (FOUND, SEARCHED):
        with Store(tmp_path).prepare(each.fingerprint) as folder:
            write_record(each, folder)
    return tmp_path


def test_a_setting_means_its_result_and_a_fingerprint_any_record(store: Path) -> None:
    for text, chosen, meant in (
        ("kse(G=4)", {}, FOUND),
        ("kse(G=4)", {"dataset": "held-out:d"}, SEARCHED),
        (SEARCHED.fingerprint, {}, SEARCHED),
    ):
        (found,), _ = find([text], store, chosen)
        assert kept(found.records) == [meant.fingerprint]
    with pytest.raises(BenchError, match="no such record"):
        find(["kse(G=4)"], store, {"dataset": "other"})


def test_papers_are_compared_with_results_alone() -> None:
    results = papers()["kse"].results
    assert results is not None
    assert {each.ours for each in compare(results, [FOUND, SEARCHED]) if each.figure == "top1"} == {90.0}
