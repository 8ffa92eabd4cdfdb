"""Image folders and archives as people have them: read, and what is left out is counted."""

from __future__ import annotations

import io
import os
import re
import tarfile
import time
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.data import image_files, remarks
from bench.data.image_files import workers
from bench.data.image_reader import read_image
from bench.plugins.registry import open_dataset
from bench.system.errors import BenchError

from .image_files import IMAGES, entry, opened, png, refusal, write_folder, write_tar


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
