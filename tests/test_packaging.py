"""What an installation brings, and who imports whom."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import bench

ROOT = Path(__file__).parents[1]


def python(code: str, cwd: Path, **environment: str) -> str:
    """What a plain interpreter prints, started there."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("place", ["elsewhere", "repository"])
def test_import_datasets_is_hugging_faces(place: str, tmp_path: Path) -> None:
    theirs = distribution("datasets").locate_file("datasets/__init__.py")
    code = "import datasets; print(datasets.__file__, datasets.Dataset.__module__)"
    found = python(code, ROOT if place == "repository" else tmp_path, HF_HUB_OFFLINE="1")
    assert found == f"{theirs} datasets.arrow_dataset"


def test_plugin_folders_are_no_packages() -> None:
    assert not list(ROOT.glob("methods/**/__init__.py")) and not (ROOT / "datasets" / "__init__.py").exists()


def test_our_plugins_come_by_entry_points() -> None:
    for group, module in (("bench.methods", "bench_methods"), ("bench.datasets", "bench_datasets")):
        values = {point.value for point in entry_points(group=group) if point.dist.name == "cnn-compression-bench"}
        assert values == {module}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the working tree."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("bench", "methods", "datasets"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", source]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_a_wheel_holds_everything_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.split("/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
        points = archive.read(about["entry_points.txt"]).decode()
        metadata = archive.read(about["METADATA"]).decode()
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in (("bench", "bench"), ("methods", "bench_methods"), ("datasets", "bench_datasets"))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert {
        f"bench/leaderboard/pages/{name}"
        for name in ("base.html", "board.html", "setting.html", "board.css", "board.js")
    } <= names
    assert {"bench/py.typed", "bench/__init__.pyi", "bench_methods/tic.py", "bench_datasets/folder.py"} <= names
    assert {f"bench/weights/resnet20-fashion-mnist.{kind}" for kind in ("safetensors", "json")} <= names
    images = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    embedded = {f"bench_datasets/fashion_mnist/{name}-ubyte.gz" for name in images}
    assert embedded | {"bench_datasets/fashion_mnist/LICENSE"} <= names
    assert "bench = bench.cli.commands:main" in points
    assert "[bench.methods]\ncnn-compression-bench = bench_methods" in points
    assert "[bench.datasets]\ncnn-compression-bench = bench_datasets" in points
    assert "Name: cnn-compression-bench\n" in metadata and "Requires-Python: >=3.11\n" in metadata
    assert {"licenses/LICENSE", "licenses/datasets/fashion_mnist/LICENSE"} <= about.keys()


def test_a_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = """
import bench, bench_datasets
from bench.plugins import registry
from bench.plugins.registry import open_dataset
data = open_dataset("fashion-mnist")
print(bench.__file__, list(bench_datasets.__path__)[0])
print(*registry.methods())
print(tuple(data.load("test").images.shape), len(data.split("train")) + len(data.split("tuning")))
"""
    said = python(code, tmp_path, PYTHONPATH=str(tmp_path / "site")).splitlines()
    site = tmp_path / "site"
    assert said[0] == f"{site / 'bench' / '__init__.py'} {site / 'bench_datasets'}"
    assert {"kse", "l1", "none", "random", "tic"} <= set(said[1].split())
    assert said[2] == "(10000, 1, 32, 32) 60000"


ALONE = "clean_process.py"
"""A script that must not import this package, so that it asks timm itself."""


def modules(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Every module a file imports, wherever in it, and the name it takes from there (None: the module itself)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


@pytest.mark.parametrize("path", modules("methods") + modules("datasets"), ids=lambda path: path.name)
def test_plugins_import_only_what_bench_makes_public(path: Path) -> None:
    used = [
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bench"
    ]
    for module, name in imports(path):
        top = module.split(".")[0]
        assert top not in ("", "methods", "datasets"), f"{module}: plugins do not import each other"
        if top in ("bench_methods", "bench_datasets"):
            assert module.startswith(f"{top}._"), f"{module}: only what they share, which begins with _"
            assert top.removeprefix("bench_") in path.parts
        if top == "bench":
            assert module == "bench", f"{module}: not public"
            used += [] if name is None else [name]
    assert set(used) <= set(bench.__all__)


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("timm", {"networks"}),
        ("pytorchcv", {"networks"}),
        ("mlflow", {"tracking"}),
        ("torch_pruning", {"pruning"}),
        ("ray", {"trials"}),
        ("bench_methods", set()),
        ("bench_datasets", set()),
        ("methods", set()),
        ("datasets", set()),
    ],
)
def test_one_module_knows_each_library_and_none_a_plugin(library: str, homes: set[str]) -> None:
    assert {
        path.relative_to(ROOT / "bench").parts[0]
        for path in modules("bench")
        for module, _ in imports(path)
        if module.split(".")[0] == library and path.name != ALONE
    } == homes


def test_ray_is_imported_by_its_own_modules_alone() -> None:
    users = {path.name for path in modules("bench") for module, _ in imports(path) if module.split(".")[0] == "ray"}
    assert users and all(name.startswith("ray_") for name in users)


def test_bench_imports_itself_by_full_names() -> None:
    relative = [(path.name, module) for path in modules("bench") for module, _ in imports(path) if module[:1] == "."]
    assert relative == []


def test_every_public_name_is_there_for_people_and_for_type_checkers() -> None:
    typed = {name for _, name in imports(ROOT / "bench" / "__init__.pyi")}
    assert sorted(typed) == sorted(bench.__all__) and typed <= set(dir(bench))
    assert all(getattr(bench, name) is not None for name in typed)
    with pytest.raises(AttributeError, match="nothing"):
        _ = bench.nothing


def test_imports_between_rooms_only_go_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=None) == 0


def test_importing_bench_costs_nothing(tmp_path: Path) -> None:
    code = "import sys, bench; print(*sorted({'torch', 'timm', 'pandas', 'mlflow', 'numpy'} & set(sys.modules)))"
    assert python(code, tmp_path) == ""
