"""`bench export`: the files it writes, and that nothing is left of a file that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bench
from bench.deploying import checking
from bench.encodings import artifact
from bench.encodings.interface import Interface
from bench.encodings.manifest import Architecture
from bench.networks import zoo
from bench.networks.zoo import Preprocessing
from bench.plugins.setting import parse

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PREPARED = Preprocessing((3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "bilinear", 0.875, "center")
KNOWN = Interface.of(("a", "b", "c", "été"), PREPARED)
CLOSE = 1e-4


def write(model: nn.Module, path: Path, interface: Interface = KNOWN) -> None:
    path.write_bytes(artifact.dump(model, Architecture("resnet20", 4, 3), interface))


@pytest.fixture
def tic(make_model: Any, make_lab: Any, tmp_path: Path) -> Path:
    write(parse("tic(k=4)")[0].compress(make_model(), make_lab()), tmp_path / "tic.safetensors")
    return tmp_path / "tic.safetensors"


def test_the_command_writes_onnx(tic: Path, tmp_path: Path, bench_command: Any) -> None:
    out = tmp_path / "net.onnx"
    said = bench_command("export", tic, "--to", "onnx", "--out", out, "--images", 9)
    assert said.code == 0, said
    assert said.out.startswith(f"{out}: {out.stat().st_size:,} bytes; the artifact has {tic.stat().st_size:,}; ")
    assert "larger than the artifact: the graph takes" in said.err
    assert "in a clean process, outputs for 9 images differ by at most" in said.err
    model = onnx.load(out)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts == {
        "class_names": ["a", "b", "c", "été"], "size": [3, 32, 32], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3],
        "interpolation": "bilinear", "crop_share": 0.875, "crop_mode": "center",
    }  # fmt: skip
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["net.onnx", "tic.safetensors"]


def test_the_command_writes_pt2_and_safetensors(tic: Path, tmp_path: Path, bench_command: Any) -> None:
    from safetensors.torch import load_file

    said = bench_command("export", tic, "--to", "pt2", "--out", tmp_path / "net.pt2", "--images", 5)
    assert said.code == 0 and "decoded to 32-bit floats" in said.err
    extra = {"metadata.json": ""}
    module: Any = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert json.loads(json.loads(extra["metadata.json"])["class_names"])[3] == "été"
    network, images = bench.load(tic), torch.randn(7, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(module(images), network(images), atol=CLOSE)
    said = bench_command("export", tic, "--to", "safetensors", "--out", tmp_path / "net.safetensors", "--images", 5)
    assert said.code == 0 and "load it into a network of the same layers and widths" in said.err
    state = load_file(tmp_path / "net.safetensors")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_timm_loads_the_safetensors_file_of_its_network(tmp_path: Path, bench_command: Any) -> None:
    torch.manual_seed(0)
    model = zoo.create_model("test_resnet.r160_in1k", 4, 3).eval()
    content = artifact.dump(model, Architecture("test_resnet", 4, 3), KNOWN)
    (tmp_path / "model").write_bytes(content)
    said = bench_command(
        "export", tmp_path / "model", "--to", "safetensors", "--out", tmp_path / "net.safetensors", "--images", 5
    )
    assert said.code == 0 and "timm.create_model('test_resnet', num_classes=4, in_chans=3)" in said.err


def test_a_file_with_other_outputs_is_not_kept(
    tic: Path, tmp_path: Path, bench_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "TOLERANCE", 0.0)
    told = bench_command("export", tic, "--to", "onnx", "--out", tmp_path / "net.onnx", "--images", 5).mistake
    assert told.startswith("the exported file gives other outputs than the artifact: on 5 images they differ by up to")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["tic.safetensors"]


def test_the_clean_process_has_no_bench(tmp_path: Path) -> None:
    import subprocess
    import sys

    from bench.deploying import clean_process

    script = tmp_path / "script.py"
    source = Path(clean_process.__file__).read_text().replace("    main(sys.argv[1])", "    import bench")
    script.write_text(source)
    done = subprocess.run([sys.executable, "-I", str(script), "x"], capture_output=True, text=True)
    assert done.returncode and "this process has to do without it" in done.stderr


def test_mistakes_are_one_line(tic: Path, tmp_path: Path, bench_command: Any, make_model: Any) -> None:
    out = tmp_path / "net.onnx"
    assert "no such file" in bench_command("export", tmp_path / "no", "--to", "onnx", "--out", out).mistake
    assert "--to" in bench_command("export", tic, "--to", "tflite", "--out", out).mistake
    assert "--out" in bench_command("export", tic, "--to", "onnx", "--out", tmp_path).mistake
    assert "--images" in bench_command("export", tic, "--to", "onnx", "--out", out, "--images", 0).mistake
    write(make_model(), tmp_path / "old", Interface())
    told = bench_command("export", tmp_path / "old", "--to", "onnx", "--out", out).mistake
    assert told.startswith("the artifact does not say how images are prepared")


def test_a_missing_package_names_the_extra(
    tic: Path, tmp_path: Path, bench_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.deploying import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    told = bench_command("export", tic, "--to", "onnx", "--out", tmp_path / "net.onnx").mistake
    assert (
        told
        == "--to onnx: onnx is not installed; it comes with the extra [deploy]: pip install '.[deploy]' in the clone"
    )
