"""What `bench run` records: figures that agree with each other, with the files beside them and with the boards."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import bench
from bench.execution.choice import smallest
from bench.execution.executable import execute
from bench.measuring import latency
from bench.plugins.setting import parse
from bench.records.store import Store
from bench.trials import run as harness
from bench.trials.plan import Plan

from .small_runs import by_method
from .small_runs import finished as finished
from .small_runs import misbehave as misbehave
from .small_runs import plan as plan
from .small_runs import store as store
from .small_runs import words as words

FIELDS = """
fingerprint status error method setting model dataset weights seed budget_epochs epochs_spent device top1 top5 loss
top1_dense top1_drop agreement compression_ratio formula_ratio kernel_ratio artifact_bytes dense_bytes params
params_dense macs macs_dense macs_ratio latency_ms_p50 latency_ms_p90 latency_ms_p99 latency_dense_ms_p50
latency_speedup throughput_ips peak_memory_mb compress_seconds fit_seconds robust_top1 attack_success_rate
prediction_change_rate started_at duration_seconds versions
""".split()
NOT_MEASURED = {"error", "robust_top1", "attack_success_rate", "prediction_change_rate"}


pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]


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
