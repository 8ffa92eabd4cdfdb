"""docs/deploy.md: every command and script of the page is run, in a folder of their own and in the page's order."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bench
from bench.deploying import clean_process
from bench.deploying.predicting import predict

pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
NOT_RUN = ("pip ", "docker ")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def script() -> str:
    (found,) = (block for block in blocks("python") if "onnxruntime" in block)
    return found


def clean_python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A script in a process that refuses to import this package."""
    launcher = folder / "launcher.py"
    refuse = Path(clean_process.__file__).read_text().partition("def run_onnx")[0]
    launcher.write_text(
        f"{refuse}\nsys.meta_path.insert(0, Refusal)\nimport runpy\nsys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-I", str(launcher), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def done(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which the page was followed, and what each command printed."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(image_folder, folder / "photographs")
    (folder / "product").mkdir()
    (folder / "product" / "classify.py").write_text(script())
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "BENCH_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    printed = {}
    for block in blocks("bash"):
        for command in block.strip().splitlines():
            if not command.startswith(NOT_RUN):
                ran = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
                assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
                printed[command] = ran.stdout
    return folder, printed


def output_of(printed: dict[str, str], start: str) -> str:
    (found,) = (text for command, text in printed.items() if command.startswith(start))
    return found


def artifact_of(folder: Path, setting: str) -> Path:
    (record,) = (
        path for path in (folder / "runs" / "records").glob("*/record.json")
        if json.loads(path.read_text())["setting"] == setting
    )  # fmt: skip
    return record.parent / "model.safetensors"


def test_the_commands_of_the_page_run(done: tuple[Path, dict[str, str]]) -> None:
    folder, printed = done
    assert len(printed) >= 7
    for name in ("model.onnx", "model.pt2", "weights.safetensors"):
        assert (folder / "product" / name).is_file()
    assert (folder / "product" / "model.onnx").stat().st_size < 0.4 * (folder / "mine.safetensors").stat().st_size


def test_the_script_answers_as_the_artifact_does(done: tuple[Path, dict[str, str]]) -> None:
    """The same class, and the same probability to the hundredth of a percent or its neighbour."""
    folder, printed = done
    paths = [folder / "photographs" / "test" / name / "0.png" for name in ("up", "down")]
    network = bench.load(artifact_of(folder, "quantize(bits=8)"))
    lines = output_of(printed, "python product/classify.py").splitlines()
    for line, expected in zip(lines, predict(network, paths), strict=True):
        name, share = line.rpartition(": ")[2].split()
        assert name == expected.classes[0][0]
        assert abs(float(share.rstrip("%")) - 100 * expected.classes[0][1]) < 0.02


def test_the_script_prepares_photographs_as_this_package_does(tmp_path: Path, make_model: object) -> None:
    """Of any size, cropped or squashed, grey or colour."""
    import numpy as np
    from PIL import Image

    from bench.deploying.images import read_files
    from bench.networks.zoo import Preprocessing

    space: dict[str, object] = {}
    exec(script().replace("main(*sys.argv[1:])", ""), space)
    generator, paths = np.random.default_rng(0), []
    for index, (width, height) in enumerate([(90, 61), (33, 70), (64, 64), (47, 47)]):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    for channels, share, mode, filtered in [(3, 0.875, "center", "bicubic"), (1, 1.0, "squash", "bilinear")]:
        wanted = Preprocessing((channels, 32, 32), (0.4,) * channels, (0.2,) * channels, filtered, share, mode)
        facts = json.loads(json.dumps(vars(wanted)))
        ours = np.stack([space["prepare"](path, facts) for path in paths])  # type: ignore[operator]
        assert np.abs(ours - read_files(paths, wanted).numpy()).max() < 1e-5


def test_the_container_has_what_it_runs(done: tuple[Path, dict[str, str]]) -> None:
    """The packages that the script imports and the files that it reads, and its command works without this package."""
    folder, _ = done
    (recipe,) = blocks("dockerfile")
    installed = set(re.search(r"pip install --no-cache-dir (.*)", recipe)[1].split())  # type: ignore[index]
    imported = set(re.findall(r"^(?:import|from) (\w+)", script(), re.MULTILINE)) - set(sys.stdlib_module_names)
    assert {name.lower() for name in imported} == {"pil" if name == "pillow" else name for name in installed}
    copied = re.search(r"COPY (.*) \./", recipe)[1].split()  # type: ignore[index]
    assert all((folder / "product" / name).is_file() for name in copied)
    words = json.loads(re.search(r"ENTRYPOINT (.*)", recipe)[1])  # type: ignore[index]
    assert words[0] == "python" and set(words[1:]) <= set(copied)
    app = folder / "app"
    app.mkdir()
    for name in copied:
        shutil.copy(folder / "product" / name, app / name)
    (run,) = (line for block in blocks("bash") for line in block.splitlines() if line.startswith("docker run"))
    asked = shlex.split(run)[-1].replace("/photographs", str(folder / "photographs"))
    ran = clean_python(app, *words[1:], asked)
    assert ran.returncode == 0 and re.search(r": up \d", ran.stdout), ran.stdout + ran.stderr


def test_the_extra_that_the_page_installs_exists() -> None:
    (line,) = (line for block in blocks("bash") for line in block.splitlines() if line.startswith("pip install"))
    extra = re.search(r'"\.\[(\w+)\]"', line)[1]  # type: ignore[index]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"onnx", "onnxscript", "onnxruntime", "openvino"} == {
        re.split(r"\W", needed)[0] for needed in project["optional-dependencies"][extra]
    }
