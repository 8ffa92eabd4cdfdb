"""Suites that a test writes, and what is read from them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.trials.run import Plan
from bench.trials.suite import load_suite

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A suite of that content."""

    def write(text: str) -> Path:
        path = tmp_path / "some.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def load(path: Path) -> list[Plan]:
    return load_suite(path, device=torch.device("cpu"), command="bench run --suite some.yaml")


def settings(plan: Plan) -> list[str]:
    return [str(setting) for setting in plan.settings]
