"""What the pages load: libraries and our own scripts and styles. Together they stay below 2 MB."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

TEMPLATES = files("bench.leaderboard") / "pages"
PLOTLY = "plotly-basic.min.js"
"""Plotly's own bundle of scatter, bar and pie charts, a quarter of the whole library, as its authors publish it."""
SCRIPTS = ("theme.js", "datatables.js", "ask.js", "charts.js", "chart_tools.js", "board.js", PLOTLY)
"""In the order in which they load: Plotly, which is large, comes last."""
STYLES = ("board.css", "parts.css", "print.css")


@cache
def assets() -> dict[str, str]:
    """The text of every script and style by its name."""
    own = [*STYLES, *(name for name in SCRIPTS if name != "datatables.js")]
    return {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in own} | {"datatables.js": _data_tables()}


def _data_tables() -> str:
    """DataTables as itables ships it, turned into a plain script, because browsers load no module from a file."""
    source = (files("itables") / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    script, exports = re.subn(r"\bexport\s*\{[^}]*?([\w$]+) as default[^}]*\};?", r"window.DataTable = \1;", source)
    if exports != 1:
        raise RuntimeError("this version of itables ships DataTables in an unknown form; version 2.9 works")
    return f'(() => {{ "use strict";\n{script}\n}})();\n'
