"""Draw docs/terminal.svg, the picture in the README, from what the commands print: python docs/terminal.py"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "terminal.svg"
WIDTH = 100
COMMANDS = (
    "bench leaderboard --store results/fashion-mnist --max drop=0.6 --min size=6 --sort size",
    'bench compare "quantize(bits=4)" "tic(k=3345)+quantize(bits=8)" --store results/fashion-mnist',
)


def printed(command: str) -> str:
    """What a command prints on a terminal of this width, with its colours."""
    words = [str(Path(sys.executable).with_name("bench")), *shlex.split(command)[1:]]
    environment = os.environ | {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout


def main() -> None:
    screen = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    for command in COMMANDS:
        screen.print(f"$ {command}", style="bold", markup=False)
        screen.print(Text.from_ansi(printed(command)))
    picture = screen.export_svg(title="bench", theme=DEFAULT_TERMINAL_THEME, unique_id="terminal")
    picture = re.sub(r"\s*@font-face \{[^}]*\}", "", picture)  # they would be loaded from the network
    PICTURE.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
