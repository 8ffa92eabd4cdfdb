"""How the commands say that they cannot: a mistake is one line, before anything runs."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bench.cli.options import names
from bench.system.files import check_place
from bench.trials import run as harness

Say = Callable[..., Any]


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    """A command without a mistake; a test adds one, for the last option of a name counts."""
    return f"""
        run --models resnet20 --weights scratch --dataset folder:{image_folder} --epochs 0 --no-tracking
        --store {tmp_path / "runs"} --methods none
    """.split()


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a trial was run all the same")

    monkeypatch.setattr(harness, "run_trial", fail)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--epochs -1", "--epochs -1: expected a number from 0"),
        ("--epochs nan", "--epochs nan: expected a number from 0"),
        ("--epochs inf", "--epochs inf: expected a number from 0"),
        ("--seeds 0", "--seeds 0: expected a number from 1"),
        ("--attack -1", "--attack -1: expected a number from 0"),
        ("--methods tci", "--methods: there is no method 'tci'; did you mean 'tic'? There are: "),
        ("--models ,", "--models ',': expected at least one name"),
        ("--models resnte20", "--models resnte20: there is no such network; did you mean resnet20, "),
        ("--models qqqqqqqq", "--models qqqqqqqq: there is no such network; `bench list models` has them all"),
        ("--models vit_base_patch16_224.nope", "model 'vit_base_patch16_224.nope' cannot be built: Invalid pretrained"),
        ("--dataset fashion-mnits", "--dataset fashion-mnits: there is no such dataset; did you mean 'fashion-mnist'?"),
        ("--dataset fashion-mnist:x", "dataset 'fashion-mnist:x': fashion-mnist is embedded and takes no path"),
        ("--dataset folder", "--dataset folder: expected folder:PATH"),
        ("--dataset folder:/no/such/place", "--dataset folder:/no/such/place: there is no /no/such/place"),
        ("--device gpu", "--device gpu: expected auto, cpu, cuda or cuda:N"),
        ("--device cuda:99", "--device cuda:99: this machine has "),
        ("--weights /no/such.pth", "--weights /no/such.pth: there is no such file"),
        (
            "--weights pretrained",
            "--weights pretrained: there are no published weights for 'resnet20'; expected a file, scratch or auto",
        ),
    ],
)
def test_a_mistake_is_one_line(more: str, told: str, words: list[str], bench_command: Say) -> None:
    assert bench_command(*words, *more.split()).mistake.startswith(told)


@pytest.mark.parametrize("below", ["", "deeper/runs"])
def test_a_store_that_is_a_file_is_told(below: str, words: list[str], bench_command: Say, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("mine")
    store = tmp_path / "runs" / below
    told = bench_command(*words, "--store", store).mistake
    assert told == f"store {store}: a file stands where a folder should; choose another folder with --store DIR"
    assert (tmp_path / "runs").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="where nobody, not even root, can write")
def test_a_store_that_cannot_be_written_is_told(words: list[str], bench_command: Say) -> None:
    told = bench_command(*words, "--store", "/proc/runs").mistake
    assert told.startswith("store /proc/runs: ") and told.endswith("; choose another folder with --store DIR")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_without_permission_is_told(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    assert "permission denied; choose another folder" in bench_command(*words).mistake


def test_a_store_with_a_broken_record_is_told(words: list[str], bench_command: Say, tmp_path: Path) -> None:
    (tmp_path / "runs" / "records" / "f0").mkdir(parents=True)
    broken = tmp_path / "runs" / "records" / "f0" / "record.json"
    broken.write_text("{")
    told = bench_command("leaderboard", "--store", tmp_path / "runs").mistake
    assert told.startswith(f"{broken}: not a record (") and told.endswith("delete its folder and run the trial again")


def test_a_broken_image_is_told(words: list[str], bench_command: Say, image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "broken")
    image = tmp_path / "broken" / "train" / "up" / "3.png"
    image.write_bytes(image.read_bytes()[:60])
    told = bench_command(*words, "--dataset", f"folder:{tmp_path / 'broken'}").mistake
    assert told.startswith(f"image {image} cannot be read: ")


class MakeFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["truncated.safetensors", "truncated.pth", "text.pth", "code.pth", "other.pth"])
def test_weights_that_will_not_do_are_told(
    kind: str, words: list[str], bench_command: Say, make_model: Callable[..., nn.Module], tmp_path: Path
) -> None:
    path, state = tmp_path / kind, make_model("resnet20", classes=3).state_dict()
    if kind == "code.pth":
        path.write_bytes(pickle.dumps({"state_dict": MakeFolder(tmp_path / "evidence")}, protocol=2))
        told = "refused, it holds (posix|nt).mkdir, which is code; save the state dict alone, best as .safetensors"
    elif kind == "other.pth":
        torch.save(make_model("resnet20", channels=1).state_dict(), path)
        told = (
            r"does not fit the network: conv1.weight is \(16, 1, 3, 3\), the network has \(16, 3, 3, 3\), fc.weight is"
        )
    elif kind == "text.pth":
        path.write_text("my weights\n")
        told = "a text file; expected a PyTorch state dict, as .safetensors or .pth"
    else:
        save_file(state, path) if kind.endswith("tensors") else torch.save(state, path)
        path.write_bytes(path.read_bytes()[:100_000])
        told = "not a whole safetensors file" if kind.endswith("tensors") else "cannot be read, perhaps truncated"
    assert re.match(f"--weights {path}: {told}", bench_command(*words, "--weights", path).mistake)
    assert not (tmp_path / "evidence").exists()


@pytest.mark.filterwarnings("default")
def test_weights_too_many_are_a_warning(
    words: list[str],
    bench_command: Say,
    make_model: Callable[..., nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(harness, "run_trial", lambda trial, ruler, folder, command: trial.blank(command))
    state = make_model("resnet20", classes=3).state_dict()
    torch.save({**state, "teacher.weight": torch.ones(1)}, tmp_path / "mine.pth")
    said = bench_command(*words, "--weights", tmp_path / "mine.pth")
    assert (
        "warning: weights " in said.err and "ignored, as the network has no such tensor: teacher.weight\n" in said.err
    )
    assert said.err.count("ignored") == 1


def test_what_the_system_refuses_is_one_line_too(bench_command: Say, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "mine.safetensors"
    said = bench_command(
        "train", "--models", "resnet20", "--dataset", f"folder:{image_folder}", "--epochs", "0.01", "--out", out
    )
    assert said.code == 2 and str(tmp_path / "file") in said.err.splitlines()[-1] and "Traceback" not in said.err


@pytest.mark.parametrize(
    "words", [["leaderboard", "--store", "/no/store"], ["sync", "--store", "/no/store"], ["show", "tci"],
              ["list", "methods", "--match", "qqq"]],
)  # fmt: skip
def test_mistakes_of_the_smaller_commands(words: list[str], bench_command: Say) -> None:
    assert words[-1] in bench_command(*words).mistake


@pytest.mark.parametrize("words", [["fly"], ["run"], ["list", "dogs"], ["run", "--methods", "tic", "--seeds", "x"],
                                   ["-x"], ["--store", "x", "run"], ["run", "--store", ""]])  # fmt: skip
def test_usage_is_told_with_exit_code_2(words: list[str], bench_command: Say) -> None:
    said = bench_command(*words)
    assert said.code == 2 and said.err.startswith("bench: ") and said.err.count("\n") == 1


def test_where_something_goes_is_tried_before_the_work(
    words: list[str], bench_command: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("it began")

    monkeypatch.setattr("bench.trials.baseline.train_baseline", work)
    monkeypatch.setattr("bench.oracle.comparison.compare_task", work)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    told = bench_command("train", "--models", "resnet20", "--out", tmp_path / "folder.safetensors").mistake
    assert told == f"--out {tmp_path / 'folder.safetensors'}: a folder; expected a file"
    told = bench_command("train", "--models", "resnet20", "--out", tmp_path / "file" / "a.safetensors").mistake
    assert told.startswith(f"--out {tmp_path / 'file' / 'a.safetensors'}: ") and told.endswith("choose another place")
    assert bench_command("oracle", "--out", tmp_path / "file").mistake.endswith("a file; expected a folder")
    before = sorted(tmp_path.rglob("*"))
    check_place(tmp_path / "a" / "b" / "c.csv", "out")
    assert sorted(tmp_path.rglob("*")) == before, "trying leaves nothing behind"


def test_names_are_taken_once_and_in_order() -> None:
    assert names(" b, a,b ,", "--models") == ["b", "a"]


def test_the_dense_network_comes_first_and_once() -> None:
    from bench.plugins.setting import parse, with_dense

    written = [str(setting) for setting in with_dense(parse("tic,none,kse,tic(k=64),none(train=true)"))]
    assert written == ["none", "tic(k=64)", "kse(G=4)", "none(train=True)"]
