"""Completion in the shell: what is offered, and that it needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.cli import completing


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ti", ["tic"]),
        ("kse,ti", ["kse,tic"]),
        ("l1(rate=0.5)+qu", ["l1(rate=0.5)+quantize"]),
        ("[l1, ti", ["[l1, tic"]),
        ("tic(k", []),
        ("nothing", []),
    ],
)
def test_the_last_method_of_a_list_is_completed(typed: str, offered: list[str]) -> None:
    assert completing.methods(typed) == offered


def test_networks_and_datasets_are_completed() -> None:
    assert {"resnet20", "resnet200d"} <= set(completing.models("resnet20"))
    assert completing.models("resnet56,vgg16_5") == ["resnet56,vgg16_512_cifar"]
    assert completing.datasets("fash") == ["fashion-mnist"]


def completed(words: str) -> list[str]:
    """What a shell gets that completes the last word, and the heavy libraries that are loaded for it."""
    code = """
import atexit, sys
atexit.register(lambda: print(*sorted({"torch", "timm"} & set(sys.modules)), file=sys.stderr))
sys.argv = ["bench"]
from bench.cli.commands import main
main()
"""
    asked = {"_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | asked)
    assert ended.returncode == 0
    return [*ended.stdout.split(), *ended.stderr.split()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [("bench run --methods ti", "tic"), ("bench show ti", "tic"), ("bench leaderboard --method ti", "tic"),
     ("bench run --dataset fash", "fashion-mnist"), ("bench run --models resnet5", "resnet56"),
     ("bench lead", "leaderboard")],
)  # fmt: skip
def test_a_shell_is_offered_names_without_torch(words: str, offered: str) -> None:
    completed(words)
    again = completed(words)
    assert offered in again and "torch" not in again


def test_the_command_can_install_it(bench_command) -> None:  # type: ignore[no-untyped-def]
    assert "--install-completion" in bench_command("--help").out
