"""Batches of images: resized, cropped and flipped, the same for the same generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.data import create_dataset, create_loader

from bench import Pixels, Recipe
from bench.data.feed import Feed, augment
from bench.data.image_files import file_batches, workers
from bench.networks.zoo import Preprocessing

from .planted_images import cache as cache
from .planted_images import draw, opened, plant, preprocessing

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "how", [{"crop_share": 0.875}, {"interpolation": "bilinear"}, {"crop_mode": "squash"}, {"crop_mode": "border"}]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # timm leaves files open
def test_large_images_are_evaluated_as_by_timm(how: dict[str, object], tmp_path: Path) -> None:
    root = plant(tmp_path / "pets", size=(90, 70), parts=("test",))
    draw(root / "test/dog/wide.jpg", size=(200, 50))
    draw(root / "test/dog/grey.png", size=(70, 80), mode="L")
    wanted = preprocessing(3, **how)
    options = {"mean": wanted.mean, "std": wanted.std, "interpolation": wanted.interpolation}
    options |= {"crop_pct": wanted.crop_share, "crop_mode": wanted.crop_mode}
    theirs = create_loader(
        create_dataset("", str(root / "test")), wanted.size, 4, num_workers=0, device=CPU, pin_memory=False, **options
    )
    feed = Feed(opened(root).split("test"), wanted, CPU, Recipe(1))
    ours = list(feed.once(batch_size=4))
    assert len(ours) == feed.batches(4) == 3
    for (images, labels), (expected, expected_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(images, expected) and torch.equal(labels, expected_labels)
        assert images.is_contiguous(memory_format=torch.channels_last) and labels.dtype == torch.int64


def test_large_images_for_a_grey_network(tmp_path: Path) -> None:
    images = opened(plant(tmp_path / "pets", size=(90, 70))).split("test")
    assert next(file_batches(images, preprocessing(1), CPU, 4))[0].shape == (4, 1, 32, 32)


def test_training_on_large_images_depends_on_the_generator_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = opened(plant(tmp_path / "pets", size=(90, 70))).load("train")

    def epoch(seed: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        monkeypatch.setattr("bench.data.image_files.workers", lambda batch_bytes: count)
        generator = torch.Generator().manual_seed(seed)
        return list(file_batches(images, preprocessing(3), CPU, 3, generator=generator))

    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = epoch(0, count=1), epoch(0, count=workers(1)), epoch(1, count=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(labels) for _, labels in one] == [3, 3]  # 8 images; the rest is left out
    assert all(
        torch.equal(a, b) for first, second in zip(one, same, strict=True) for a, b in zip(first, second, strict=True)
    )
    assert not torch.equal(one[0][0], other[0][0])


@pytest.mark.parametrize("size", [(8, 8), (70, 70)])
def test_fewer_images_than_a_batch(size: tuple[int, int], tmp_path: Path) -> None:
    images = opened(plant(tmp_path / "pets", size=size)).load("train")
    feed = Feed(images, preprocessing(3), CPU, Recipe(1, batch_size=128))
    batches = list(feed.epoch(torch.Generator()))
    assert len(feed) == 8 and feed.steps == len(batches) == 1
    assert sorted(batches[0][1].tolist()) == [0] * 4 + [1] * 4


def test_epoch_of_pixels_shows_each_image_once() -> None:
    values = torch.arange(10, dtype=torch.uint8)
    pixels = Pixels(values.view(10, 1, 1, 1).expand(10, 1, 4, 4), torch.arange(10))
    feed = Feed(pixels, Preprocessing((1, 4, 4), (0.0,), (1.0,)), CPU, Recipe(1, batch_size=4, crop_padding=0))
    batches = list(feed.epoch(torch.Generator().manual_seed(0)))
    labels = torch.cat([labels for _, labels in batches])
    assert feed.steps == len(batches) == 2 and len(set(labels.tolist())) == 8
    assert torch.equal((torch.cat([images for images, _ in batches])[:, 0, 0, 0] * 255).round().long(), labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_augment_crops_and_flips(channels: int) -> None:
    pixels = torch.randint(0, 256, (16, channels, 6, 5), dtype=torch.uint8)
    found = augment(pixels, Recipe(1, crop_padding=2), torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    shift = torch.randint(0, 5, (2, 16), generator=generator)
    flip = torch.rand(16, generator=generator) < 0.5
    padded = torch.nn.functional.pad(pixels, (2, 2, 2, 2))
    for index, (down, right) in enumerate(shift.T.tolist()):
        crop = padded[index, :, down : down + 6, right : right + 5]
        assert torch.equal(found[index], crop.flip(2) if flip[index] else crop)
