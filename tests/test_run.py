"""`bench run` from end to end, on images drawn here and a network nobody trained."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import bench
from bench.execution.choice import smallest
from bench.execution.executable import Execution, execute
from bench.measuring import latency, rounds
from bench.plugins import setting
from bench.plugins.method import Method
from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.tracking import tracking_uri
from bench.training.lab import Lab
from bench.trials import run as harness
from bench.trials import trial
from bench.trials.plan import Plan
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial

FIELDS = """
fingerprint status error method setting model dataset weights seed budget_epochs epochs_spent device top1 top5 loss
top1_dense top1_drop agreement compression_ratio formula_ratio kernel_ratio artifact_bytes dense_bytes params
params_dense macs macs_dense macs_ratio latency_ms_p50 latency_ms_p90 latency_ms_p99 latency_dense_ms_p50
latency_speedup throughput_ips peak_memory_mb compress_seconds fit_seconds robust_top1 attack_success_rate
prediction_change_rate started_at duration_seconds versions
""".split()
NOT_MEASURED = {"error", "robust_top1", "attack_success_rate", "prediction_change_rate", "peak_memory_mb"}

METHODS = "tic(k=4),l1"

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


@pytest.fixture(scope="module")
def plan(image_folder: Path) -> Plan:
    return Plan(
        settings=parse(f"none,{METHODS}"),
        models=["resnet20"],
        dataset=f"folder:{image_folder}",
        weights="scratch",
        epochs=1,
        command="bench run",
    )


@pytest.fixture(scope="module")
def finished(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the plan's records; tests that write take a copy."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(root / "cache"))
        patch.setattr(rounds, "ROUNDS", 1)
        patch.setattr(latency.Timing, "noise", [])
        harness.run(plan, Store(root / "runs"))
    return root / "runs"


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    shutil.copytree(finished, tmp_path / "runs")
    return Store(tmp_path / "runs")


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    """The command of `plan`, without its methods."""
    return f"""
        run --models resnet20 --weights scratch --dataset folder:{image_folder} --epochs 1 --no-tracking
        --store {tmp_path / "runs"} --methods
    """.split()


@dataclass(frozen=True, kw_only=True)
class Misbehaves(Method):
    name = "misbehaves"
    error: ClassVar[BaseException | None] = None
    tried: ClassVar[int] = 0

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        type(self).tried += 1
        if self.error:
            raise self.error
        return model


@pytest.fixture
def misbehave(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """There is a method `misbehaves`, which raises what is asked for here."""
    known = {**setting.methods(), "misbehaves": Misbehaves}
    monkeypatch.setattr(setting, "methods", lambda: known)
    monkeypatch.setattr(Misbehaves, "tried", 0)

    def ask(error: BaseException | None) -> None:
        monkeypatch.setattr(Misbehaves, "error", error)

    return ask


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The settings that are really run, as they come."""
    found: list[str] = []

    def run_trial(trial: Any, *rest: Any) -> Record:
        found.append(str(trial.setting))
        return run(trial, *rest)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", run_trial)
    return found


def by_method(store: Path | Store) -> dict[str, Record]:
    return {record.method: record for record in Store(store if isinstance(store, Path) else store.root).records()}


def test_a_record_has_every_field_and_files_beside_it(finished: Path) -> None:
    records = sorted(finished.glob("records/*/record.json"))
    assert len(records) == 3 and not list(finished.glob(".partial/*"))
    for path in records:
        record = json.loads(path.read_text())
        assert set(FIELDS) <= record.keys()
        # The ratio of encoded kernels is of networks that have some.
        missing = NOT_MEASURED if record["method"] == "tic" else NOT_MEASURED | {"kernel_ratio"}
        assert {name for name in FIELDS if record[name] is None} == missing
        assert (record["status"], record["fingerprint"], record["seed"]) == ("ok", path.parent.name, 0)
        assert (record["model"], record["dataset"], record["weights"]) == ("resnet20", "ramps", "scratch")
        names = sorted(file.name for file in path.parent.iterdir())
        pictures = ["centroids.png", "use.png"] if record["method"] == "tic" else []
        files = ["classes.csv", "layers.csv", "timings.csv", "model.safetensors", "predictions.safetensors"]
        assert names == sorted([*pictures, *files, "record.json"])


