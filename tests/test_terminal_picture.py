"""docs/terminal.svg, the picture in the README, shows what the commands print now."""

from __future__ import annotations

import html
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "terminal.py"


def letters(text: str) -> str:
    return re.sub(r"\s", "", text)


def test_the_picture_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("terminal", SCRIPT)
    assert spec and spec.loader
    terminal = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(terminal)
    picture = terminal.PICTURE.read_text(encoding="utf-8")
    lines = re.findall(r'<text class="terminal-r\d+" [^>]*>(.*?)</text>', picture)
    shown = letters(html.unescape("".join(lines)).replace("\xa0", " "))
    for command in terminal.COMMANDS:
        assert letters(f"$ {command}") in shown, "run python docs/terminal.py"
        said = re.sub(r"\x1b\[[\d;]*m", "", terminal.printed(command))
        assert letters(said) in shown, "run python docs/terminal.py"


def test_it_loads_nothing_and_the_readme_shows_it() -> None:
    picture = (ROOT / "docs" / "terminal.svg").read_text(encoding="utf-8")
    assert "url(" not in picture.replace("url(#", "") and "@font-face" not in picture
    assert "](docs/terminal.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")
