"""Folders of images of noise, planted where a test wants them, and how they are opened."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from bench_datasets.folder import Folder
from PIL import Image

from bench import BenchError
from bench.networks.zoo import Preprocessing


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def draw(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", seed: int = 0) -> Path:
    """An image of noise, `size` wide and high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def plant(
    root: Path, parts: tuple[str, ...] = ("train", "test"), classes: str = "cat dog", count: int = 4, **how
) -> Path:
    """A tree of `count` PNG images a class."""
    for part in parts:
        for name in classes.split():
            for index in range(count):
                draw(root / part / name / f"{index}.png", seed=crc32(f"{part}{name}{index}".encode()), **how)
    return root


def opened(path: Path) -> Folder:
    return Folder.open(str(path), None)


def refusal(path: Path) -> str:
    with pytest.raises(BenchError) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def preprocessing(channels: int, size: int = 32, **how) -> Preprocessing:
    return Preprocessing(
        (channels, size, size), (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels], **how
    )