def test_figures_agree_with_each_other_and_with_the_files(finished: Path, tmp_path: Path) -> None:
    records = by_method(finished)
    dense = bench.load(finished / "records" / records["none"].fingerprint / "model.safetensors")
    save_file(dense.state_dict(), tmp_path / "dense.safetensors")
    for record in records.values():
        folder = finished / "records" / record.fingerprint
        assert record.artifact_bytes == (folder / "model.safetensors").stat().st_size
        assert record.dense_bytes == (tmp_path / "dense.safetensors").stat().st_size
        assert record.compression_ratio == record.dense_bytes / record.artifact_bytes
        assert record.macs_ratio == record.macs_dense / record.macs
        assert record.top1_drop == pytest.approx(record.top1_dense - record.top1)
        assert record.latency_speedup_low <= record.latency_speedup <= record.latency_speedup_high
        assert 0 < record.latency_ms_p50 <= record.latency_ms_p90 <= record.latency_ms_p99
        assert record.fit_seconds + record.compress_seconds < record.duration_seconds < 60
        rows = list(csv.DictReader((folder / "layers.csv").read_text().splitlines()))
        assert len(rows) == 20 and sum(int(row["macs_dense"]) for row in rows) == record.macs_dense
        weights = sum(int(row["params_dense"]) for row in rows if row["reached"] == "True")
        assert record.reachable_share == weights / record.params_dense
        assert all(row["executed"] and row["executed_batch"] for row in rows)
    assert len({record.top1_dense for record in records.values()}) == 1
    none, tic, pruned = (records[name] for name in ("none", "tic", "l1"))
    assert (none.macs_ratio, none.norm_statistics, none.recalibration_batches) == (1, "recalibrated", 1)
    assert none.epochs_spent == 1, "110 images are no two batches"
    assert {tic.norm_statistics, pruned.norm_statistics} == {"trained"} and tic.recalibration_batches == 0
    assert none.latency_speedup == none.latency_speedup_low == none.latency_speedup_high == none.throughput_speedup == 1
    assert none.latency_self_speedup_low < none.latency_self_speedup_high and tic.latency_speedup != 1
    assert none.params == none.params_dense == 269_267
    # No linear layer is clustered; of convolutions, those that write to the residual stream lose inputs, or nothing.
    assert (none.reachable_share, tic.reachable_share) == (0, 267_696 / 269_267)
    assert pruned.reachable_share == (267_696 - 16 * 27) / 269_267
    assert tic.compression_ratio > 10 and tic.epochs_spent == pruned.epochs_spent == 1
    assert pruned.params < none.params / 1.8 and pruned.macs_ratio > 1.8


