"""`bench find` from end to end, on a tiny network and images drawn here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.data.held_out import HeldOut
from bench.data.images import Images, Pixels
from bench.plugins.registry import open_dataset
from bench.records.store import Store
from bench.system.errors import BadArgument
from tests.conftest import Said

Command = Callable[..., Said]


@pytest.fixture
def ask(bench_command: Command, image_folder: Path, tmp_path: Path) -> Command:
    def ask(*words: object) -> Said:
        of = ("--models", "test_resnet", "--dataset", f"folder:{image_folder}", "--weights", "scratch")
        size = ("--image-size", "32", "--no-tracking", "--store", tmp_path / "store")
        return bench_command("find", *of, *size, "--epochs", "0.3", "--seeds", "2", "--trials", "4", *words)

    return ask


@pytest.mark.slow
def test_the_answer_is_confirmed_on_test_images_and_ends_with_a_command(ask: Command, tmp_path: Path) -> None:
    said = ask("--within", "60", "--smallest", "size", "--methods", "magnitude,quantize")
    assert said.code in (0, 1)
    answer = said.err.splitlines()
    assert any("is what was asked for: size " in line or "cannot be told" in line for line in answer), said.err
    assert any("the test images, which took no part in the choice" in line for line in answer)
    assert answer[-1].startswith("to deploy it: bench export ") and "--to onnx" in answer[-1]
    records = Store(tmp_path / "store").records()
    searched = [record for record in records if record.dataset.startswith("held-out:")]
    confirmed = [record for record in records if not record.dataset.startswith("held-out:")]
    assert {record.setting for record in confirmed} - {"none"} <= {record.setting for record in searched}
    assert all(record.latency_ms_p50 is None for record in searched)
    assert all(record.latency_ms_p50 is not None for record in confirmed)
    assert max(record.started_at for record in searched) <= min(record.started_at for record in confirmed)
    assert {record.seed for record in confirmed if record.setting != "none"} == {0, 1}


@pytest.mark.slow
def test_asked_again_it_runs_nothing(ask: Command, tmp_path: Path) -> None:
    words = ("--at-least", "size=2", "--methods", "magnitude")
    first = ask(*words)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("record.json")}
    second = ask(*words)
    assert second.out == first.out and second.err.splitlines()[-1] == first.err.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("record.json")} == stamps


@pytest.mark.slow
def test_the_board_shows_trials_of_searches_only_when_asked(
    ask: Command, bench_command: Command, image_folder: Path, tmp_path: Path
) -> None:
    ask("--at-least", "size=2", "--methods", "magnitude")
    store = ("--store", tmp_path / "store")
    board = bench_command("leaderboard", *store, "--format", "json")
    assert {row["dataset"] for row in json.loads(board.out)} == {image_folder.name}
    assert f"--dataset held-out:{image_folder.name} shows them" in board.err
    board = bench_command("leaderboard", *store, "--format", "json", "--dataset", f"held-out:{image_folder.name}")
    assert {row["dataset"] for row in json.loads(board.out)} == {f"held-out:{image_folder.name}"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--within", "1"), "what is to be found?"),
        (("--smallest", "size"), "without a limit on accuracy"),
        (
            ("--within", "1", "--smallest", "sise"),
            "--smallest sise: there is no figure 'sise' here; did you mean 'size'",
        ),
        (("--most", "macs=many"), "--most macs=many: expected NAME=VALUE"),
        (("--at-least", "size=2", "--methods", "quantize(bits=4)"), "every option is given"),
        (("--at-least", "size=2", "--methods", "quantise"), "did you mean 'quantize'"),
    ],
)
def test_mistakes_are_one_line(ask: Command, words: tuple[str, ...], problem: str) -> None:
    assert problem in ask(*words).mistake


def seen(images: Images) -> set[bytes]:
    assert isinstance(images, Pixels)
    return {image.numpy().tobytes() for image in images.images}


def test_held_out_images_are_neither_trained_on_nor_tested_on(image_folder: Path) -> None:
    whole = open_dataset(f"folder:{image_folder}")
    view = open_dataset(f"held-out:folder:{image_folder}")
    assert isinstance(view, HeldOut) and view.title == f"held-out:{whole.title}" and view.digest != whole.digest
    trained, tested, official = (seen(part) for part in (view.split("train"), view.split("test"), whole.split("test")))
    assert not trained & tested and not tested & official
    assert torch.equal(view.split("test").labels, whole.split("tuning").labels)
    assert torch.equal(view.split("train").labels, whole.split("train").labels)


def test_images_are_held_out_once(image_folder: Path) -> None:
    with pytest.raises(BadArgument, match="there is no such dataset"):
        open_dataset(f"held-out:held-out:folder:{image_folder}")
