"""docs/submitting.md: every command is run, in the page's order and in a folder of their own."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.records.store import Store
from bench.verifying.accuracy import LOSS, MARGIN
from bench.verifying.costs import PACKED

from .small_runs import finished as finished
from .small_runs import plan as plan
from .small_runs import store as store

PAGE = (Path(__file__).parents[1] / "docs" / "submitting.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)).splitlines()


@pytest.mark.usefixtures("quick_timing")
def test_the_page_can_be_followed(
    store: Store, image_folder: Path, bench_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store.root.parent)
    Path("photographs").symlink_to(image_folder)
    for command in COMMANDS:
        first, *words = shlex.split(command)
        if first == "bench":
            said = bench_command(*words)
            assert said.code == 0, (command, said)
        else:
            zipfile.main(words[2:])
    assert Store(Path("results/photographs")).records() == store.records()
    assert Path("report.md").read_text().startswith("### 3 trials: 3 verify.")
    assert {path.name for path in Path("results/photographs/records").glob("*/*")} >= {
        "model.safetensors",
        "layers.csv",
    }


def test_the_page_names_the_tolerances() -> None:
    assert f"at most {MARGIN:g} apart" in PAGE
    assert f"The loss may differ by {100 * LOSS:g}%" in PAGE
    assert f"within {PACKED:.0%}" in PAGE
