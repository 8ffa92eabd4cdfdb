"""Image folder trees: `train/` and `test/` (or `val/`), one sub-folder a class, images found by their extension."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from bench import BenchError, Files

Part = Literal["train", "test"]
Tree = dict[str, tuple[Path, ...]]


def is_image(name: str) -> bool:
    """Whether a file of that name is an image; hidden ones are not (macOS leaves `._x.jpg` beside each `x.jpg`)."""
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def find_parts(root: Path, tested: tuple[str, ...] = ("test", "val")) -> dict[Part, Path]:
    """The folders of the parts there are, in `root` or in the only folder it holds.

    `tested` are the names a test part may have; the first that holds classes is taken.
    """
    inside = visible_folders(root)
    if len(inside) == 1 and inside[0].name not in ("train", *tested):
        root = inside[0]
    found = [root / name for name in tested if (root / name).is_dir()]
    has_train = (root / "train").is_dir()
    if not found:
        names = " or ".join(f"{name}/" for name in tested)
        raise BenchError(
            f"{root} has no {names} folder: expected one, and train/ to train on, each with a folder a class"
        )
    test = next((folder for folder in found if visible_folders(folder)), found[0])
    return {"train": root / "train", "test": test} if has_train else {"test": test}


def read_tree(folder: Path) -> Tree:
    """Images of each class: classes by name, images by path, whatever order the file system keeps them in."""
    classes = visible_folders(folder)
    if not classes:
        raise BenchError(f"{folder} has no folders in it: expected one sub-folder a class")
    tree = {place.name: tuple(find_images(place)) for place in classes}
    empty = [name for name, images in tree.items() if not images]
    if empty:
        raise BenchError(f"{folder} has no images for {listed(empty)}: expected {', '.join(IMG_EXTENSIONS)} files")
    return tree


def files_of(tree: Tree, classes: tuple[str, ...]) -> Files:
    """The tree's images, labelled by their class's place in `classes`."""
    places = {name: index for index, name in enumerate(classes)}
    paths = tuple(path for images in tree.values() for path in images)
    return Files(paths, torch.tensor([places[name] for name, images in tree.items() for _ in images]))


def check_same_classes(trees: dict[Part, Tree], parts: dict[Part, Path]) -> None:
    """A BenchError with the difference, where training and test images are not of the same classes."""
    if len(trees) < 2 or trees["train"].keys() == trees["test"].keys():
        return
    train, test = trees["train"].keys(), trees["test"].keys()
    differences = [
        f"only {folder} has {listed(sorted(names))}"
        for folder, names in ((parts["train"], train - test), (parts["test"], test - train))
        if names
    ]
    raise BenchError(f"training and test images must have the same classes, but {'; '.join(differences)}")


def listed(names: list[str], most: int = 5) -> str:
    """`class a`, `classes a, b`, or the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(names[:most])}{more}"


def visible_folders(folder: Path) -> list[Path]:
    try:
        inside = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError as error:
        raise BenchError(f"{folder} cannot be read: {error.strerror}") from error
    return [folder / name for name in sorted(inside) if not name.startswith((".", "__MACOSX"))]


def find_images(folder: Path) -> list[Path]:
    """Every image below `folder`, at any depth, hidden folders aside."""

    def fail(error: OSError) -> None:
        raise BenchError(f"{error.filename} cannot be read: {error.strerror}") from error

    found: list[str] = []
    for at, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(at, name) for name in names if is_image(name)]
    return [Path(path) for path in sorted(found)]
