"""Image files of two classes, in folders and tar archives as a test wants them, and how they are opened."""

from __future__ import annotations

import io
import tarfile
import warnings
from pathlib import Path

import pytest
from PIL import Image

from bench.data.dataset import Dataset
from bench.plugins.registry import open_dataset
from bench.system.errors import BenchError


def png(value: int = 0, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (value % 256, 3 * value % 256, 7)).save(buffer, "png")
    return buffer.getvalue()


IMAGES = {
    f"{part}/{name}/{index}.png": png(100 * (part == "test") + 10 * number + index)
    for part, count in (("train", 4), ("test", 2))
    for number, name in enumerate(("cat", "dog"))
    for index in range(count)
}


def write_folder(root: Path, files: dict[str, bytes] = IMAGES) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def entry(name: str, content: bytes = b"", **facts: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, content


def write_tar(path: Path, *more: tuple[tarfile.TarInfo, bytes], files: dict[str, bytes] = IMAGES) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, content in [*(entry(name, content) for name, content in files.items()), *more]:
            tar.addfile(info, io.BytesIO(content))
    return path


def opened(path: Path) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_dataset(f"folder:{path}")


def refusal(path: Path) -> str:
    with pytest.raises(BenchError) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)
