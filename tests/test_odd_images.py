"""Image folders and archives as people have them, and as strangers make them: read, counted or refused in one line."""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import time
import warnings
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_datasets import _archive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import image_files, remarks
from bench.data.dataset import Dataset
from bench.data.image_files import workers
from bench.data.image_reader import read_image
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


def test_a_folder_and_archives_of_it_have_one_digest(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, content in reversed(IMAGES.items()):
            archive.writestr(f"images/{name}", content)
    places = [folder, write_tar(tmp_path / "images.tar"), tmp_path / "images.zip"]
    assert len({opened(place).digest for place in places}) == 1


def test_large_files_have_one_digest_too(tmp_path: Path) -> None:
    large = {name: png(index, (80, 70)) for index, name in enumerate(IMAGES)}
    folder = write_folder(tmp_path / "large", large)
    assert opened(folder).digest == opened(write_tar(tmp_path / "large.tar", files=large)).digest


def test_links_within_an_archive_are_read(tmp_path: Path) -> None:
    links = (
        entry("train/cat/soft.png", type=tarfile.SYMTYPE, linkname="0.png"),
        entry("train/dog/hard.png", type=tarfile.LNKTYPE, linkname="train/cat/soft.png"),
    )
    dataset = opened(write_tar(tmp_path / "links.tar", *links))
    assert len(dataset.load("train")) == 10 and dataset.notes == ()


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        (entry("train/cat/x.png", type=tarfile.LNKTYPE, linkname="nowhere"), "link"),
        (entry("train/cat/x.png", type=tarfile.SYMTYPE, linkname="x.png"), "link"),
        (entry("train/cat/x.png", type=tarfile.SYMTYPE, linkname="/etc/hostname"), "link"),
        (entry("train/cat/more", type=tarfile.SYMTYPE, linkname="../dog"), "link"),
        (entry("train/cat/x.png", type=tarfile.CHRTYPE), "device"),
        (entry("train/cat/x.png", type=tarfile.FIFOTYPE), "device"),
        (entry("train/cat/x.gif", b"GIF89a"), ".gif"),
    ],
)
def test_what_an_archive_holds_besides_is_counted(
    link: tuple[tarfile.TarInfo, bytes], kind: str, tmp_path: Path
) -> None:
    path = write_tar(tmp_path / "more.tar", link)
    told = f"1 file that is not a readable image was left out (1 x {kind})"
    with pytest.warns(UserWarning) as said:
        dataset = open_dataset(f"folder:{path}")
    assert [str(warning.message) for warning in said] == [f"more: {told}"]
    assert dataset.remarks == (told,) and len(dataset.load("train")) == 8
    assert opened(path).remarks == (told,)  # the second time, from the cache


def test_other_files_of_a_folder_are_counted_and_linked_folders_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    for name in ("train/cat/a.gif", "train/cat/b.GIF", "test/dog/notes.txt", "test/dog/.hidden"):
        (root / name).write_bytes(b"?")
    write_folder(tmp_path / "elsewhere", {"more.png": png(200)})
    (root / "train/dog/more").symlink_to(tmp_path / "elsewhere")
    (root / "train/dog/more/again").symlink_to(root / "train/dog")
    dataset = opened(root)
    assert dataset.notes == ("3 files that are not readable images were left out (2 x .gif, 1 x .txt)",)
    assert len(dataset.load("train")) == 9


@pytest.mark.parametrize("large", [False, True])
def test_an_image_in_both_parts_is_noted(large: bool, tmp_path: Path) -> None:
    size = (80, 80) if large else (8, 8)
    files = {name: png(index, size) for index, name in enumerate(IMAGES)}
    files["test/cat/9.png"] = files["train/dog/1.png"]
    with pytest.warns(UserWarning, match="images: 1 test image is among the training images too"):
        open_dataset(f"folder:{write_folder(tmp_path / 'images', files)}")


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


def test_images_that_are_too_many_to_compare_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remarks, "MOST_COMPARED", 11)
    root = write_folder(tmp_path / "images", {name: png(7, (80, 80)) for name in IMAGES})
    assert len(IMAGES) == 12
    with pytest.warns(UserWarning, match="not searched for among the training images: more than 11 files have sizes"):
        dataset = open_dataset(f"folder:{root}")
    assert any("not searched for" in remark for remark in dataset.remarks)


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = [str(number) for number in (0, 1, 2, 9, 10, 11, 100)]
    files = {f"{part}/{name}/{part}.png": png(int(name)) for part in ("train", "test") for name in names}
    assert opened(write_folder(tmp_path / "numbers", files)).classes == tuple(names)


