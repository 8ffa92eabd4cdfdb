"""What the messages about checkpoints say is true: the commands in them work, and kinds of files are told apart."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.networks.state_dicts import load_weights, read_state_dict
from bench.system.errors import BenchError

WEIGHTS = {"conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.ones(2)}


class Home:
    """Stands for anything whose class would have to be imported, and so run."""


def told(path: Path, *choice: Any) -> str:
    with pytest.raises(BenchError) as caught:
        read_state_dict(path, *choice)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "named", "left"),
    [
        ({"args": argparse.Namespace(lr=0.1)}, "'args' holds argparse.Namespace", {}),
        ({"meta": {"args": argparse.Namespace(lr=0.1), "epoch": 3}}, "'meta.args' holds", {"meta": {"epoch": 3}}),
        ({"best": numpy.float64(0.9)}, "'best' holds numpy", {}),
        ({"best": numpy.float32(0.9), "epoch": 3}, "'best' holds numpy", {"epoch": 3}),
        ({"n": numpy.int64(3), "name": numpy.str_("a"), "ok": numpy.bool_(True)}, "'n' holds numpy", {}),
        ({"losses": numpy.ones(3), "curve": [numpy.float64(1)]}, "holds numpy", {}),
        ({"meta": OrderedDict(args=argparse.Namespace(x=numpy.float16(1)))}, "'meta.args' holds", {"meta": {}}),
        ({"a": {"args": argparse.Namespace()}, "b": {"args": argparse.Namespace()}}, "'a.args'", {"a": {}, "b": {}}),
    ],
)
def test_the_printed_command_drops_values_beside_the_tensors(
    content: dict[str, Any], named: str, left: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": WEIGHTS, **content}, path)
    message = told(path)
    assert named in message and "which is not a tensor; drop it: " in message, message
    follow(message, path)
    assert read_state_dict(path).keys() == WEIGHTS.keys()
    checkpoint = torch.load(path, weights_only=True)
    checkpoint.pop("state_dict")
    assert checkpoint == left


def test_the_printed_command_works_for_files_of_another_numpy(tmp_path: Path) -> None:
    """NumPy 2 calls `numpy.core` what is `numpy._core`, or the other way round; a file holds its writer's name."""
    path, other = tmp_path / "ours.pth", tmp_path / "weights.pth"
    torch.save({"state_dict": WEIGHTS, "best": numpy.float64(0.9)}, path)
    names = (b"numpy._core.", b"numpy.core.") if numpy.__version__ >= "2" else (b"numpy.core.", b"numpy._core.")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry).replace(*names))
    message = told(other)
    assert f"holds {names[1].decode()}" in message
    follow(message, other)
    assert read_state_dict(other).keys() == WEIGHTS.keys()


def follow(message: str, path: Path) -> None:
    """Run the two commands that a message prints."""
    modules = {"torch": torch, "numpy": numpy, "argparse": argparse, "FILE": str(path)}
    commands = re.findall("`([^`]*)`", message)
    assert len(commands) == 2 and "weights_only=False" not in message
    for command in commands:
        exec(command, modules)


@pytest.mark.parametrize("content", [{"args": argparse.Namespace(home=Home())}, {"home": Home()}, {"homes": [Home()]}])
def test_nobody_is_told_to_allow_code(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save({"state_dict": WEIGHTS, **content}, tmp_path / "weights.pth")
    message = told(tmp_path / "weights.pth")
    assert "which is code; save the state dict alone" in message and "safe_globals" not in message


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("net.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a Git LFS pointer"),
        ("net.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        ("net.pth", b"\n<!DOCTYPE html><html>404", "a web page, perhaps from a failed download"),
        ("net.safetensors", b"<html>\n", "a web page"),
        ("net.pth", b"\x1f\x8b\x08\x00", "a gzip file; unpack it first"),
        ("net.pth", b"# Weights\n" + "die Gewichte für später ".encode() * 40, "a text file; expected"),
    ],
)
def test_downloads_that_are_no_weights_are_told(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    message = told(tmp_path / name)
    assert message.startswith(f"weights={tmp_path / name}: {kind}") and "truncated" not in message


def test_zip_files_and_safetensors_under_other_names_are_told(tmp_path: Path) -> None:
    numpy.savez(tmp_path / "arrays.npz", a=numpy.ones(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pth")
    assert ": a NumPy archive; expected" in told(tmp_path / "arrays.pth")
    save_file(WEIGHTS, tmp_path / "weights.pth")
    assert "a safetensors file by its content; call it .safetensors" in told(tmp_path / "weights.pth")
    torch.save(WEIGHTS, tmp_path / "weights.safetensors")
    assert "if torch.save wrote it, call it .pth" in told(tmp_path / "weights.safetensors")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.layer1 = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 2, 3)))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn_like(value) for name, value in Network().state_dict().items()}


@pytest.mark.parametrize(
    "part", ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module._orig_mod"]
)
def test_wrappers_within_names_are_found(part: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    wrapped = {name.replace("layer1.", f"layer1.{part}."): value for name, value in weights.items()}
    assert len(wrapped.keys() & weights.keys()) == 2
    torch.save({"module." + name: value for name, value in wrapped.items()}, tmp_path / "weights.pth")
    assert_same(read_state_dict(tmp_path / "weights.pth", weights.keys()), weights)


def test_a_part_that_the_network_calls_module_stays(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(a=nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    assert_same(read_state_dict(tmp_path / "weights.pth", network.state_dict()), network.state_dict())


@pytest.mark.parametrize("flat", [True, False])
def test_of_several_that_fit_one_has_to_be_chosen(flat: bool, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    parts = {"student": weights, "teacher": {name: value + 1 for name, value in weights.items()}}
    spread = {f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()}
    torch.save(spread if flat else parts, path)
    assert told(path, weights.keys()) == (
        f"weights={path}: 2 state dicts in it fit the network: 'student', 'teacher'; "
        "choose one, as in weights.pth#teacher"
    )
    for part, state in parts.items():
        assert_same(read_state_dict(path, weights.keys(), part), state)


def test_a_flat_part_is_chosen_though_another_fits_better(weights: dict[str, Tensor], tmp_path: Path) -> None:
    """As where the teacher is another network: `#teacher` is refused by what it lacks, not as unknown."""
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"student.{n}": v for n, v in weights.items()} | {"teacher.fc": torch.ones(1)}}, path)
    found = read_state_dict(path, weights.keys())
    assert_same({name: found[name] for name in weights}, weights)
    for key in ("teacher", "state_dict.teacher"):
        assert read_state_dict(path, weights.keys(), key).keys() == {"fc"}
    with pytest.raises(BenchError, match=r"#nobody'?: the file has no state dict there; it has: 'state_dict'$"):
        read_state_dict(path, weights.keys(), "nobody")


def test_the_same_tensors_in_two_places_need_no_choice(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": weights, "best": dict(weights)}, tmp_path / "weights.pth")
    assert_same(read_state_dict(tmp_path / "weights.pth", weights.keys()), weights)


def test_where_none_fits_the_state_dicts_are_listed(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"generator": {"a": torch.ones(1)}, "discriminator": {"b": torch.ones(2)}}, path)
    assert told(path, weights.keys()).endswith(
        ": no state dict in it has the network's names; it has: 'generator', 'discriminator'"
    )
    torch.save({"generator.a": torch.ones(1), "discriminator.b": torch.ones(2)}, path)
    with pytest.raises(BenchError, match=r"missing conv\.weight, .*; the file has generator\.a, discriminator\.b$"):
        load_weights(Network(), read_state_dict(path, weights.keys()), str(path))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
