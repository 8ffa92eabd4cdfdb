"""`bench check`: its exit codes, its options, the files it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.gate.expected import Measured, read_store, write_baseline
from bench.records.record import Record
from bench.records.store import Store, write_record

from .gate_trials import dense, timed, trial

Say = Callable[..., Any]


def keep(store: Store, one: Measured, started: str = "2026-01-01T00:00:00+00:00") -> None:
    """Write a trial as `bench run` does."""
    same = {name: getattr(one, name) for name in Record.__dataclass_fields__ if hasattr(one, name)}
    fingerprint = f"{abs(hash((one.setting, one.seed, one.device, started))):016x}"[:16]
    config = {"stages": one.stages, "sources": one.sources, **one.conditions}
    record = Record(**same, fingerprint=fingerprint, method="x", started_at=started, config=config)
    with store.prepare(fingerprint) as folder:
        write_record(record, folder)
        if one.offsets is not None:
            labels = np.zeros_like(one.offsets)
            save_file(
                {"predictions": one.offsets, "labels": labels, "dense": labels}, folder / "predictions.safetensors"
            )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    for one in (dense(), trial(wrong=range(1))):
        keep(store, one)
    return store


@pytest.fixture
def words(store: Store, tmp_path: Path) -> list[str]:
    """A command that finds no difference."""
    write_baseline(tmp_path / "b.json", read_store(store.root))
    return ["check", str(tmp_path / "b.json"), "--store", str(store.root)]


def test_a_store_is_read_with_its_predictions(store: Store) -> None:
    found = {one.setting: one for one in read_store(store.root)}
    assert found.keys() == {"none", "tic(k=64)"}
    for expected in (dense(), trial(wrong=range(1))):
        one = found[expected.setting]
        assert expected.conditions.items() <= one.conditions.items()
        assert replace(one, conditions=expected.conditions) == expected


def test_of_a_trial_measured_twice_the_last_counts(store: Store) -> None:
    keep(store, trial(macs=1, sources=["new"]), "2026-01-02T00:00:00+00:00")
    assert {one.macs for one in read_store(store.root) if one.setting == "tic(k=64)"} == {1}


def test_trials_of_a_search_are_no_results(store: Store) -> None:
    before = read_store(store.root)
    keep(store, trial("kse(G=4)", dataset="held-out:fashion-mnist"), "2026-01-02T00:00:00+00:00")
    assert read_store(store.root) == before


def test_exit_codes(words: list[str], store: Store, bench_command: Say) -> None:
    same = bench_command(*words)
    assert (same.code, same.err) == (0, "") and "no regression: 2 settings, all the same" in same.out
    keep(store, trial("new(x=1)"), "2026-01-02T00:00:00+00:00")
    new = bench_command(*words)
    assert new.code == 0 and "+ new(x=1) on resnet20 on fashion-mnist: new" in new.out and "--update" in new.err
    keep(store, trial(wrong=range(1), artifact_bytes=100_001), "2026-01-02T00:00:00+00:00")
    worse = bench_command(*words)
    assert worse.code == 1 and "artifact bytes 100,000 → 100,001 (+1)" in worse.out
    assert worse.out.splitlines()[-1] == "regression: 3 settings, 1 worse, 1 new"


def test_figures_that_the_predictions_belie_are_refused(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, trial(wrong=range(1), top1=0.5), "2026-01-02T00:00:00+00:00")
    assert "top-1 is 0.5 in record.json, 0.995 by predictions.safetensors" in bench_command(*words).mistake


def test_predictions_that_are_no_longer_kept(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, trial(wrong=range(1), kept=False), "2026-01-02T00:00:00+00:00")
    said = bench_command(*words)
    assert said.code == 1 and "predictions were kept before, and are no longer" in said.out


def test_what_another_machine_leaves_uncompared_is_in_the_verdict(
    words: list[str], store: Store, bench_command: Say
) -> None:
    for one in (dense(device="cpu: Two"), trial(wrong=range(1), device="cpu: Two")):
        keep(store, one, "2026-01-02T00:00:00+00:00")
    verdict = bench_command(*words).out.splitlines()[-1]
    assert verdict == "no regression: 2 settings, all the same, outputs not compared in 2, latency not compared in 2"


def test_options_reach_the_verdict(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, timed(0.85, 0.01, wrong=range(1, 6), loss=0.3), "2026-01-02T00:00:00+00:00")
    lenient = ("--tolerance", "3", "--slowdown", "20", "--no-exact")
    assert bench_command(*words, *lenient).code == 0
    for given, figure in ((lenient[2:], "top-1 99.50"), (lenient[:2] + lenient[4:], "latency"), (lenient[:4], "other")):
        said = bench_command(*words, *given)
        assert said.code == (0 if figure.startswith("top-1") else 1), figure
    keep(store, timed(0.85, 0.01, wrong=range(1, 10), loss=0.3), "2026-01-03T00:00:00+00:00")
    assert bench_command(*words, "--tolerance", "5", *lenient[2:]).code == 0
    assert "✗ tic(k=64) on resnet20 on fashion-mnist: top-1" in bench_command(*words, *lenient[2:]).out


def test_files_for_a_pull_request_and_a_server(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    said = bench_command(*words, "--markdown", tmp_path / "deep" / "gate.md", "--junit", tmp_path / "gate.xml")
    assert said.code == 0
    assert (tmp_path / "deep" / "gate.md").read_text().startswith("### ✅ Compression gate: no regression: 2 settings")
    assert ElementTree.parse(tmp_path / "gate.xml").getroot().tag == "testsuites"


def test_update_writes_a_baseline_and_says_what_changed(
    words: list[str], store: Store, bench_command: Say, tmp_path: Path
) -> None:
    first = bench_command("check", tmp_path / "new" / "b.json", "--store", store.root, "--update")
    assert (first.code, first.out) == (0, "") and first.err.endswith(
        f"written from the records of {store.root}; commit it\n"
    )
    assert (tmp_path / "new" / "b.json").read_bytes() == Path(words[1]).read_bytes()
    keep(store, trial(wrong=range(1), macs=50_000_000), "2026-01-02T00:00:00+00:00")
    assert bench_command(*words).code == 1
    accepted = bench_command(*words, "--update")
    assert accepted.code == 0 and "MACs 40,000,000 → 50,000,000 (+10,000,000)" in accepted.out
    assert bench_command(*words).code == 0


def test_a_failed_trial_is_no_baseline(words: list[str], store: Store, bench_command: Say) -> None:
    before = Path(words[1]).read_bytes()
    keep(store, trial(status="failed", top1=None, loss=None, error="no luck", kept=False), "2026-01-02T00:00:00+00:00")
    assert bench_command(*words, "--update").mistake == "tic(k=64), seed 0, failed and cannot be a baseline: no luck"
    assert Path(words[1]).read_bytes() == before
    assert bench_command(*words).code == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such baseline; --update writes one from the store's records"),
        ("{", "not a baseline (Expecting property name"),
        ("[1]", "not a baseline of this version; delete it and write it again"),
        ('{"format": "cnn-compression-bench baseline 9"}', "not a baseline of this version"),
        ('{"format": "cnn-compression-bench baseline 1", "trials": []}', "a baseline without trials"),
        ('{"format": "cnn-compression-bench baseline 1", "trials": [{}]}', "not a whole baseline (trials.0.setting: "),
    ],
)
def test_a_baseline_that_will_not_do_is_told(
    content: str | None, told: str, store: Store, bench_command: Say, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"
    if content is not None:
        path.write_text(content)
    assert bench_command("check", path, "--store", store.root).mistake.startswith(f"{path}: {told}")
    if content is not None:
        assert bench_command("check", path, "--store", store.root, "--update").code == 2, "nobody's file is overwritten"
        assert path.read_text() == content


@pytest.mark.parametrize("value", ["NaN", "null", '"much"'])
def test_a_damaged_figure_is_told(value: str, words: list[str], bench_command: Say) -> None:
    path = Path(words[1])
    path.write_text(path.read_text().replace('"top1": 0.9,', f'"top1": {value},'))
    assert "top" in bench_command(*words).mistake


def test_a_store_of_other_trials_is_told(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    shutil.copytree(words[-1], tmp_path / "other")
    for path in (tmp_path / "other").rglob("record.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"budget_epochs": 7.0}))
    said = bench_command("check", words[1], "--store", tmp_path / "other")
    assert said.code == 1 and "--update" not in said.err
    assert f"No trial of {words[1]} is in {tmp_path / 'other'}: other models" in said.err


def test_other_mistakes_of_the_command(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = bench_command(*words, "--store", tmp_path / "empty").mistake
    assert told == f"--store {tmp_path / 'empty'}: holds no records; `bench run` makes some"
    for more in ((), ("--update",)):
        told = bench_command("check", tmp_path / "empty", "--store", tmp_path / "runs", *more).mistake
        assert told.startswith(
            f"{tmp_path / 'empty'}: a folder; expected a JSON file, such as results/ci-baseline.json"
        )
    for option, place, told in (
        ("--markdown", words[1], "that is the baseline; choose another file"),
        ("--junit", tmp_path, "a folder; expected a file"),
    ):
        assert bench_command(*words, option, place).mistake == f"{option} {place}: {told}"
    twice = (*words, "--markdown", tmp_path / "a", "--junit", tmp_path / "a")
    assert bench_command(*twice).mistake == f"--junit {tmp_path / 'a'}: that is --markdown's; choose another file"
    assert bench_command(*words, "--tolerance", "-1").mistake == "--tolerance -1: expected a number from 0 to 100"
    assert bench_command(*words, "--slowdown", "nan").mistake == "--slowdown nan: expected a number from 0"
    broken = next((tmp_path / "runs").glob("records/*/predictions.safetensors"))
    broken.write_bytes(b"no")
    assert bench_command(*words).mistake.startswith(f"{broken}: not predictions (")


def test_a_protocol_of_its_own_is_a_mistake(words: list[str], store: Store, bench_command: Say) -> None:
    keep(store, trial(conditions={"protocol": 2}), "2026-01-02T00:00:00+00:00")
    assert "measured by another protocol" in bench_command(*words).mistake


def test_the_gate_needs_no_torch(words: list[str]) -> None:
    code = f"""
import atexit, sys
atexit.register(lambda: print(*sorted({{"torch", "timm", "mlflow"}} & set(sys.modules)), file=sys.stderr))
sys.argv = ["bench", *{words!r}]
from bench.cli.commands import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert ended.stderr.split() == []
    assert json.loads(Path(words[1]).read_text())["format"].endswith("baseline 1")
