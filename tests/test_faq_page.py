"""docs/faq.md: its commands are run in the page's order, its figures computed again, and its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import t

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
NOT_RUN = ("bench find",)
COMMANDS = [
    line
    for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if not line.startswith(NOT_RUN)
]
CHECK, NET = (
    "check",
    """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__(
            nn.Conv2d(in_chans, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
        )
""",
)


@pytest.mark.slow
def test_every_command_of_the_page_runs(image_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(image_folder, tmp_path / "photographs")
    (tmp_path / "nets.py").write_text(NET)
    (tmp_path / "results").symlink_to(ROOT / "results")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BENCH_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    printed = {}
    for command in COMMANDS:
        ran = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        printed[command] = ran.stdout
    found = {command: out for command, out in printed.items() if command.startswith("bench verify")}
    assert all("verify" in out or "verifies" in out for out in found.values()) and found
    assert "formula_ratio" in printed[COMMANDS[0]] and "kernel_ratio" in printed[COMMANDS[0]]
    (dry,) = (out for command, out in printed.items() if "--dry-run" in command)
    assert "to run" in dry


def test_the_ratios_are_those_of_the_records() -> None:
    setting, kernel, formula, size = re.search(  # type: ignore[union-attr]
        r"For `(.+?)` in our results, `kernel_ratio` .+? is ([\d.]+), .+? ([\d.]+) and `compression_ratio` ([\d.]+)\.",
        " ".join(PAGE.split()),
    ).groups()
    records = [json.loads(path.read_text()) for path in (ROOT / "results" / "fashion-mnist").rglob("record.json")]
    own = [record for record in records if record["setting"] == setting]
    assert own
    for name, told in (("kernel_ratio", kernel), ("formula_ratio", formula), ("compression_ratio", size)):
        assert f"{sum(record[name] for record in own) / len(own):.2f}" == told


def test_the_widths_of_intervals_are_those_of_student_s_t() -> None:
    assert "it is 6.4 times the difference" in " ".join(PAGE.split()) and f"{t.ppf(0.975, 1) / 2:.1f}" == "6.4"
    assert "with three it is 2.5 times the standard deviation, with five 1.2 times" in " ".join(PAGE.split())
    for seeds, factor in ((3, "2.5"), (5, "1.2")):
        assert f"{t.ppf(0.975, seeds - 1) / seeds**0.5:.1f}" == factor


def test_links_lead_to_files_and_headings() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, heading = target.partition("#")
        place = (ROOT / "docs" / path).resolve() if path else ROOT / "docs" / "faq.md"
        assert place.exists(), target
        titles = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_there_are_ten_to_twenty_questions_with_an_answer_each() -> None:
    answers = re.split(r"^### .+\?$|^### .+\.$", PAGE, flags=re.MULTILINE)[1:]
    assert 10 <= len(answers) <= 20 and all(len(answer.split()) > 15 for answer in answers)
