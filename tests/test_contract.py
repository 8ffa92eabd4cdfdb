"""The contract tests from outside: on a package that is only installed, made of what CONTRIBUTING.md shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^`(\w+/\w+\.py)`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))

CARELESS = '''\
"""`careless`: ignores the seed and the budget."""

from dataclasses import dataclass

import torch
from bench import Lab, Method, remove_lowest


@dataclass(frozen=True, kw_only=True)
class Careless(Method):
    """Removes filters by numbers that no seed fixes, and never trains."""

    name = "careless"
    paper = "Nobody: Nothing, 2026"
    count = 0

    def compress(self, model, lab):
        Careless.count += 1
        generator = torch.Generator().manual_seed(Careless.count)
        remove_lowest(model, lab, lambda group: torch.rand(group.channels, generator=generator), rates=0.5)
        return model
'''


CARELESS_DATASET = (
    EXAMPLES["my_package/stripes.py"].replace(".manual_seed(seed)", "").replace("std = (0.25,)", "std = (64,)")
)
CARELESS_DATASET = CARELESS_DATASET.replace("generator = torch.Generator()", "generator = None")
"""The example with noise that no seed fixes, and a deviation in levels from 0 to 255."""
DATASET_TESTS = 7


def installed(site: Path, files: dict[str, str], points: dict[str, dict[str, str]]) -> Path:
    """A folder with a package and its metadata, as pip leaves them."""
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    information = site / "outside-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    groups = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in named.items()) for group, named in points.items()]
    (information / "entry_points.txt").write_text("\n".join(groups))
    return site


def contract(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`pytest --pyargs bench.testing`, in a folder that is no clone."""
    folder = site.parent / "elsewhere"
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "bench.testing",
        "-q",
        "-rsf",
        "-p",
        "no:cacheprovider",
        *words,
    ]
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The three examples of the page, with the entry points that it shows."""
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    points: dict[str, Any] = tomllib.loads(toml)["project"]["entry-points"]
    return installed(tmp_path / "site", {"my_package/__init__.py": "", **EXAMPLES}, points)


def test_the_page_shows_a_method_an_encoding_and_a_dataset() -> None:
    assert list(EXAMPLES) == ["my_package/slimming.py", "my_package/int8.py", "my_package/stripes.py"]


def test_the_examples_keep_the_contract(package: Path) -> None:
    ended = contract(package, "-k", "slimming or int8 or stripes")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped|failed|error)", ended.stdout)}
    refused = re.findall(
        r"^SKIPPED \[(\d+)\] .*: refused: slimming\(rate=0.5\): no filter that can", ended.stdout, re.MULTILINE
    )
    refusals = sum(map(int, refused))
    assert counts.get("skipped", 0) == refusals <= 6
    assert counts["passed"] + refusals >= 2 * (12 + 5 + 6) + DATASET_TESTS, ended.stdout


def test_the_examples_run_together(package: Path, tmp_path: Path) -> None:
    """The method and the encoding in one pipeline, on the dataset, by the command line."""
    words = [
        "run",
        "--methods",
        "slimming+int8",
        "--models",
        "resnet20",
        "--dataset",
        "stripes",
        "--weights",
        "scratch",
    ]
    words += ["--epochs", "1", "--no-tracking", "--store", str(tmp_path / "store")]
    ended = subprocess.run(
        [sys.executable, "-c", "from bench.cli.commands import main; main()", *words],
        env=os.environ | {"PYTHONPATH": str(package)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_dataset_that_breaks_the_contract_fails_it(tmp_path: Path) -> None:
    points = {"bench.datasets": {"stripes": "careless"}}
    site = installed(tmp_path / "site", {"careless.py": CARELESS_DATASET}, points)
    ended = contract(site, "-k", "stripes")
    assert ended.returncode == 1, ended.stdout
    assert sorted(re.findall(r"^FAILED .*::(\w+)\[stripes\]", ended.stdout, re.MULTILINE)) == [
        "test_mean_and_std_are_of_pixels_between_0_and_1",
        "test_opened_twice_it_has_the_same_content",
    ]
    assert f"2 failed, {DATASET_TESTS - 2} passed" in ended.stdout


def test_a_method_that_breaks_the_contract_fails_it(tmp_path: Path) -> None:
    points = {"bench.methods": {"careless": "careless"}}
    site = installed(tmp_path / "site", {"careless.py": CARELESS}, points)
    ended = contract(site, "-k", "careless and (seed or budget or explained)")
    assert ended.returncode == 1, ended.stdout
    assert sorted(re.findall(r"^FAILED .*::(\w+)\[careless\]", ended.stdout, re.MULTILINE)) == [
        "test_a_seed_gives_the_same_network_twice",
        "test_the_budget_is_spent_and_never_exceeded",
    ]
    assert "2 failed, 1 passed" in ended.stdout
