"""Archives of images: unpacked once and whole, or refused with nothing left behind."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_datasets import _archive

from .planted_images import cache as cache
from .planted_images import draw, opened, plant, refusal


def pack(root: Path, archive: Path, prefix: str = "") -> Path:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(root.rglob("*.png")):
                zipped.write(path, f"{prefix}{path.relative_to(root)}")
        return archive
    compression = "" if archive.suffix == ".tar" else archive.suffix[1:]
    with tarfile.open(archive, f"w:{compression}") as tar:
        tar.add(root, prefix or ".")
    return archive


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])
@pytest.mark.parametrize("prefix", ["", "top/"])
def test_archives(suffix: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    root = plant(tmp_path / "pets")
    archive = pack(root, tmp_path / f"my.pets-v1.{suffix}", prefix)
    dataset = opened(archive)
    assert dataset.title == "my.pets-v1" and dataset.digest == opened(root).digest
    monkeypatch.setattr(_archive, "unpack", lambda *args: pytest.fail("unpacked again"))
    assert len(opened(archive).split("test")) == 8
    assert len(list((cache / "unpacked").iterdir())) == 1


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])
def test_cut_archives_leave_nothing(suffix: str, tmp_path: Path, cache: Path) -> None:
    whole = pack(plant(tmp_path / "pets", count=12), tmp_path / f"whole.{suffix}").read_bytes()
    cuts = range(512, len(whole) - 10_240, 1536) if suffix == "tar" else (len(whole) // 2, len(whole) * 9 // 10)
    for cut in cuts:
        (tmp_path / f"cut.{suffix}").write_bytes(whole[:cut])
        assert f"cut.{suffix} cannot be unpacked" in refusal(tmp_path / f"cut.{suffix}")
    assert not list((cache / "unpacked").iterdir())


def test_killed_unpacking_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    archive = pack(plant(tmp_path / "pets"), tmp_path / "pets.tar")
    complete = _archive.contents

    def killed(raw: io.BufferedReader, left_out: object) -> Iterator[object]:
        yield next(iter(complete(raw, left_out)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_archive, "contents", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(archive)
    assert len(opened(archive).split("test")) == 8


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "train/../../evil.png"])
def test_archives_write_only_below_their_folder(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as zipped:
        zipped.writestr(name, "")
    for suffix in ("tar", "zip"):
        assert "lies outside it" in refusal(tmp_path / f"evil.{suffix}")


def test_links_and_programs_are_not_unpacked(tmp_path: Path, cache: Path) -> None:
    root = plant(tmp_path / "pets")
    (root / "run.sh").write_text("")
    (root / "test/cat/link.png").symlink_to("/etc/passwd")
    assert len(opened(pack(root, tmp_path / "pets.tar")).split("test")) == 8
    assert {path.suffix for path in cache.rglob("unpacked/**/*") if path.is_file()} == {".png", ".json"}


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    assert ".tar.xz" in refusal(draw(tmp_path / "cat.png"))
    (tmp_path / "nothing.tar").touch()
    assert ".tar.xz" in refusal(tmp_path / "nothing.tar")


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "pets")
    archive = pack(root, tmp_path / "pets.tar")
    monkeypatch.setenv("BENCH_CACHE", str(archive / "cache"))
    assert len(opened(root).split("test")) == 8
    assert "cannot be unpacked into" in refusal(archive)
