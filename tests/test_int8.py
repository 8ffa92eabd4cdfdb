"""ONNX files with 8-bit activations: the weights of the artifact to the level, and what the commands say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.deploying import onnx_file
from bench.encodings.base import encoded_layers
from bench.networks.layers import fold
from bench.networks.zoo import create_model
from bench.plugins.setting import parse
from bench.records.store import Store
from bench.system.errors import BenchError
from bench.trials import runtimes as trials_in

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from bench.deploying.int8 import with_int8_activations  # noqa: E402 (needs onnx)

Make = Callable[..., Any]
IMAGES = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(setting: str, make_lab: Make, name: str = "resnet20") -> nn.Module:
    torch.manual_seed(0)
    model = create_model(name, 4, 3).eval()
    for module in model.modules():  # other factors than 1, which end up in the steps
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
    return parse(setting)[0].compress(model, make_lab()).eval()


def operators(content: bytes, folder: Path) -> list[str]:
    """What onnxruntime executes, after its own optimisations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def run(content: bytes, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@pytest.mark.parametrize("setting", ["quantize(bits=8)", "quantize(bits=4)", "l1(rate=0.4)+quantize(bits=8)"])
def test_onnxruntime_computes_with_whole_numbers_and_the_outputs_are_near(
    setting: str, make_lab: Make, tmp_path: Path
) -> None:
    model = network(setting, make_lab)
    content = with_int8_activations(onnx_file.export(model, IMAGES[:2], {}).content, IMAGES.split(16))
    executed = operators(content, tmp_path)
    assert executed.count("QLinearConv") == 19 and "Conv" not in executed
    expected, outputs = fold(model)(IMAGES).detach(), run(content, IMAGES)
    assert 0 < (outputs - expected).abs().max() < 0.05 * expected.abs().max()
    assert run(content, IMAGES[:1]).shape == (1, 4)


def test_levels_and_steps_are_those_of_the_artifact(make_lab: Make) -> None:
    model = network("quantize(bits=8)", make_lab)
    content = with_int8_activations(onnx_file.export(model, IMAGES[:2], {}).content, [IMAGES])
    graph = onnx.load_from_string(content).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    levels = {name: values for name, values in stored.items() if values.dtype == "int8" and values.ndim > 1}
    wanted = {name: encoding for name, _, encoding in encoded_layers(model)}
    assert len(levels) == len(wanted) == 20
    for name, encoding in wanted.items():
        weight: Any = model.get_submodule(name).parametrizations.weight
        expected = encoding.grids[0].levels(weight.original0 if hasattr(weight, "original0") else weight.original)
        (ours,) = (values for key, values in levels.items() if key.startswith(f"{name}.weight"))
        assert torch.equal(torch.tensor(ours).float(), expected.detach()), name


def test_weights_that_other_operators_decode_stay_floats(make_lab: Make, tmp_path: Path) -> None:
    model = network("tic(k=16)+quantize(bits=8)", make_lab)
    before = onnx_file.export(model, IMAGES[:2], {}).content
    content = with_int8_activations(before, [IMAGES])
    assert {"Conv", "QGemm"} <= set(operators(content, tmp_path)), "its linear layer alone has plain numbers"
    assert len(content) < 1.5 * len(before), "what decodes weights is not quantized a second time"
    expected = fold(model)(IMAGES).detach()
    assert (run(content, IMAGES) - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("setting", ["none", "tic(k=16)", "magnitude(rate=0.9)+quantize(bits=8)", "quantize(bits=16)"])
def test_without_8_bit_weights_one_line_says_what_helps(setting: str, make_lab: Make) -> None:
    content = onnx_file.export(network(setting, make_lab), IMAGES[:2], {}).content
    with pytest.raises(BenchError, match=r"no layer has weights of 3 to 8 bits .* compress with quantize\(bits=8\)"):
        with_int8_activations(content, [IMAGES])


@pytest.fixture
def store(bench_command: Make, image_folder: Path, tmp_path: Path, quick_timing: None, monkeypatch: Any) -> Path:
    monkeypatch.setattr(trials_in, "peak_memory_mb", lambda *_: 12.5)
    words = ["--methods", "quantize(bits=8),tic(k=4)", "--models", "resnet20", "--dataset", f"folder:{image_folder}"]
    words += ["--weights", "scratch", "--epochs", "0", "--store", tmp_path / "runs", "--no-tracking"]
    said = bench_command("run", *words, "--runtime", "onnxruntime-int8")
    assert said.code == 1 and "failed: tic(k=4) on onnxruntime-int8" in said.out, said
    return tmp_path / "runs"


def test_the_runtime_has_an_accuracy_of_its_own(
    store: Path, bench_command: Make, image_folder: Path, tmp_path: Path
) -> None:
    records = {record.setting: record for record in Store(store).records()}
    plain, rounded = records["quantize(bits=8)"], records["quantize(bits=8) on onnxruntime-int8"]
    assert rounded.loss != plain.loss and rounded.loss == pytest.approx(plain.loss, rel=0.05)
    assert rounded.artifact_bytes == plain.artifact_bytes and rounded.runtime_agreement is not None
    dense = records["none on onnxruntime-int8"]
    assert dense.top1 == records["none"].top1 and dense.runtime_agreement == 1
    assert "no layer has weights of 3 to 8 bits" in records["tic(k=4) on onnxruntime-int8"].error
    # The export of the same trial says how many images keep their class.
    words = ["export", "quantize(bits=8)", "--store", store, "--dataset", f"folder:{image_folder}", "--int8"]
    said = bench_command(*words, "--to", "onnx", "--out", tmp_path / "int8.onnx")
    assert said.code == 0, said
    assert "with activations in 8 bits, " in said.err and "of 30 images keep their class" in said.err
    properties = {entry.key for entry in onnx.load(tmp_path / "int8.onnx").metadata_props}
    assert {"class_names", "mean", "std", "size"} <= properties
    refused = bench_command(*words, "--to", "pt2", "--out", tmp_path / "no.pt2")
    assert refused.code == 2 and refused.err.strip() == "bench: --int8 goes with --to onnx, not with --to pt2"
    assert not (tmp_path / "no.pt2").exists()
