"""Checkpoints that are refused: nothing in them runs, and one line says what they are."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.networks.state_dicts import read_state_dict
from bench.system.errors import BenchError

from .checkpoint_tensors import make_network
from .checkpoint_tensors import tensors as tensors


def refusal(path: Path) -> str:
    with pytest.raises(BenchError) as caught:
        read_state_dict(path)
    told = str(caught.value)
    assert told.startswith(f"weights={path}: ") and "\n" not in told
    return told.removeprefix(f"weights={path}: ")


class MakeFolder:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("force", ["0", "1"])
def test_code_in_a_pickle_is_refused_and_not_run(
    legacy: bool, force: str, tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", force)
    evidence, path = tmp_path / "evidence", tmp_path / "weights.pth"
    torch.save({"state_dict": tensors, "extra": MakeFolder(evidence)}, path, _use_new_zipfile_serialization=not legacy)
    told = refusal(path)
    assert re.match(
        r"refused, (it|its key 'extra') holds (posix|nt)\.mkdir, which is code; save the state dict alone", told
    ), told
    assert not evidence.exists()
    torch.load(path, weights_only=False)
    assert evidence.exists(), "the file was harmless, so this test shows nothing"


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_bare_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    evidence, path = tmp_path / "evidence", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(MakeFolder(evidence), protocol))
    assert refusal(path).startswith("refused, ")
    assert not evidence.exists()
    pickle.loads(path.read_bytes())
    assert evidence.exists()


@pytest.mark.parametrize(
    ("content", "place"), [(make_network(), "it holds"), ({"model": make_network()}, "its key 'model' holds")]
)
def test_whole_objects_are_refused_by_name(content: Any, place: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert re.match(rf"refused, {place} torch\.nn\.\S+, which is code", refusal(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: torch.ones(4, 3).to_sparse(), r"is sparse \(torch.sparse_coo\); save its to_dense\(\)"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
            r"is quantised \(torch.qint8\); save its dequantize",
        ),
        (lambda: torch.ones(4).to(torch.float8_e4m3fn), r"is stored in 8-bit floats \(torch.float8_e4m3fn\)"),
        (lambda: torch.ones(4, dtype=torch.complex64), r"is complex \(torch.complex64\), and would lose its imaginary"),
        (lambda: torch.ones(4, device="meta"), "is on the meta device and holds no numbers"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "is a nested tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_that_no_layer_can_take_is_told(make: Callable[[], Tensor], told: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {"0.weight": make(), "0.bias": torch.ones(4)}}, tmp_path / "weights.pth")
    assert re.match(f"0.weight {told}", refusal(tmp_path / "weights.pth"))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_told(tmp_path: Path) -> None:
    torch.jit.script(make_network()).save(str(tmp_path / "weights.pt"))
    assert refusal(tmp_path / "weights.pt").startswith(
        "a TorchScript archive, which holds code; open it with torch.jit"
    )


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("net.onnx", b"\x08\x07", "an ONNX model"),
        ("net.pth", b"\x89HDF\r\n\x1a\n", "a Keras"),
        ("net.npz", b"PK", "a NumPy"),
    ],
)
def test_files_of_other_libraries_are_told(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(kind)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_told(suffix: str, share: float, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert re.search("truncated|not a whole safetensors file", refusal(path))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".txt"])
@pytest.mark.parametrize("content", [b"", b"not weights at all\n", b"\x80"])
def test_a_file_of_something_else_is_told(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert refusal(path)


def test_an_archive_of_something_else_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal(tmp_path / "weights.pth").startswith("a zip archive of something else, such as readme.txt; expected")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "holds a list, not a state dict"),
        (torch.ones(3), "holds a Tensor, not a state dict"),
        ({"epoch": 3}, "no tensors found; expected a state dict, bare or under 'state_dict'"),
        ({"state_dict": {}}, "no tensors found; expected a state dict, bare or under 'state_dict'"),
    ],
)
def test_a_file_without_a_state_dict_is_told(content: Any, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    assert refusal(tmp_path / "weights.pth") == told


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing.pth").startswith("there is no such file; or name auto")
    assert refusal(tmp_path) == "a folder; expected a file"
    (tmp_path / "best.pth").touch()
    assert refusal(tmp_path) == "a folder; expected a file, such as best.pth in it"
