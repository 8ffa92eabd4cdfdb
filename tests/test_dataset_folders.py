"""Folders of images: sizes, colours, classes, digests, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bench_datasets import _decoding
from bench_datasets.folder import Folder
from PIL import Image

from bench import BenchError, Files, Pixels, Recipe
from bench.data.feed import Feed
from bench.networks.zoo import imagenet_synsets

from .planted_images import cache as cache
from .planted_images import draw, opened, plant, preprocessing, refusal

CPU = torch.device("cpu")


def test_small_images_are_decoded(tmp_path: Path) -> None:
    dataset = opened(plant(tmp_path / "pets"))
    train = dataset.load("train")
    assert (dataset.title, dataset.classes, dataset.input_shape) == ("pets", ("cat", "dog"), (3, 8, 8))
    assert isinstance(train, Pixels) and train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    pixels = np.stack([np.asarray(Image.open(tmp_path / f"pets/train/cat/{index}.png")) for index in range(4)])
    assert np.array_equal(train.images[:4].numpy(), pixels.transpose(0, 3, 1, 2))
    scaled = train.images.double() / 255
    assert dataset.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert dataset.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist())


def test_decoded_images_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    plant(tmp_path / "pets")
    first = opened(tmp_path / "pets").load("train").images
    with monkeypatch.context() as patch:
        patch.setattr(_decoding, "decode", lambda *args: pytest.fail("decoded again"))
        assert torch.equal(opened(tmp_path / "pets").load("train").images, first)
    draw(tmp_path / "pets/train/cat/0.png", seed=99)  # as many bytes, other pixels
    assert not torch.equal(opened(tmp_path / "pets").load("train").images, first)
    for kept in (cache / "decoded").iterdir():
        kept.write_bytes(kept.read_bytes()[:100])
    assert len(opened(tmp_path / "pets").load("train")) == 8


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    assert opened(plant(tmp_path / "grey", mode="L")).input_shape == (1, 8, 8)
    draw(tmp_path / "grey/test/dog/colour.png")
    dataset = opened(tmp_path / "grey")
    assert dataset.input_shape == (3, 8, 8) and len(dataset.mean) == 3


def test_sizes_follow_the_first_image(tmp_path: Path) -> None:
    plant(tmp_path / "pets", size=(16, 12))
    draw(tmp_path / "pets/test/dog/9.png", size=(64, 33))
    assert opened(tmp_path / "pets").input_shape == (3, 12, 16)


def test_one_large_image_makes_all_stay_files(tmp_path: Path) -> None:
    plant(tmp_path / "pets")
    draw(tmp_path / "pets/test/dog/9.png", size=(65, 8))
    dataset = opened(tmp_path / "pets")
    images = dataset.load("test")
    assert isinstance(images, Files) and isinstance(dataset.load("train"), Files)
    assert images.paths[-1].name == "9.png" and images.labels.tolist() == [0] * 4 + [1] * 5


def test_synsets_are_imagenet_classes(tmp_path: Path) -> None:
    dataset = opened(plant(tmp_path / "sample", classes="n03000684 n01440764"))
    assert dataset.imagenet_classes and list(dataset.classes) == imagenet_synsets()
    images = dataset.load("test")
    assert isinstance(images, Files)
    assert images.labels.tolist() == [0] * 4 + [imagenet_synsets().index("n03000684")] * 4
    assert not opened(plant(tmp_path / "others", classes="n03000684 n99999999")).imagenet_classes


def test_test_part_alone(tmp_path: Path) -> None:
    dataset = opened(plant(tmp_path / "pets", parts=("val",)))
    assert dataset.parts == ("test",) and len(dataset.split("test")) == 8 and dataset.digest
    assert dataset.load_any() is dataset.split("test")
    with pytest.raises(BenchError, match="no training images.*0 epochs"):
        dataset.split("train")


@pytest.mark.parametrize("size", [(8, 8), (70, 70)])
def test_digest_is_of_the_content(size: tuple[int, int], tmp_path: Path) -> None:
    one = plant(tmp_path / "one", size=size)
    digest = opened(one).digest
    backwards = sorted(one.rglob("*.png"), reverse=True)
    for path in backwards:  # written elsewhere in another order
        copy = tmp_path / "two" / path.relative_to(one)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    assert opened(tmp_path / "two").digest == digest
    draw(tmp_path / "two/test/cat/0.png", size=(size[0] - 1, size[1]), seed=5)
    assert opened(tmp_path / "two").digest != digest


def test_hidden_and_other_files_are_ignored(tmp_path: Path) -> None:
    root = plant(tmp_path / "pets")
    for name in ("._0.png", ".DS_Store", "notes.txt", ".ipynb_checkpoints/0.png"):
        path = root / "train/cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    (root / "train/.cache").mkdir()
    (root / "train/labels.csv").write_text("")
    assert len(opened(root).load("train")) == 8


def test_refusals_are_one_line(tmp_path: Path) -> None:
    assert "there is no" in refusal(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "no test/ or val/ folder" in refusal(tmp_path / "empty")
    assert "no test/ or val/ folder" in refusal(plant(tmp_path / "untested", parts=("train",)))
    (tmp_path / "flat/test").mkdir(parents=True)
    assert "no folders in it" in refusal(tmp_path / "flat")
    hollow = plant(tmp_path / "hollow")
    (hollow / "train/emu").mkdir()
    assert "no images for class emu" in refusal(hollow)
    draw(hollow / "train/emu/0.png")
    assert f"only {hollow / 'train'} has class emu" in refusal(hollow)
    with pytest.raises(BenchError, match="folder:PATH"):
        Folder.open(None, None)


@pytest.mark.parametrize("size", [(8, 8), (70, 70)])
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "link"])
def test_broken_image_is_named(size: tuple[int, int], damage: str, tmp_path: Path) -> None:
    root = plant(tmp_path / "pets", size=size)
    broken = root / "test/dog/2.png"
    content = {"empty": b"", "cut": broken.read_bytes()[:-60], "text": b"hello", "link": b""}[damage]
    broken.unlink()
    broken.symlink_to("nowhere") if damage == "link" else broken.write_bytes(content)
    with pytest.raises(BenchError) as caught:
        list(Feed(opened(root).split("test"), preprocessing(3), CPU, Recipe(1)).once())
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)


def test_sixteen_bit_images_are_refused(tmp_path: Path) -> None:
    root = plant(tmp_path / "scans", mode="L")
    Image.fromarray(np.full((8, 8), 4000, dtype=np.uint16)).save(root / "test/cat/0.png")
    assert "more than 8 bits" in refusal(root)
