"""Small images and photographs to train baselines on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bench.data.dataset import Dataset
from bench.plugins.registry import open_dataset


@pytest.fixture
def dataset(image_folder: Path) -> Dataset:
    return open_dataset(f"folder:{image_folder}")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two classes of 96x80 photographs, dark and bright, which stay files: 8 to train with, 4 to test, each."""
    root = tmp_path / "photographs"
    for part, count in (("train", 8), ("test", 4)):
        for level, name in ((40, "dark"), (200, "bright")):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (96, 80), (level + index, len(part), level)).save(root / part / name / f"{index}.png")
    return root
