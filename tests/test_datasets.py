from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from bench_datasets import _archive, _decoding
from bench_datasets.cifar10 import CIFAR10
from bench_datasets.cifar100 import CIFAR100
from bench_datasets.fashion_mnist import FashionMNIST
from bench_datasets.folder import Folder
from bench_datasets.imagenet import ImageNet
from bench_datasets.svhn import SVHN
from PIL import Image
from timm.data import create_dataset, create_loader

from bench import BenchError, Dataset, Files, Pixels, Recipe
from bench.data.feed import Feed, augment
from bench.data.image_files import file_batches, workers
from bench.networks.zoo import Preprocessing, imagenet_synsets
from bench.plugins.registry import datasets

CPU = torch.device("cpu")
Write = Callable[..., Path]


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


# Every dataset


def test_registered_datasets() -> None:
    assert set(datasets()) >= {"fashion-mnist", "cifar10", "cifar100", "svhn", "imagenet", "folder"}


def fashion() -> Dataset:
    return FashionMNIST.open(None, None)


def test_splits_are_disjoint_and_the_same_each_time() -> None:
    one, other = fashion(), fashion()
    sizes = {"train": 55_000, "tuning": 5_000, "test": 10_000}
    for part, size in sizes.items():
        images = one.split(part)
        assert len(images) == size
        assert torch.equal(images.images, other.split(part).images)
        assert torch.equal(images.labels, other.split(part).labels)
    assert one.digest == other.digest and len(one.digest) == 16


def test_tuning_is_cut_from_train_without_overlap(tmp_path: Path) -> None:
    paths = tuple(tmp_path / str(i) for i in range(1000))

    class Numbered(Dataset):
        name = title = "numbered"
        classes = tuple(map(str, range(1000)))
        input_shape, mean, std, recipe = (3, 32, 32), (0.5,) * 3, (0.2,) * 3, Recipe(epochs=1)

        @classmethod
        def open(cls, argument, root):
            return cls()

        def load(self, part):
            return Files(paths, torch.arange(1000))

    train, tuning = (Numbered().split(part) for part in ("train", "tuning"))
    assert (len(train), len(tuning)) == (917, 83)
    assert set(train.paths) | set(tuning.paths) == set(paths)
    assert not set(train.paths) & set(tuning.paths)
    assert tuning.labels[:5].tolist() == torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:5].tolist()


# Datasets that torchvision downloads


@pytest.mark.parametrize(("plugin", "classes"), [(CIFAR10, 10), (CIFAR100, 100), (SVHN, 10)])
def test_classes_and_refusals(plugin: type[Dataset], classes: int, tmp_path: Path) -> None:
    assert len(set(plugin.classes)) == classes
    assert plugin is SVHN or sorted(plugin.classes) == list(plugin.classes)
    assert plugin.recipe.flip == (plugin is not SVHN)
    with pytest.raises(BenchError, match=f"{plugin.name} takes no path"):
        plugin.open("x", None)
    with pytest.raises(
        BenchError, match="could not be read from .*; expected a data root that holds torchvision's files"
    ) as caught:
        plugin.open(None, tmp_path).load("train")
    assert str(tmp_path) in str(caught.value) and plugin.name in str(caught.value)
    assert "\n" not in str(caught.value) and "download=True" not in str(caught.value)


def test_datasets_say_whether_they_download() -> None:
    downloaded = {name for name, kind in datasets().items() if kind.downloads}
    assert downloaded == {"cifar10", "cifar100", "svhn"}


def test_failed_download_says_what_works(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    with pytest.raises(
        BenchError, match="could not be downloaded to .*no route to host.*; expected a data root"
    ) as caught:
        CIFAR10.open(None, None).load("test")
    assert str(cache / "datasets") in str(caught.value)


@pytest.mark.parametrize(
    ("plugin", "folder", "labels"),
    [(CIFAR10, "cifar-10-batches-py", "labels"), (CIFAR100, "cifar-100-python", "fine_labels")],
)
def test_cifar_files(plugin, folder: str, labels: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision_class = getattr(pytest.importorskip("torchvision.datasets"), plugin.__name__)
    rows = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072).astype(np.uint8)
    for name, content in {
        "one": {"data": rows, labels: [3, 1]},
        "names": {"label_names": [], "fine_label_names": []},
    }.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_bytes(pickle.dumps(content))
    monkeypatch.setattr(torchvision_class, "train_list", [["one", None]])
    monkeypatch.setattr(torchvision_class, "test_list", [["one", None]])
    monkeypatch.setattr(torchvision_class, "meta", {**torchvision_class.meta, "filename": "names", "md5": None})
    dataset = plugin.open(None, tmp_path)
    images = dataset.load("train")
    assert torch.equal(images.images, torch.from_numpy(rows).view(2, 3, 32, 32))
    assert images.images.is_contiguous() and images.labels.tolist() == [3, 1]
    assert dataset.title == plugin.name and len(dataset.digest) == 16


def test_svhn_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": np.array([[10], [1], [2], [9]], dtype=np.uint8)})
    monkeypatch.setattr("torchvision.datasets.SVHN.split_list", {"train": ["", "train_32x32.mat", None]})
    images = SVHN.open(None, tmp_path).load("train")
    assert images.images.shape == (4, 3, 32, 32) and images.labels.tolist() == [0, 1, 2, 9]
    assert np.array_equal(images.images[1].numpy(), pixels[:, :, :, 1].transpose(2, 0, 1))


# Image folders


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


# Archives


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


# ImageNet


def test_imagenet(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="dataset 'imagenet' is read from a folder with train/"):
        ImageNet.open(None, None)
    one = draw(tmp_path / "one.png").read_bytes()
    for synset in imagenet_synsets():
        (tmp_path / "in/val" / synset).mkdir(parents=True)
        (tmp_path / "in/val" / synset / "x.JPEG").write_bytes(one)
    dataset = ImageNet.open(None, tmp_path / "in")
    images = dataset.split("test")
    assert dataset.imagenet_classes and images.labels.tolist() == list(range(1000))
    assert [path.parent.name for path in images.paths] == list(dataset.classes)
    with pytest.raises(BenchError, match="no train/ folder"):
        dataset.split("train")
    with pytest.raises(BenchError, match="no classes n.*folder:PATH"):
        ImageNet.open(None, plant(tmp_path / "sample", parts=("val",), classes="n01440764"))


# Batches


def preprocessing(channels: int, size: int = 32, **how) -> Preprocessing:
    return Preprocessing(
        (channels, size, size), (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels], **how
    )


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
