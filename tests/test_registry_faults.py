"""Plugins that fail, exit, print or are interrupted: named in one line, and the others work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.plugins import registry

from .installed_packages import TWIN
from .installed_packages import install as install


@pytest.mark.parametrize(
    ("files", "point", "told"),
    [
        (
            {"sick.py": "import no_such_library"},
            "sick",
            r"plugin 'sick' \(sick\) of the package sick cannot be imported: .*no_such_library",
        ),
        (
            {"sick.py": "def broken("},
            "sick",
            r"plugin 'sick' \(sick\) of the package sick cannot be imported: SyntaxError",
        ),
        ({}, "sick", r"plugin 'sick' \(sick\) of the package sick cannot be imported: ModuleNotFoundError"),
        (
            {"sick.py": "Method = 3"},
            "sick:Method",
            r"plugin 'sick' \(sick:Method\) of the package sick is not a Method with a name",
        ),
        (
            {"sick.py": "from bench import Method"},
            "sick:Method",
            r"plugin 'sick' \(sick:Method\) of the package sick is not a Method",
        ),
    ],
)
def test_a_plugin_that_fails_warns_and_the_others_work(
    files: dict[str, str], point: str, told: str, install: Callable[..., Path]
) -> None:
    install("sick", files, methods=point)
    with pytest.warns(UserWarning, match=told):
        assert {"none", "tic"} <= registry.methods().keys()


def test_a_broken_file_in_a_folder_takes_only_itself_away(install: Callable[..., Path]) -> None:
    files = {
        "folder/__init__.py": "",
        "folder/broken.py": "import no_such_library",
        "folder/whole.py": TWIN.format(name="whole"),
        "folder/_hidden.py": TWIN.format(name="hidden"),
    }
    install("folder", files, methods="folder")
    with pytest.warns(UserWarning, match=r"plugin folder\.broken of the package folder cannot be imported") as warned:
        found = registry.methods()
    assert "whole" in found and "hidden" not in found and len(warned) == 1


@pytest.mark.filterwarnings("default")
def test_the_command_line_says_a_warning_in_one_line(
    install: Callable[..., Path], bench_command: Callable[..., Any]
) -> None:
    install("sick", {"sick.py": "import no_such_library"}, methods="sick")
    said = bench_command("list", "methods")
    assert said.code == 0 and "tic" in said.out
    assert (
        said.err.startswith("warning: plugin 'sick' (sick) of the package sick cannot be imported")
        and said.err.count("\n") == 1
    )


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(3)", "of the package sick cannot be imported: SystemExit(3)"),
        ("class Stop(BaseException): pass\nraise Stop", "of the package sick cannot be imported: Stop()"),
        ("raise RuntimeError('\\x1b[2J')", r"of the package sick cannot be imported: RuntimeError('\x1b[2J')"),
        ("import warnings; warnings.warn('old')", "(sick) of the package sick: old"),
    ],
)
def test_a_plugin_that_exits_raises_or_warns_is_named_and_the_others_work(
    code: str, told: str, install: Callable[..., Path], bench_command: Callable[..., Any]
) -> None:
    install("sick", {"sick.py": code}, methods="sick")
    said = bench_command("list", "methods")
    assert said.code == 0 and "tic" in said.out
    assert told in said.err and said.err.startswith("warning: plugin 'sick'") and said.err.count("\n") == 1


def test_what_a_plugin_prints_is_not_among_the_figures(
    install: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    install("loud", {"loud.py": "print('hello')\n" + TWIN.format(name="loud")}, methods="loud")
    assert "loud" in registry.methods()
    assert capsys.readouterr() == ("", "hello\n")


def test_an_interrupt_while_a_plugin_is_imported_ends_the_command(install: Callable[..., Path]) -> None:
    install("slow", {"slow.py": "raise KeyboardInterrupt"}, methods="slow")
    with pytest.raises(KeyboardInterrupt):
        registry.methods()
