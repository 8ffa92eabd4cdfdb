"""The executable form in other precisions, exported to other runtimes, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.execution.choice import smallest
from bench.execution.executable import execute
from bench.networks.layers import convolutions, fold

from .layers_to_execute import assert_same, four_layers, half_shared

Make = Callable[..., nn.Module]
SIDE = 12


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_precisions(kind: torch.dtype) -> None:
    model, images = four_layers(), torch.randn(2, 3, SIDE, SIDE).to(kind)
    found = execute(fold(model).to(kind), images, smallest)
    # Scaled kernels are not multiples of one another any more when they are rounded to 8 bits of mantissa.
    last = "64 inputs by 3 kernels + 1x1" if kind is torch.float64 else "dense"
    words = ["2 inputs, 6 filters + gather", "32 filters + gather", "32 filters + gather", last]
    assert [found.layers[name].form for name in "0245"] == words
    assert {parameter.dtype for parameter in found.network.parameters()} == {kind}


def test_it_is_exported_with_a_dynamic_batch(make_model: Make) -> None:
    model, images = half_shared(make_model), torch.randn(2, 3, 32, 32)
    network = execute(model, images, smallest).network
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    more = torch.randn(5, 3, 32, 32)
    assert_same(program.module()(more), fold(model)(more))
    kernels = [value for name, value in program.state_dict.items() if name.endswith("layer.weight")]
    assert len(kernels) == len(convolutions(model))


def test_onnx_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, images = four_layers(), torch.randn(2, 3, SIDE, SIDE)
    network = execute(model, images, smallest).network
    for name, each in (("shared", network), ("dense", fold(model))):
        torch.onnx.export(each, (images,), tmp_path / f"{name}.onnx", dynamo=True, external_data=False, verbose=False)
    session = runtime.InferenceSession(tmp_path / "shared.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert_same(torch.from_numpy(outputs), fold(model)(images))
    assert (tmp_path / "shared.onnx").stat().st_size < 0.7 * (tmp_path / "dense.onnx").stat().st_size


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_it_compiles() -> None:
    from torch._inductor.exc import InductorError

    model, images = four_layers(), torch.randn(2, 3, SIDE, SIDE)
    network = execute(model, images, smallest).network
    try:
        with torch.no_grad():
            outputs = torch.compile(network)(images)
    except InductorError as error:
        pytest.skip(f"no compiler: {error}")
    assert_same(outputs, model(images))
