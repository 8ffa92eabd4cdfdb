"""What plugins declare is read from the cache, until their code or what is installed changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.plugins import declared, registry
from bench.system.remembered import remembered

from .installed_packages import TWIN
from .installed_packages import install as install
from .test_cli_output import imported


def test_listings_import_no_plugin_a_second_time() -> None:
    for words in (["list", "methods"], ["list", "datasets"], ["show", "tic"]):
        imported(*words)
        assert imported(*words) == set()


@pytest.fixture
def known(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """The summaries of a package's methods as a new process would read them."""
    monkeypatch.setattr(registry, "faults", [])
    install("mine", {"mine/__init__.py": "", "mine/one.py": TWIN.format(name="one")}, methods="mine")

    def read() -> dict[str, str]:
        return {name: about.summary for name, about in declared.methods().items()}

    return read


def found_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry whenever methods are imported to find out what they declare."""
    calls: list[str] = []
    find = declared._find_methods
    monkeypatch.setattr(declared, "_find_methods", lambda: (calls.append(""), find())[1])
    return calls


def test_a_changed_file_and_a_new_one_are_seen(
    known: Callable[[], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = found_anew(monkeypatch)
    assert "one" in known() and known() and len(anew) == 1
    file = tmp_path / "site-mine" / "mine" / "one.py"
    os.utime(file, (1, 1))
    assert known() and known() and len(anew) == 2
    file.with_name("two.py").write_text(TWIN.format(name="two"))
    registry.methods.cache_clear()
    assert "two" in known() and known() and len(anew) == 3


def test_a_newly_installed_package_is_seen(
    known: Callable[[], dict[str, str]], install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    known()
    install("other", {"other.py": TWIN.format(name="other")}, methods="other")
    assert {"one", "other"} <= known().keys()


def test_a_plugin_that_cannot_be_imported_is_named_every_time(
    install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "faults", [])
    install("sick", {"sick.py": "import no_such_library"}, methods="sick")
    for _ in range(2):
        registry.methods.cache_clear()
        with pytest.warns(UserWarning, match="plugin 'sick'"):
            assert "tic" in declared.methods()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"installed": 1}', b'{"files": 3}', b"\xff"])
def test_a_damaged_cache_is_found_anew(content: bytes, own_cache: Path) -> None:
    answers: list[Any] = []

    def find() -> tuple[Any, set[str]]:
        answers.append(len(answers))
        return answers[-1], set()

    assert remembered("fact", find) == remembered("fact", find) == 0
    for file in (own_cache / "remembered").iterdir():
        file.write_bytes(content)
    assert remembered("fact", find) == 1


def test_a_cache_that_cannot_be_written_does_no_harm(own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert remembered("fact", lambda: (3, set())) == 3