def test_predictions_are_those_of_the_file_on_the_test_images(finished: Path, image_folder: Path) -> None:
    paths = sorted((image_folder / "test").glob("*/*.png"))
    pixels = torch.stack([torch.tensor(list(Image.open(path).tobytes())) for path in paths])
    labels = [["down", "flat", "up"].index(path.parent.name) for path in paths]
    for record in by_method(finished).values():
        folder = finished / "records" / record.fingerprint
        kept = load_file(folder / "predictions.safetensors")
        assert kept["labels"].tolist() == labels
        assert record.top1 == sum(a == b for a, b in zip(kept["predictions"].tolist(), labels, strict=True)) / 30
        assert record.top1_dense == sum(a == b for a, b in zip(kept["dense"].tolist(), labels, strict=True)) / 30
        assert record.agreement == (kept["predictions"] == kept["dense"]).double().mean().item()

        how = record.config["preprocessing"]
        mean, std = (torch.tensor(how[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        images = (pixels.view(30, 32, 32, 3).permute(0, 3, 1, 2) / 255 - mean) / std
        with torch.no_grad():
            logits = bench.load(folder / "model.safetensors")(images)
        assert torch.equal(logits.argmax(1).int(), kept["predictions"])
        assert record.loss == pytest.approx(nn.functional.cross_entropy(logits, torch.tensor(labels)).item(), rel=1e-4)


def test_a_record_says_how_to_run_it_again(finished: Path) -> None:
    record = by_method(finished)["tic"]
    assert record.config["stages"] == [{"method": "tic", "k": 4, "transforms": 8, "codebook": "network"}]
    assert record.config["recipe"]["lr"] > 0 and record.config["epochs"] == 1
    assert record.config["command"] == "bench run"
    repeat = shlex.split(record.config["repeat"])
    assert repeat[:4] == ["bench", "run", "--methods", "tic(k=4)"]
    assert dict(zip(repeat[2::2], repeat[3::2], strict=True)).items() >= {
        ("--models", "resnet20"), ("--weights", "scratch"), ("--epochs", "1"), ("--seeds", "1"), ("--device", "cpu")
    }  # fmt: skip
    assert repeat[repeat.index("--dataset") + 1].startswith("folder:/")
    assert len(record.config["weights_digest"]) == len(record.config["dataset_digest"]) == 16
    assert {"python", "torch", "timm", "cnn-compression-bench"} <= record.versions.keys()


def test_the_command_prints_a_board_with_the_dense_network_on_it(
    words: list[str], bench_command: Say, tmp_path: Path
) -> None:
    said = bench_command(*words, "random")
    assert said.code == 0 and said.err.endswith(f"\nrecords in {tmp_path / 'runs'}\n")
    assert "resnet20 on ramps, weights scratch, budget 1 epoch" in said.out
    dense, compressed = (line.split() for line in said.out.splitlines() if "dense  " in line or "random(" in line)
    records = by_method(tmp_path / "runs")
    assert f"{100 * records['none'].top1:.2f}" in dense and "1.00×" in dense
    assert f"{100 * records['random'].top1:.2f}" in compressed
    assert f"{records['random'].compression_ratio:.2f}×" in compressed
    assert records["random"].config["command"].startswith("bench run --models resnet20 --weights scratch")
    assert records["random"].config["command"].endswith("--methods random")


def test_what_is_recorded_is_not_run_again(
    words: list[str], store: Store, bench_command: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("run again")

    monkeypatch.setattr(harness, "run_trial", fail)
    before = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    first, again = (bench_command(*words, METHODS) for _ in range(2))
    assert first.code == 0 and first == again
    assert "3 of 3 trials were recorded before" in first.err
    assert all(f"{record.compression_ratio:.2f}×" in first.out for record in by_method(store).values())
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*.*")}.items() <= before.items()
    # Written otherwise, they are the same trials; another order is another table only.
    assert bench_command(*words, "l1(rate=0.50), none, tic( k = 4 ), tic(transforms=8, k=4)").out == first.out


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0.4},
        {"seeds": (1,)},
        {"weights": "FILE"},
        {"models": ["resnet32"]},
        {"dataset": "OTHER"},
        {"settings": parse("tic(k=3)")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_anything_that_changes_a_figure_makes_another_trial(
    change: dict[str, Any], plan: Plan, store: Store, tmp_path: Path, image_folder: Path
) -> None:
    ran: list[str] = []

    def runner(trial: Trial, ruler: Ruler, folder: Path, command: str) -> Record:
        ran.append(str(trial.setting))
        return trial.blank(command)

    plan = replace(plan, settings=parse("tic(k=4)"))
    assert harness.run(plan, store, runner=runner).reused == 1 and ran == []
    if "dataset" in change:
        shutil.copytree(image_folder, tmp_path / image_folder.name)
        Image.new("RGB", (32, 32)).save(tmp_path / image_folder.name / "test" / "up" / "0.png")
        change = {"dataset": f"folder:{tmp_path / image_folder.name}"}
    if "weights" in change:
        model = bench.load(store.folder(by_method(store)["none"].fingerprint) / "model.safetensors")
        next(model.parameters()).data[0] += 1
        save_file(model.state_dict(), tmp_path / "scratch.safetensors")
        change = {"weights": str(tmp_path / "scratch.safetensors")}
    assert harness.run(replace(plan, **change), store, runner=runner).reused == 0 and len(ran) == 1


def test_seeds_are_trials_of_their_own(plan: Plan, store: Store, ran: list[str]) -> None:
    outcome = harness.run(replace(plan, settings=parse("random(rate=0.9)"), seeds=(0, 1)), store)
    assert [record.seed for record in outcome.records] == [0, 1] and len(ran) == 2
    first, second = (load_file(store.folder(r.fingerprint) / "model.safetensors") for r in outcome.records)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_failing_method_is_a_failed_record_and_the_others_go_on(
    words: list[str], bench_command: Say, misbehave: Say, ran: list[str], tmp_path: Path
) -> None:
    misbehave(ZeroDivisionError("one line\nand another"))
    said = bench_command(*words, "misbehaves,l1(rate=0.9)")
    assert said.code == 1 and "Traceback" not in said.err
    records = by_method(tmp_path / "runs")
    assert {name: record.status for name, record in records.items()} == {
        "none": "ok", "misbehaves": "failed", "l1": "ok",
    }  # fmt: skip
    failed = records["misbehaves"]
    assert failed.error == "misbehaves: ZeroDivisionError: one line\nand another" and failed.top1 is None
    folder = tmp_path / "runs" / "records" / failed.fingerprint
    assert "raise self.error" in (folder / "traceback.txt").read_text()
    assert "failed: misbehaves, 1 of 1 seeds: misbehaves: ZeroDivisionError: one line and another" in said.out
    assert "l1(rate=0.9)" in said.out and "dense" in said.out

    ran.clear()
    misbehave(BenchError("a reason"))
    assert bench_command(*words, "misbehaves,l1(rate=0.9)").code == 2, "it refuses the network"
    assert ran == ["misbehaves"] and Misbehaves.tried == 2, "a failed trial is tried again, and only it"
    assert by_method(tmp_path / "runs")["misbehaves"].error == "misbehaves: a reason"

    misbehave(None)
    said = bench_command(*words, "misbehaves,l1(rate=0.9)")
    assert said.code == 0 and "failed" not in said.out
    assert by_method(tmp_path / "runs")["misbehaves"].status == "ok"
    assert not (folder / "traceback.txt").exists()


def test_a_setting_that_does_not_fit_the_network_is_a_mistake(words: list[str], bench_command: Say) -> None:
    said = bench_command(*words, "tic(k=9999999),l1(rate=0.9)")
    assert said.code == 2 and "l1(rate=0.9)" in said.out
    line = next(line for line in said.err.splitlines() if line.startswith("failed: "))
    assert "9999999" in line and "Traceback" not in said.err


def test_a_method_that_wants_a_larger_budget_is_told_the_option(
    words: list[str], bench_command: Say, misbehave: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    misbehave(None)
    monkeypatch.setattr(Misbehaves, "compress", lambda self, model, lab: lab.fit(model, 99))
    said = bench_command(*words, "misbehaves")
    assert said.code == 1 and "99 epochs wanted" in said.out
    assert "--epochs sets the budget of every method\n" in said.err
    assert "--epochs" not in bench_command(*words, "l1(rate=0.9)").err


def test_where_every_trial_fails_there_is_a_board_all_the_same(
    words: list[str], bench_command: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(trial, "_compress_and_measure", fail)
    said = bench_command(*words, "tic(k=4)")
    assert said.code == 1
    for name in ("none", "tic(k=4)"):
        assert f"failed: {name}, 1 of 1 seeds: RuntimeError: no luck" in said.out


def test_a_method_without_effect_is_noted(plan: Plan, store: Store, misbehave: Say) -> None:
    misbehave(None)
    (record,) = harness.run(replace(plan, settings=parse("misbehaves")), store).records
    estimated = "batch-norm statistics re-estimated from 1 training batch"
    assert record.status == "ok" and record.notes == [estimated, "misbehaves left resnet20 as large as it was"]
    assert by_method(store)["none"].notes == [estimated]


def test_a_network_that_says_no_numbers_is_a_failed_trial(
    plan: Plan, store: Store, misbehave: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: Misbehaves, model: nn.Module, lab: Lab) -> nn.Module:
        next(model.parameters()).data.fill_(math.nan)
        return model

    misbehave(None)
    monkeypatch.setattr(Misbehaves, "compress", spoil)
    failed, after = harness.run(replace(plan, settings=parse("misbehaves,l1(rate=0.9)")), store).records
    assert (failed.status, failed.error) == ("failed", "on the test images the loss is nan")
    assert after.status == "ok"


def test_a_file_that_holds_another_network_is_a_failed_trial(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, **options: Any) -> nn.Module:
        model = whole(path, **options)
        list(model.parameters())[-1].data[0] += 0.01
        return model

    whole = bench.load
    monkeypatch.setattr("bench.trials.ruler.artifact.load", load)
    (record,) = harness.run(replace(plan, settings=parse("l1(rate=0.9)")), store).records
    assert record.status == "failed" and "the artifact reloads to another network" in str(record.error)


def test_what_is_timed_is_the_executable_form_and_the_table_says_so(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def time_beside(model: nn.Module, *rest: Any) -> latency.Timing:
        timed.append(model)
        return latency.time_beside(model, *rest)

    monkeypatch.setattr("bench.trials.ruler.execute", lambda model, images: execute(model, images, smallest))
    monkeypatch.setattr("bench.trials.ruler.time_beside", time_beside)
    (record,) = harness.run(replace(plan, settings=parse("fixed(keep=0.25)")), store).records
    assert record.status == "ok" and record.latency_speedup != 1
    with (store.folder(record.fingerprint) / "layers.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {row["executed"] for row in rows.values()} == {f"{n} filters + gather" for n in (4, 8, 16)} | {"dense"}
    assert rows["layer3.0.conv1"]["executed_batch"] == "16 filters + gather" and rows["fc"]["executed"] == "dense"
    assert len(timed) == 2 and all(
        model.get_submodule("layer3.0.conv1.layer").weight.shape == (16, 32, 3, 3) for model in timed
    )


def test_a_form_that_computes_something_else_is_a_failed_trial(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: nn.Module, images: Tensor) -> Execution:
        found = execute(model, images, smallest)
        list(found.network.parameters())[-1].data[0] += 0.01
        return found

    monkeypatch.setattr("bench.trials.ruler.execute", spoilt)
    (record,) = harness.run(replace(plan, settings=parse("fixed(keep=0.25)")), store).records
    assert record.status == "failed" and "the executable form computes something else" in str(record.error)


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    words: list[str], bench_command: Say, misbehave: Say, ran: list[str], tmp_path: Path
) -> None:
    misbehave(KeyboardInterrupt())
    said = bench_command(*words, "misbehaves,l1(rate=0.9)")
    assert said.code == 130 and said.out == ""
    assert said.err.splitlines()[-1].startswith("bench: interrupted; ") and "Traceback" not in said.err
    assert by_method(tmp_path / "runs").keys() == {"none"}
    assert list((tmp_path / "runs" / ".partial").iterdir()) == []

    ran.clear()
    misbehave(None)
    assert bench_command(*words, "misbehaves,l1(rate=0.9)").code == 0
    assert ran == ["misbehaves", "l1(rate=0.9)"]


def test_runs_on_one_store_share_the_work(
    plan: Plan, store: Store, finished: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = by_method(store)
    tic, l1 = known["tic"].fingerprint, known["l1"].fingerprint
    shutil.rmtree(store.folder(tic))
    shutil.rmtree(store.folder(l1))
    other = store.claim(tic)

    def run_trial(*arguments: Any) -> Record:
        shutil.copytree(Store(finished).folder(tic), store.folder(tic))
        other.__exit__(None, None, None)
        return run(*arguments)

    run = harness.run_trial
    monkeypatch.setattr(harness, "run_trial", run_trial)
    assert other.__enter__()
    outcome = harness.run(plan, store)
    assert ran == ["l1(rate=0.5)"], "the other run does the other trial"
    assert [record.method for record in outcome.records] == ["none", "tic", "l1"] and outcome.reused == 1


KILLED = """
import os, signal, sys
from bench.cli import commands as cli
from bench.measuring import rounds
from bench.trials import run

def run_trial(trial, ruler, folder, command):
    if trial.setting.name != "l1":
        return finish(trial, ruler, folder, command)
    (folder / "model.safetensors").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)

finish, run.run_trial, rounds.ROUNDS = run.run_trial, run_trial, 1
cli.main()
"""


def test_a_killed_run_leaves_whole_records_and_is_tidied_up_after(
    words: list[str], bench_command: Say, ran: list[str], tmp_path: Path
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, *words, METHODS], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = Store(tmp_path / "runs")
    assert by_method(store).keys() == {"none", "tic"} and len(list(store.root.glob(".partial/*/"))) == 1
    assert bench_command(*words, METHODS).code == 0
    assert ran == ["l1(rate=0.5)"] and list(store.root.glob(".partial/*")) == []
    assert len(store.records()) == 3


def test_a_disk_that_fills_up_ends_the_run_with_one_line(
    words: list[str], bench_command: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = Path.write_bytes

    def fill(path: Path, content: bytes) -> int:
        if path.name == "model.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    said = bench_command(*words, "l1")
    assert said.code == 2 and "Traceback" not in said.err
    told = f"bench: store {tmp_path / 'runs'}: disk full; free some space or choose another folder with --store DIR"
    assert said.err.splitlines()[-1] == told
    assert Store(tmp_path / "runs").records() == [] and list((tmp_path / "runs" / ".partial").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount")
def test_a_store_without_room_is_told(
    words: list[str], bench_command: Say, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words[words.index("--store") + 1] = str(small_disk / "runs")
    told = bench_command(*words, "l1").mistake
    assert told.startswith(f"store {small_disk / 'runs'}: 1 MB free, 50 MB needed; free some space")
    monkeypatch.setattr(harness, "NEEDED_BYTES", 0)
    said = bench_command(*words, "l1")
    assert said.code == 2 and "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith(f"bench: store {small_disk / 'runs'}: disk full; free some space")
    assert Store(small_disk / "runs").records() == [] and list((small_disk / "runs" / ".partial").iterdir()) == []


def test_a_misspelt_network_is_told_before_anything_runs(words: list[str], bench_command: Say, ran: list[str]) -> None:
    words[words.index("--models") + 1] = "resnet20,resnte56"
    assert "--models resnte56: there is no such network; did you mean resnet56" in bench_command(*words, "none").mistake
    assert ran == []


def test_the_boards_of_a_store_agree_with_its_records(
    store: Store, words: list[str], bench_command: Say, misbehave: Say
) -> None:
    import pandas

    misbehave(RuntimeError("no | luck"))
    bench_command(*words, "misbehaves")
    records = {str(record.setting): record for record in store.records()}
    assert len(records) == 4

    def board(form: str) -> str:
        said = bench_command("leaderboard", "--store", store.root, "--format", form)
        assert said.code == 0 and said.err == ""
        return str(said.out)

    rows = {row["setting"]: row for row in json.loads(board("json"))}
    table = pandas.read_csv(io.StringIO(board("csv"))).set_index("setting")
    markdown = [line for line in board("md").splitlines() if line.startswith("|")]
    cells = {line.split("|")[2].strip(): line for line in markdown[2:]}
    assert rows.keys() == set(table.index) == records.keys()
    assert cells.keys() == {"dense", "tic(k=4)", "l1(rate=0.5)"}
    for name, record in records.items():
        for field in ("top1", "compression_ratio", "macs_ratio", "latency_speedup", "artifact_bytes", "loss"):
            value = getattr(record, field)
            assert rows[name][field] == (None if value is None else pytest.approx(value, rel=1e-8)), field
            assert table.loc[name, field] == pytest.approx(math.nan if value is None else value, nan_ok=True), field
        if record.status == "ok":
            line = cells["dense" if name == "none" else name]
            assert f" {100 * record.top1:.2f} " in line and f" {record.compression_ratio:.2f}× " in line
    assert rows["misbehaves"]["failed"] == 1 and rows["misbehaves"]["error"] == "misbehaves: RuntimeError: no | luck"
    assert r"- failed: misbehaves, 1 of 1 seeds: misbehaves: RuntimeError: no \| luck" in board("md"), (
        "a bar is no column"
    )
    wide = board("table")
    assert max(map(len, wide.splitlines())) <= 100 and "images/s" in wide, "a pipe is 100 columns wide"


class Postman:
    """Stands for MLflow."""

    sent: ClassVar[list[str]] = []
    unsettled: ClassVar[list[str]] = []
    error: ClassVar[Exception | None] = None

    def __init__(self, root: Path, patience: float = 0) -> None:
        self.uri = tracking_uri(root)

    def log(self, record: Record, folder: Path, *, settled: bool = True) -> bool:
        if self.error:
            raise self.error
        assert (folder / "record.json").is_file()
        self.sent.append(record.setting)
        self.unsettled.append(record.setting)
        return True

    def settle(self) -> None:
        self.unsettled.clear()


@pytest.fixture
def postman(monkeypatch: pytest.MonkeyPatch) -> type[Postman]:
    monkeypatch.setattr("bench.tracking.delivery.Tracker", Postman)
    monkeypatch.setattr(Postman, "sent", [])
    monkeypatch.setattr(Postman, "error", None)
    return Postman


def test_records_are_delivered_as_they_come_and_once(
    store: Store, words: list[str], bench_command: Say, postman: type[Postman], monkeypatch: pytest.MonkeyPatch
) -> None:
    words.remove("--no-tracking")
    said = bench_command(*words, METHODS)
    assert postman.sent == ["none", "tic(k=4)", "l1(rate=0.5)"] and not postman.unsettled
    (store.root / "mlflow.db").touch()
    assert said.err.splitlines()[-1] == f"records in {store.root}; `bench ui --store {store.root}` shows them"
    bench_command(*words, METHODS)
    assert len(postman.sent) == 3
    (store.root / "mlflow.db").unlink()
    bench_command(*words, METHODS)
    assert len(postman.sent) == 6, "somebody deleted the database"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@board.example")
    assert bench_command(*words, METHODS).err.endswith("; MLflow at https://board.example shows them\n")
    assert len(postman.sent) == 9, "another address has none of them yet"


@pytest.mark.parametrize("error", [BenchError("MLflow is away"), OSError(errno.ENOSPC, "no room for the mark")])
def test_without_mlflow_the_trials_go_on(
    error: Exception, store: Store, words: list[str], bench_command: Say, postman: type[Postman],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(postman, "error", error)
    words.remove("--no-tracking")
    said = bench_command(*words, METHODS)
    assert said.code == 0 and said.err.count(f"warning: {error}") == 1 and "tic(k=4)" in said.out
    hint = f"`bench sync --store {store.root}` delivers them to MLflow"
    assert said.err.splitlines()[-1] == f"records in {store.root}; {hint}"


def test_a_model_that_cannot_be_loaded_does_not_stop_the_others(plan: Plan, store: Store, tmp_path: Path) -> None:
    from bench.plugins.registry import open_dataset
    from bench.trials.task import Subject

    weights = tmp_path / "resnet20.pth"
    torch.save(Subject("resnet20", open_dataset(plan.dataset)).build().state_dict(), weights)
    both = replace(plan, models=["resnet32", "resnet20"], weights=str(weights), settings=parse("none"))
    outcome = harness.run(both, store)
    assert [record.model for record in outcome.records] == ["resnet20"]
    assert outcome.problems[0].startswith("resnet32: weights=") and "does not fit the network" in outcome.problems[0]
