"""The same network in several runtimes: what is timed, what is confirmed, and how it stands in records and boards."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from torch import Tensor, nn

from bench.deploying import memory, packages, runtimes
from bench.leaderboard.grouping import in_torch
from bench.leaderboard.summary import load_records, summarise
from bench.networks.own_code import from_file
from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.system.errors import BadArgument, BenchError
from bench.trials import runtimes as trials_in
from bench.trials.plan import Plan
from bench.trials.ruler import Ruler

pytest.importorskip("onnxruntime")

WORDS = ("run", "--models", "resnet20", "--weights", "scratch", "--epochs", "0", "--no-tracking")
SAME = ("top1", "loss", "artifact_bytes", "compression_ratio", "macs", "params", "agreement")


@pytest.fixture
def run(
    image_folder: Path, tmp_path: Path, bench_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setattr(trials_in, "peak_memory_mb", lambda *_: 12.5)  # measured in a test of its own

    def call(methods: str, *words: str) -> Any:
        return bench_command(
            *WORDS, "--methods", methods, "--dataset", f"folder:{image_folder}", "--store", tmp_path / "runs", *words
        )

    return call


def records(tmp_path: Path) -> dict[str, Record]:
    return {record.setting: record for record in Store(tmp_path / "runs").records()}


def test_each_runtime_has_a_record_and_a_row(run: Callable[..., Any], tmp_path: Path) -> None:
    said = run("quantize(bits=8)", "--runtime", "onnxruntime")
    assert said.code == 0, said
    found = records(tmp_path)
    assert set(found) == {
        "none", "none on onnxruntime", "quantize(bits=8)", "quantize(bits=8) on onnxruntime"
    }  # fmt: skip
    torch_record, other = found["quantize(bits=8)"], found["quantize(bits=8) on onnxruntime"]
    assert (torch_record.runtime, other.runtime) == ("torch", "onnxruntime")
    assert all(getattr(torch_record, name) == getattr(other, name) for name in SAME)
    assert torch_record.latency_ms_p50 != other.latency_ms_p50
    assert other.runtime_agreement == 1 and other.config["runtime_check"] == {"images": 30, "agreeing": 30}
    assert other.peak_memory_mb == 12.5 and torch_record.runtime_agreement is None
    assert found["none on onnxruntime"].latency_speedup == 1
    homes = [Store(tmp_path / "runs").folder(record.fingerprint) for record in (torch_record, other)]
    assert len({(home / "model.safetensors").read_bytes() for home in homes}) == 1
    assert (homes[0] / "timings.csv").read_text() != (homes[1] / "timings.csv").read_text()
    assert "--runtime onnxruntime" in other.config["repeat"] and "--runtime" not in torch_record.config["repeat"]
    summary = summarise(load_records(tmp_path / "runs"), tmp_path / "runs")
    assert summary["setting"].tolist()[:2] == ["none", "none on onnxruntime"]
    elsewhere = summary[summary["runtime"] != "torch"]
    assert len(elsewhere) == 2 and not elsewhere["pareto"].any() and elsewhere["rank_low"].isna().all()
    assert "dense on onnxruntime" in said.out and "without a rank" in said.out


def test_a_trial_in_torch_is_the_one_that_it_was(run: Callable[..., Any], tmp_path: Path) -> None:
    run("none")
    (before,) = records(tmp_path).values()
    assert "runtime" not in before.config
    said = run("none", "--runtime", "torch,onnxruntime")
    assert "1 of 2 trials were recorded before" in said.err
    assert records(tmp_path)["none"] == before


def test_other_outputs_are_a_failed_record(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = runtimes.prepare

    def wrong(network: nn.Module, runtime: str, images: Tensor, *calibration: Any) -> runtimes.Prepared:
        made = prepare(network, runtime, images, *calibration)
        return runtimes.Prepared(lambda batch: made.run(batch) + 1, made.loaded)

    monkeypatch.setattr(trials_in, "prepare", wrong)
    said = run("none", "--runtime", "onnxruntime")
    assert said.code == 1
    failed = records(tmp_path)["none on onnxruntime"]
    assert failed.status == "failed" and "gives other outputs than torch: they differ by up to 1" in str(failed.error)


def test_a_failure_in_torch_is_not_timed_elsewhere(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise BenchError("nothing to measure")

    monkeypatch.setattr(Ruler, "measure", broken)
    assert run("none", "--runtime", "onnxruntime").code == 1
    found = records(tmp_path)
    assert found["none"].error == "nothing to measure"
    assert found["none on onnxruntime"].error == "its trial in torch failed: nothing to measure"


@pytest.mark.parametrize("runtime", ["compile", "onnxruntime", "openvino"])
@pytest.mark.parametrize("setting", ["l1(rate=0.5)", "tic(k=4)", "quantize(bits=8)"])
@pytest.mark.slow
def test_runtimes_give_torchs_outputs(setting: str, runtime: str, make_model: Any, make_lab: Any) -> None:
    model = parse(setting)[0].compress(make_model(), make_lab()).eval()
    for batch in (1, 3):
        images = torch.randn(batch, 3, 32, 32)
        expected = runtimes.prepare(model, "torch", images).run(images)
        outputs = runtimes.prepare(model, runtime, images).run(images)
        assert (outputs - expected).abs().max() < 1e-4


@pytest.mark.parametrize("runtime", ["torch", pytest.param("compile", marks=pytest.mark.slow), "onnxruntime"])
def test_memory_is_that_of_the_network(make_model: Any, runtime: str) -> None:
    """ResNet-20 has 1.1 MB of weights; 64 images of 32x32 take 4 MB for each map of 16 channels."""
    images = torch.randn(64, 3, 32, 32)
    loaded = runtimes.prepare(make_model(), runtime, images).loaded
    found = memory.peak_memory_mb(loaded, runtime, images)
    assert found is not None and 4 < found < 200


def test_memory_of_networks_of_files_and_of_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "random.py").write_text("raise ImportError('a file of the user that is not meant')\n")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.py"
    file.write_text("import torch\n\nclass Wide(torch.nn.Conv2d):\n    pass\n")
    images = torch.zeros(1, 3, 64, 64)
    network: Any = from_file("mine.py:Wide", str(file)).Wide(3, 1000, 1)
    found = memory.peak_memory_mb(network, "torch", images)
    assert found is not None and 16 < found < 60, "1,000 maps of 64 x 64 floats"

    class Inside(torch.nn.Identity):
        pass

    assert memory.peak_memory_mb(Inside(), "torch", images) is None, "another process cannot import it"
    network.__module__ = type(network).__module__ = "nowhere"
    assert memory.peak_memory_mb(network, "torch", images) is None


def test_mistakes_are_one_line(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("none", "--runtime", "tensorrt").mistake == (
        "--runtime tensorrt: expected torch, compile, onnxruntime, onnxruntime-int8, openvino"
    )
    with pytest.raises(BadArgument, match="runs on the CPU here, not on cuda"):
        Plan(settings=parse("none"), models=["resnet20"], runtimes=["openvino"], device=torch.device("cuda"))
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert run("none", "--runtime", "torch,openvino").mistake == (
        "--runtime openvino: onnx is not installed; "
        "it comes with the extra [deploy]: pip install '.[deploy]' in the clone"
    )


def test_older_records_are_of_torch() -> None:
    stored = json.loads(
        (next((Path(__file__).parents[1] / "results" / "fashion-mnist" / "records").glob("*/record.json"))).read_text()
    )
    for name in ("runtime", "runtime_agreement"):
        del stored[name]
    older = Record.from_content(stored)
    assert (older.runtime, older.runtime_agreement) == (None, None)
    assert len(in_torch(pandas.DataFrame([asdict(older)]))) == 1
