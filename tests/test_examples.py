"""docs/examples/: the scripts and the notebook run offline, and the notebook holds what its cells printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Said

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
STORE = ROOT / "results" / "fashion-mnist"


def run(script: str, *words: object, folder: Path) -> str:
    """What a script prints when it is run in a folder of its own."""
    command = [sys.executable, str(EXAMPLES / script), *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BENCH_CACHE": str(folder / "cache")}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def photographs(image_folder: Path, tmp_path: Path) -> Path:
    """Larger than 64 pixels, so that they stay files, as photographs do; an eighth of them for testing."""
    for path in image_folder.rglob("*.png"):
        place = tmp_path / "photographs" / path.relative_to(image_folder).with_suffix(".jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((96, 80)).save(place)
    return tmp_path / "photographs"


@pytest.mark.slow
def test_a_network_of_ones_own_on_photographs(photographs: Path, tmp_path: Path) -> None:
    printed = run("own_network.py", photographs, "--size", 32, folder=tmp_path)
    header, *rows, saved = printed.splitlines()
    assert header.split()[:3] == ["setting", "top1", "compression_ratio"] and len(rows) == 5
    assert all(line.split()[-1] in ("None", "NaN") for line in rows), "no error"
    assert (tmp_path / "runs" / "records").is_dir()
    told = re.fullmatch(r"net\.safetensors: ([\d,]+) bytes, (\S+|.+\)), top-1 (0|1)\.\d{3}", saved)
    assert told and int(told[1].replace(",", "")) == (tmp_path / "net.safetensors").stat().st_size


def test_the_smallest_file_is_the_board_s(tmp_path: Path, bench_command: Callable[..., Said]) -> None:
    printed = run("smallest_within_a_point.py", STORE, folder=tmp_path)
    by_mean, by_interval = re.findall(r"smallest file within 1 points, (.+):\n  (.+)", printed)
    asked = bench_command(
        "leaderboard", "--store", STORE, "--max", "drop=1", "--sort", "size", "--format", "csv"
    ).out.splitlines()
    place = asked[0].split(",").index("setting")
    assert asked[1].split(",")[place].strip('"') in by_mean[1]
    lost = [float(re.search(r"at most ([\d.]+)", line)[1]) for line in (by_mean[1], by_interval[1])]  # type: ignore[index]
    assert lost[1] <= 1 < lost[0]


def test_the_committed_notebook_shows_what_its_cells_printed() -> None:
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(EXAMPLES / "own_network.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    text = str(notebook)
    assert not re.search(r"/(tmp|home|root|work)/", text), "no path of the machine that ran it"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(EXAMPLES / "own_network.ipynb", as_version=4)
    committed = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    client(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    ran = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert list(map(shapes, ran)) == list(map(shapes, committed)), "run it again and commit it"
    assert "True" in str(ran[-1])


def shapes(outputs: list[dict[str, object]]) -> list[object]:
    """What outputs have in common on every machine: their kinds, and their words without numbers; not the progress."""
    told = []
    for output in outputs:
        data = output.get("data", {})
        if output["output_type"] == "display_data" and "image/png" not in data:  # type: ignore[operator]
            continue
        text = output.get("text") or data.get("text/plain", "")  # type: ignore[attr-defined]
        told.append((output["output_type"], re.sub(r"-?[\d.,]+|True|False|\s+|\\", " ", str(text)).split()))
    return told
