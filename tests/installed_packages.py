"""Packages of other people, installed by their files and metadata."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.encodings.base import Encoding
from bench.plugins import registry

TWIN = """\
from dataclasses import dataclass

from bench import Method


@dataclass(frozen=True, kw_only=True)
class Twin(Method):
    name = "{name}"

    def compress(self, model, lab):
        return model
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Put files on the path with the metadata of a package: `install("pkg", {"pkg.py": ...}, methods="pkg")`."""
    before = set(sys.modules)

    def put(package: str, files: dict[str, str], **points: str) -> Path:
        site = tmp_path / f"site-{package}"
        information = site / f"{package}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        groups = [f"[bench.{group}]\n{package} = {value}\n" for group, value in points.items()]
        (information / "entry_points.txt").write_text("\n".join(groups))
        for name, text in files.items():
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(text)
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        forget()
        return site

    def forget() -> None:
        registry.methods.cache_clear()
        registry.datasets.cache_clear()

    yield put
    forget()
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    Encoding.kinds.pop("half-weight", None)
