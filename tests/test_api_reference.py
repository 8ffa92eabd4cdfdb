"""The API reference: `python docs/api.py` writes a page with an entry for every public name, and each is explained."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import bench

ROOT = Path(__file__).parents[1]
ALIASES = {"Criterion", "KeepAtLeast", "LayerRanges", "Layers", "Rate", "Rates", "RoundTo", "Skip", "Tied"}
"""Other names for types, which have no docstring of their own; the reference shows what they stand for."""


@pytest.mark.parametrize("name", bench.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = getattr(bench, name)
    if name in ALIASES:
        assert not inspect.isclass(value) and not inspect.isfunction(value)
    else:
        assert (value.__doc__ or "").strip().endswith((".", "`", ")")), name
        assert not value.__doc__.startswith(f"{name}("), "a docstring that dataclasses made"


@pytest.mark.parametrize("name", [name for name in bench.__all__ if inspect.isclass(getattr(bench, name))])
def test_public_methods_are_explained(name: str) -> None:
    for own, value in vars(getattr(bench, name)).items():
        if not own.startswith("_") and isinstance(value, FunctionType | property | classmethod):
            assert inspect.getdoc(getattr(getattr(bench, name), own)), f"{name}.{own}"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("pdoc")
    folder = tmp_path_factory.mktemp("site")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "api.py"), str(folder)], cwd=folder, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.strip()).read_text(encoding="utf-8")


def test_every_public_name_has_an_entry_with_its_docstring(page: str) -> None:
    for name in bench.__all__:
        entry = page.partition(f'<section id="{name}">')[2].partition("</section>")[0]
        assert entry, name
        shown = 'class="docstring"' in entry
        assert shown or name in ALIASES, f"{name} has an entry without a docstring"


def test_the_overview_names_everything_once(page: str) -> None:
    overview: Any = bench.__doc__
    named = re.findall(r"`(\w+)`", overview.partition("**Run and read**")[2])
    assert sorted(named) == sorted(bench.__all__)


def test_the_page_needs_nothing_from_the_network(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?:https?:)?//(?!arxiv|doi|en.wikipedia|github|pdoc)[^"]*', page)