def test_parts_of_imagenet_may_show_different_classes(tmp_path: Path) -> None:
    files = {"train/n01440764/a.JPEG": png(1), "test/n15075141/b.JPEG": png(2), "test/n01443537/c.JPEG": png(3)}
    dataset = opened(write_folder(tmp_path / "some", files))
    assert len(dataset.classes) == 1000 and dataset.imagenet_classes
    assert dataset.load("train").labels.tolist() == [0] and dataset.load("test").labels.tolist() == [1, 999]


def sideways(path: Path, size: tuple[int, int]) -> None:
    """An image whose left half is white, stored turned by a quarter, as a camera held upright does."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[:, : size[0] // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)


@pytest.mark.parametrize("size", [(16, 24), (96, 128)])
def test_the_orientation_that_a_camera_noted_is_applied(size: tuple[int, int], tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            sideways(tmp_path / part / name / "x.jpg", size)
    images = opened(tmp_path).load("train")
    if size[0] == 16:
        pixels = images.images[0].float()
        assert pixels.shape[1:] == (24, 16)
    else:
        shown = np.asarray(read_image(images.paths[0], "RGB"))
        assert shown.shape == (128, 96, 3)
        pixels = torch.tensor(shown).permute(2, 0, 1).float()
    width = pixels.shape[2]
    assert pixels[:, :, : width // 2 - 1].min() > 200 and pixels[:, :, width // 2 + 1 :].max() < 55


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"train/a/1.png": png(1), "test/a/2.png": png(2)}, "there is one class only"),
        (
            {"train/a/1.png": png(1), "train/b/2.png": png(2), "test/a/3.png": png(3), "test/b/4.png": png(4)},
            r"no class has more than one test image \(2 images\)",
        ),
    ],
)
def test_too_few_images_are_noted(files: dict[str, bytes], told: str, tmp_path: Path) -> None:
    assert any(re.match(told, remark) for remark in opened(write_folder(tmp_path / "few", files)).remarks)


def test_a_class_folder_without_readable_name_is_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w", encoding="latin-1") as tar:
        for name, content in (IMAGES | {"train/caf\xe9\x07/1.png": png(1)}).items():
            tar.addfile(*((pair := entry(name, content))[0], io.BytesIO(pair[1])))
    assert "is not readable text; rename it" in refusal(tmp_path / "odd.tar")


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


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "expected"), [(64_000_000, 1), (10_000_000, 0), (10**12, 4)])
def test_readers_fit_into_shared_memory(free: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files.shutil, "disk_usage", lambda path: Usage(free, 0, free))
    monkeypatch.setattr(image_files.os, "sched_getaffinity", lambda process: range(4))
    monkeypatch.setattr(image_files, "SHARED_MEMORY", Path("/"))
    batch = 128 * 3 * 224 * 224
    if expected == 4:
        assert workers(batch) == 4
        return
    with pytest.warns(UserWarning, match=f"room for the batches of {expected} reading processes, not 4"):
        assert workers(batch) == expected


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_reader_that_dies_or_hangs_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(4)]
    for path in paths:
        path.write_bytes(png(1, (80, 80)))
    images = image_files.Files(tuple(paths), torch.zeros(4, dtype=torch.long))
    preprocessing = image_files.Preprocessing((3, 64, 64), (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setattr(image_files, "workers", lambda batch_bytes: 1)

    def read(act: Callable[[], object]) -> str:
        monkeypatch.setattr(image_files, "read_image", lambda path, mode: act())
        with pytest.raises(BenchError) as caught:
            list(image_files.file_batches(images, preprocessing, torch.device("cpu"), 2))
        return str(caught.value)

    assert "reading images failed: DataLoader worker" in read(lambda: os.kill(os.getpid(), 9))
    monkeypatch.setattr(image_files, "SECONDS_FOR_A_BATCH", 1)
    assert "reading images failed: DataLoader timed out after 1 seconds" in read(lambda: time.sleep(30))


def test_device_files_of_a_folder_are_not_opened(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    os.mkfifo(root / "train/cat/pipe.png")
    assert stat.S_ISFIFO((root / "train/cat/pipe.png").stat().st_mode)
    assert len(opened(root).load("train")) == 8
