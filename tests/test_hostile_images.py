"""Image folders and archives as strangers make them: refused in one line, with nothing run, left or written outside."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from bench_datasets import _archive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.system.errors import BenchError

from .image_files import IMAGES, entry, opened, png, refusal, write_folder, write_tar


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_header_larger_than_any_name_is_refused(form: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("x" * 1_000_001))
    assert re.search(r"a header in it has 1,000,\d+ bytes, expected at most 1,000,000$", refusal(tmp_path / "a.tar"))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_entries_are_counted_whether_they_are_images_or_not(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"images.{kind}"
    if kind == "tar":
        write_tar(path, entry("a.txt"))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (IMAGES | {"a.txt": b""}).items():
                archive.writestr(name, content)
    monkeypatch.setattr(_archive, "LIMITS", _archive.Limits(entries=len(IMAGES)))
    assert refusal(path).endswith("it has more than 12 entries")
    monkeypatch.setattr(_archive, "LIMITS", _archive.Limits(entries=len(IMAGES) + 1))
    assert len(opened(path).load("train")) == 8


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("train/other/0.png", png())
    path = write_tar(tmp_path / "images.tar", entry("inner.zip", inner.getvalue().ljust(1024, b"\0")))
    content = path.read_bytes()
    path.write_bytes(content + inner.getvalue() + bytes(512))
    assert zipfile.is_zipfile(path)
    assert opened(path).classes == ("cat", "dog")


def test_zip_names_that_are_no_text_and_encrypted_files_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("train/\u00e4/0.png", png())
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(content.replace("\u00e4".encode(), b"\xff\xff"))
    assert refusal(tmp_path / "b.zip").endswith("cannot be unpacked: a name in it is marked as UTF-8 and is not")
    at = content.index(b"PK\x01\x02") + 8
    (tmp_path / "c.zip").write_bytes(content[:at] + bytes([content[at] | 1]) + content[at + 1 :])
    assert refusal(tmp_path / "c.zip").endswith("'train/\u00e4/0.png' is encrypted")


def test_a_negative_size_is_refused_at_once(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "negative.tar", entry("x.txt", bytes(512)))
    content = bytearray(path.read_bytes())
    at = content.index(b"x.txt")
    content[at + 124 : at + 136] = b"\xff" * 10 + b"\xfe\x00"  # -512 in base 256
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    path.write_bytes(content)
    assert "the size of 'x.txt' is negative" in refusal(path)


def test_a_bomb_is_refused_and_leaves_nothing(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_archive, "LIMITS", _archive.Limits(ratio=100, least=1_000_000))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/0.png", bytes(50_000_000))
    assert "it unpacks to more than its size allows" in refusal(tmp_path / "bomb.zip")
    monkeypatch.setattr(_archive, "LIMITS", _archive.Limits(files=5))
    assert "it holds more than 5 images" in refusal(write_tar(tmp_path / "many.tar"))
    assert list((own_cache / "unpacked").iterdir()) == []


@pytest.mark.parametrize("name", ["../out.png", "/out.png", "train/../../out.png"])
def test_nothing_is_written_outside(name: str, tmp_path: Path, own_cache: Path) -> None:
    assert "which lies outside it" in refusal(write_tar(tmp_path / "out.tar", entry(name, png())))
    assert not list(tmp_path.rglob("out.png"))


def test_a_picture_that_is_no_picture_starts_no_program(tmp_path: Path) -> None:
    files = IMAGES | {"train/cat/e.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"}
    told = refusal(write_folder(tmp_path / "images", files))
    assert told.startswith(f"image {tmp_path / 'images/train/cat/e.png'} cannot be read: cannot identify image file")


@pytest.mark.parametrize("flag", [0x1, 0x800])
def test_encrypted_entries_and_names_in_other_encodings_are_told(flag: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        archive.writestr("train/a/xx.png", png())
    content = (tmp_path / "odd.zip").read_bytes().replace(b"xx.png", b"\xff\xfe.png" if flag == 0x800 else b"xx.png")
    content = bytearray(content)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.index(magic) + at
        content[start : start + 2] = flag.to_bytes(2, "little")
    (tmp_path / "odd.zip").write_bytes(content)
    assert refusal(tmp_path / "odd.zip").startswith(f"archive {tmp_path / 'odd.zip'} cannot be unpacked: ")


def archive_bytes(kind: str, tmp_path: Path) -> bytes:
    path = tmp_path / f"seed.{kind}"
    if kind == "tar":
        link = entry("train/cat/l.png", type=tarfile.SYMTYPE, linkname="0.png")
        return write_tar(path, link).read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in IMAGES.items():
            archive.writestr(name, content)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["tar", "zip"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_archive_is_a_dataset_or_one_line(kind: str, data: st.DataObject, tmp_path_factory: object) -> None:
    place = tmp_path_factory.mktemp("fuzz")  # type: ignore[attr-defined]
    content = bytearray(archive_bytes(kind, place))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = place / f"damaged.{kind}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
    try:
        dataset = opened(path)
    except BenchError as error:
        assert "\n" not in str(error)
    else:
        assert len(dataset.load("test"))


def test_device_files_of_a_folder_are_not_opened(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    os.mkfifo(root / "train/cat/pipe.png")
    assert stat.S_ISFIFO((root / "train/cat/pipe.png").stat().st_mode)
    assert len(opened(root).load("train")) == 8
