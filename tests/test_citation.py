"""CITATION.cff is what tools that read it expect, and names the version of the package."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_it_has_what_the_format_requires() -> None:
    """https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md"""
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert (CITATION["cff-version"], CITATION["type"]) == ("1.2.0", "software")
    assert CITATION["authors"] == [{"name": "The cnn-compression-bench authors"}]  # an entity, not a person
    assert isinstance(CITATION["date-released"], date)


def test_it_says_what_the_package_says() -> None:
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert " ".join(CITATION["abstract"].split()) == PROJECT["description"]
