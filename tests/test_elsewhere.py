"""Trials that another machine settles: what it gets, what it must have, and what its records count for. No cluster."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.cli import engines
from bench.cli.usage_errors import completed
from bench.plugins.setting import parse
from bench.records.parcels import packed, unpacked
from bench.records.store import Store, StoreError
from bench.system import progress
from bench.system.errors import BadArgument
from bench.trials import kinds, remote, trial
from bench.trials.cluster_address import named
from bench.trials.kinds import Kind
from bench.trials.lent import Lent
from bench.trials.plan import Opener, Plan
from bench.trials.remote import Home, Needs, Returned, work
from bench.trials.run import run
from bench.trials.task import Task
from bench.trials.units import Settled, Unit

OTHER = Kind("cpu: another processor (1 thread)", "float32")
NETWORK = """
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, num_classes, in_chans=3):
        super().__init__(nn.Conv2d(in_chans, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


@dataclass
class Elsewhere:
    """Settles units in this process, as a machine with another processor and an empty cache does."""

    monkeypatch: pytest.MonkeyPatch
    cache: Path
    there: Sequence[Kind] = (OTHER,)
    change: Callable[[Unit], Unit] = lambda unit: unit
    returned: list[Returned] = field(default_factory=list)

    def prepare(self, plans: Sequence[Plan]) -> Sequence[Kind]:
        return self.there

    def lend(self, task: Task) -> Lent | None:
        return Lent.of(task)

    def settle(self, units: Sequence[Unit], store: Store) -> Generator[tuple[Unit, Settled]]:
        for unit in units:
            known = {each: packed(store, each) for each in unit.recorded}
            with self.monkeypatch.context() as changed:
                changed.setenv("BENCH_CACHE", str(self.cache))
                changed.setattr(progress, "_display", None)
                changed.setattr(remote, "_opener", Opener(train=False))
                for module in (kinds, trial):
                    changed.setattr(module, "describe_device", lambda device: OTHER.device)
                returned = work(self.change(unit), unit.lent, known, store.root, lambda kind, text: None)
            self.returned.append(returned)
            assert all(unpacked(parcel, each, store) for each, parcel in returned.parcels.items())
            yield unit, returned.settled


@pytest.fixture
def plan(image_folder: Path, tmp_path: Path, quick_timing: None) -> Plan:
    (tmp_path / "nets.py").write_text(NETWORK)
    return Plan(
        settings=parse("none,random(rate=0.3)"),
        models=[f"{tmp_path / 'nets.py'}:Tiny"],
        dataset=f"folder:{image_folder}",
        epochs=0,
        seeds=(0, 1),
    )


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Elsewhere:
    return Elsewhere(monkeypatch, tmp_path / "an empty cache")


def test_what_another_kind_of_machine_measured_is_recorded_for_its_device_and_not_run_again(
    plan: Plan, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    first = run(plan, store, engine=elsewhere)
    assert [(record.setting, record.seed) for record in first.records] == [
        ("none", 0), ("random(rate=0.3)", 0), ("random(rate=0.3)", 1),
    ]  # fmt: skip
    assert {record.device for record in store.records()} == {OTHER.device} and not first.problems
    assert all(not store.missing_files(record) for record in first.records)
    assert {record.weights for record in first.records} != {"scratch"}, "a baseline that was trained here, and lent"
    assert not (elsewhere.cache / "baselines").exists()
    again = run(plan, store, engine=elsewhere)
    assert again.reused == 3 and again.records == first.records and len(elsewhere.returned) == 3
    here = run(replace(plan, seeds=(0,)), store)
    assert here.reused == 0 and len(store.records()) == 5, "this machine is another one"
    assert here.records[0].top1 == first.records[0].top1


def test_the_fingerprint_of_a_trial_on_its_own_kind_of_machine_is_its_own(plan: Plan) -> None:
    (part,) = Opener().open([plan])
    for each in part.trials:
        assert each.fingerprint_on(Kind.of(each.device)) == each.fingerprint != each.fingerprint_on(OTHER)


def test_a_trial_in_torch_that_is_recorded_goes_with_its_unit(plan: Plan, elsewhere: Elsewhere, tmp_path: Path) -> None:
    store, plan = Store(tmp_path / "runs"), replace(plan, settings=parse("none"), seeds=(0,))
    run(plan, store, engine=elsewhere)
    (before,) = store.records()
    both = run(replace(plan, runtimes=("torch", "onnxruntime")), store, engine=elsewhere)
    assert [record.runtime for record in both.records] == ["torch", "onnxruntime"] and both.records[0] == before
    assert set(elsewhere.returned[-1].parcels) == {record.fingerprint for record in both.records}


def test_other_code_or_data_there_is_a_fault_that_says_what_differs(
    plan: Plan, elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[Unit] = []
    elsewhere.change = lambda unit: units.append(unit) or unit  # type: ignore[func-returns-value]
    run(replace(plan, settings=parse("none"), seeds=(0,)), Store(tmp_path / "runs"), engine=elsewhere)
    other = dict(units[0].identity) | {"sources": ["0"], "dataset_digest": "0", "device": "another"}
    monkeypatch.setattr(progress, "_display", None)
    returned = work(replace(units[0], identity=other), units[0].lent, {}, tmp_path, lambda kind, text: None)
    assert returned.fault.endswith("none, seed 0: the images, the code of its methods not as where the run was started")
    assert not returned.parcels


def test_what_a_machine_lacks_is_listed(plan: Plan, tmp_path: Path) -> None:
    needs = Needs.of([plan])
    assert needs.lacking() == []
    assert [name for name, _ in needs.methods] == ["none", "random"] and needs.datasets == ("folder",)
    assert set(needs.paths) == {plan.dataset.removeprefix("folder:"), str(tmp_path / "nets.py")}
    (tmp_path / "nets.py").unlink()
    other = replace(needs, methods=(("none", "0"), ("mine", "1")), datasets=("folder", "theirs"))
    assert other.lacking() == [
        "there is no method 'mine'", "none has other code", "there is no dataset 'theirs'",
        f"there is no {tmp_path / 'nets.py'}",
    ]  # fmt: skip


def test_a_process_there_is_like_the_one_that_started_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", None)
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.delenv("BENCH_CACHE")
    (tmp_path / "work").mkdir()
    Home(str(tmp_path / "work"), "cache", 3).enter(2)
    assert Path.cwd() == tmp_path / "work" and threads == [2]
    Home(str(tmp_path / "no such folder"), "another", 3).enter(3)
    assert Path.cwd() == tmp_path / "work" and os.environ["BENCH_CACHE"] == "cache", "what is set there stays"
    monkeypatch.delenv("BENCH_CACHE")


RECORDED = Store(Path(__file__).parents[1] / "results" / "fashion-mnist")


def test_a_parcel_holds_a_record_with_all_its_files(tmp_path: Path) -> None:
    fingerprint = RECORDED.records()[0].fingerprint
    parcel, store = packed(RECORDED, fingerprint), Store(tmp_path)
    with store.claim(fingerprint):
        assert not unpacked(parcel, fingerprint, store) and not store.records()
    assert unpacked(parcel, fingerprint, store) and packed(store, fingerprint) == parcel
    assert unpacked(dict(parcel) | {"record.json": b"{}"}, fingerprint, store), "what was measured meanwhile stays"
    assert packed(store, fingerprint) == parcel
    shutil.rmtree(store.folder(fingerprint))
    for odd in ({"../record.json": b""}, {"a\\b": b""}, {"..": b""}):
        with pytest.raises(StoreError, match="no name of a file"):
            unpacked(dict(parcel) | odd, fingerprint, store)
    with pytest.raises(StoreError):
        unpacked(dict(parcel) | {"record.json": b"{}"}, fingerprint, store)
    assert not store.records() and not list((tmp_path / ".partial").glob("*@*"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run --ray --methods tic", "run --ray=auto --methods tic"),
        ("run --methods tic --ray", "run --methods tic --ray=auto"),
        ("run --ray host:6379 --methods tic", "run --ray host:6379 --methods tic"),
        ("run --methods tic", "run --methods tic"),
        ("", ""),
    ],
)
def test_ray_needs_no_address(words: str, expected: str) -> None:
    assert completed(words.split()) == expected.split()


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert named("auto") is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = f"127.0.0.1:{server.getsockname()[1]}"
        assert named(there) == there
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"{there}\n")
        assert named("auto") == there
        monkeypatch.setenv("RAY_ADDRESS", there)
        assert named("auto") == there
    with pytest.raises(BadArgument, match=f"ray='{there}': .*; expected HOST:PORT"):
        named("auto")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert named("auto") is None, "a cluster that has ended is not waited for"
    for wrong in ("host", "ray://host:10001", ":6379", "host:port", "127.0.0.1:99999"):
        with pytest.raises(BadArgument, match="expected HOST:PORT"):
            named(wrong)


def test_without_ray_and_beside_jobs_one_line_says_what_to_do(
    bench_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "--methods", "none", "--ray")
    assert bench_command(*words, "--jobs", "2").mistake == (
        "--jobs 2 with --ray: Ray runs as many trials as there is room for; use one of the two"
    )
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert bench_command(*words).mistake.startswith("--ray auto: Ray is not installed; it is the extra [ray]")
