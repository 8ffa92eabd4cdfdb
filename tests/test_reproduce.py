"""`bench reproduce`: published figures beside counted and measured ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.records.record import FIGURES, Record
from bench.records.store import Store, write_record
from bench.reproducing.beside import compare, missing
from bench.reproducing.counting import agrees, count
from bench.reproducing.published import COUNTED, Paper, Results, papers
from bench.reproducing.report import suite
from bench.trials.suite import load_suite
from tests.conftest import Said
from tests.search_curves import record

Command = Callable[..., Said]
PAPERS = ("dynamic", "filter-clustering", "kse", "l1", "taylor", "tic")


def test_every_paper_is_described() -> None:
    assert tuple(papers()) == PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_descriptions_name_settings_that_exist_and_figures_of_records(name: str) -> None:
    paper = papers()[name]
    rows = [*paper.counts, *(paper.results.complete if paper.results else [])]
    assert rows
    for row in rows:
        assert str(row.pipeline) and set(row.published) <= FIGURES.keys()
    assert all(set(row.published) <= set(COUNTED) for row in paper.counts)


@pytest.mark.parametrize(
    ("published", "ours", "same"),
    [
        ("1.12e8", 112_435_840, True),
        ("7.3e5", 735_712, True),  # cut off
        ("2.13e8", 212_779_648, True),  # rounded
        ("1.13e8", 112_435_840, False),
        ("11.98", 11.9842, True),
        ("12.00", 11.9951, True),
        ("12.00", 11.98, False),
        ("853018", 853_018, True),
    ],
)
def test_numbers_agree_to_the_digits_that_were_printed(published: str, ours: float, same: bool) -> None:
    assert agrees(published, ours) == same


@pytest.mark.parametrize("row", papers()["l1"].counts, ids=lambda row: row.row)
def test_the_networks_of_the_l1_paper_come_out(row: Any) -> None:
    assert [each.figure for each in count(row) if not each.matches] == []


def test_a_ratio_of_the_tic_paper_comes_out() -> None:
    (row,) = (row for row in papers()["tic"].counts if row.model == "resnet56")
    (counted,) = count(row)
    assert counted.matches and counted.published == "12.31"


def measured(**changes: Any) -> Record:
    figures = {
        "setting": "l1(rate=0.1, skip=(16, 20, 38, 54))",
        "top1": 0.929,
        "top1_dense": None,
        "recalibrate": True,
    } | changes
    found = record(figures.pop("setting"))
    for name, value in ({"model": "resnet56", "dataset": "cifar10", "weights": "resnet56-cifar10"} | figures).items():
        setattr(found, name, value)
    return found


RESULTS = papers()["l1"].results


def test_measured_figures_stand_beside_published_ones() -> None:
    assert isinstance(RESULTS, Results)
    records = [measured(seed=0, budget_epochs=40), measured(seed=1, top1=0.931, budget_epochs=40)]
    (found,) = compare(RESULTS, records)
    assert (found.row, found.published, found.ours, found.seeds) == ("ResNet-56-A", "93.10", pytest.approx(93.0), 2)
    assert found.difference == pytest.approx(-0.1)
    assert [text.split()[0] for text in found.differs] == ["weights", "metric:"]
    assert "ResNet-56-A" not in {row.row for row in missing(RESULTS, [found])}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "resnet20"}, "network resnet20, theirs resnet56"),
        ({"dataset": "fashion-mnist"}, "dataset fashion-mnist, theirs cifar10"),
        ({"budget_epochs": 0.1}, "budget 0.1 epochs, theirs 40"),
        ({"recalibrate": False}, "statistics not re-estimated"),
    ],
)
def test_what_was_measured_otherwise_is_said(changes: dict[str, Any], told: str) -> None:
    assert isinstance(RESULTS, Results)
    (found,) = compare(RESULTS, [measured(**changes)])
    assert told in found.differs
    lacks = "ResNet-56-A" in {row.row for row in missing(RESULTS, [found])}
    assert lacks == bool({"model", "dataset"} & changes.keys())


def test_failed_trials_are_no_results() -> None:
    assert isinstance(RESULTS, Results)
    assert not list(compare(RESULTS, [measured(status="failed", top1=None)]))


@pytest.mark.parametrize("name", PAPERS)
def test_the_suite_of_a_paper_can_be_run(name: str, tmp_path: Path) -> None:
    paper: Paper = papers()[name]
    assert paper.results is not None
    (tmp_path / "suite.yaml").write_text(suite(paper.results, paper.title, 3))
    plans = load_suite(tmp_path / "suite.yaml", device=torch.device("cpu"))
    asked = {str(setting) for plan in plans for setting in plan.settings}
    assert asked == {str(row.pipeline) for row in paper.results.rows} | {"none"}
    assert all(plan.recalibrate == paper.results.recalibrate and len(plan.seeds) == 3 for plan in plans)


def test_the_command_lists_what_is_there_and_what_is_missing(bench_command: Command, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.prepare("0" * 16) as folder:
        write_record(measured(setting="kse(G=4)"), folder)
    said = bench_command("reproduce", "kse", "--store", store.root, "--suite", tmp_path / "kse.yaml")
    assert said.code == 0, said.err
    assert "93.23" in said.out and "-0.33" in said.out
    assert "needs resnet56 on cifar10, 200 epochs" in " ".join(said.out.split())
    assert (tmp_path / "kse.yaml").is_file() and "bench run --suite" in said.err


def test_an_unknown_paper_is_one_line(bench_command: Command) -> None:
    assert bench_command("reproduce", "ksee").mistake.startswith("'ksee': there is no such paper; did you mean 'kse'?")
