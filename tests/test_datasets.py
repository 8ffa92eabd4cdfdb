"""The datasets that are named: Fashion-MNIST, those that torchvision downloads, and ImageNet."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_datasets.cifar10 import CIFAR10
from bench_datasets.cifar100 import CIFAR100
from bench_datasets.fashion_mnist import FashionMNIST
from bench_datasets.imagenet import ImageNet
from bench_datasets.svhn import SVHN

from bench import BenchError, Dataset, Files, Recipe
from bench.networks.zoo import imagenet_synsets
from bench.plugins.registry import datasets

from .planted_images import cache as cache
from .planted_images import draw, plant

Write = Callable[..., Path]


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
