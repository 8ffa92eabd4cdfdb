"""Image folder trees: `train/` and `test/` (or `val/`), one sub-folder per class, images found by their extension."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from bench import BenchError, Files, listed

Part = Literal["train", "test"]
Tree = dict[str, tuple[Path, ...]]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of images: those of torchvision, whose import takes longer than that of torch."""
LEFT_OUT = ".left-out.json"
"""Beside the images of an archive: how many of its other files were left out, by kind."""


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is hidden or belongs to macOS."""
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.split("/"))


def left_out_as(name: str) -> str:
    """The kind under which a file that is not an image is counted: its extension."""
    return os.path.splitext(name)[1].lower() or "no extension"


def is_image(name: str) -> bool:
    """Whether a file of that name is an image; hidden ones are not (macOS leaves `._x.jpg` beside each `x.jpg`)."""
    return name.lower().endswith(EXTENSIONS) and not name.startswith(".")


def find_parts(root: Path, tested: tuple[str, ...] = ("test", "val")) -> dict[Part, Path]:
    """The folders of the parts that exist, in `root` or in the only folder that it holds.

    `tested` are the names a test part may have; the first that holds classes is taken.
    """
    inside = visible_folders(root)
    if len(inside) == 1 and inside[0].name not in ("train", *tested):
        root = inside[0]
    folders = [root / name for name in tested if (root / name).is_dir()]
    has_train = (root / "train").is_dir()
    if not folders:
        names = " or ".join(f"{name}/" for name in tested)
        raise BenchError(
            f"{root} has no {names} folder: expected one, and train/ to train on, each with a folder per class"
        )
    test = next((folder for folder in folders if visible_folders(folder)), folders[0])
    return {"train": root / "train", "test": test} if has_train else {"test": test}


def read_tree(folder: Path) -> Tree:
    """Images of each class: classes by name, images by path, whatever order the file system keeps them in.

    If all names are numbers, classes are in numerical order, otherwise in alphabetical order.
    """
    classes = in_order(visible_folders(folder))
    if not classes:
        raise BenchError(f"{folder} has no folders in it: expected one sub-folder per class")
    for place in classes:
        if not place.name.isprintable():
            raise BenchError(f"{folder}: the folder {ascii(place.name)} is not readable text; rename it")
    tree = {place.name: tuple(find_images(place)) for place in classes}
    empty = [name for name, images in tree.items() if not images]
    if empty:
        raise BenchError(f"{folder} has no images for {named(empty)}: expected {', '.join(EXTENSIONS)} files")
    return tree


def in_order(folders: list[Path]) -> list[Path]:
    if all(folder.name.isascii() and folder.name.isdecimal() for folder in folders):
        return sorted(folders, key=lambda folder: (int(folder.name), folder.name))
    return folders


def notes_on(root: Path, parts: dict[Part, Path]) -> tuple[str, ...]:
    """What a reader of results must know about unused files below the folders of the classes."""
    kinds: Counter[str] = Counter()
    for folder in parts.values():
        for place in visible_folders(folder):
            for _, names in walk(place):
                kinds.update(left_out_as(name) for name in names if not name.startswith(".") and not is_image(name))
    if (told := root / LEFT_OUT).is_file():
        kinds.update(json.loads(told.read_text()))
    if not kinds:
        return ()
    what = ", ".join(f"{count:,} x {kind}" for kind, count in sorted(kinds.items()))
    if kinds.total() == 1:
        return (f"1 file that is not a readable image was left out ({what})",)
    return (f"{kinds.total():,} files that are not readable images were left out ({what})",)


def files_of(tree: Tree, classes: tuple[str, ...]) -> Files:
    """The tree's images, labelled by their class's place in `classes`."""
    places = {name: index for index, name in enumerate(classes)}
    paths = tuple(path for images in tree.values() for path in images)
    return Files(paths, torch.tensor([places[name] for name, images in tree.items() for _ in images]))


def check_same_classes(trees: dict[Part, Tree], parts: dict[Part, Path]) -> None:
    """BenchError with the difference if training and test images do not have the same classes."""
    if len(trees) < 2 or trees["train"].keys() == trees["test"].keys():
        return
    train, test = trees["train"].keys(), trees["test"].keys()
    differences = [
        f"only {folder} has {named(sorted(names))}"
        for folder, names in ((parts["train"], train - test), (parts["test"], test - train))
        if names
    ]
    raise BenchError(f"training and test images must have the same classes, but {'; '.join(differences)}")


def named(classes: list[str]) -> str:
    """`class a`, `classes a, b`, or the first few of many."""
    return f"{'class' if len(classes) == 1 else 'classes'} {listed(classes, 5)}"


def visible_folders(folder: Path) -> list[Path]:
    try:
        inside = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError as error:
        raise BenchError(f"{folder} cannot be read: {error.strerror}") from error
    return [folder / name for name in sorted(inside) if not name.startswith((".", "__MACOSX"))]


def find_images(folder: Path) -> list[Path]:
    """Every image below `folder`, at any depth and behind links, hidden folders aside."""
    return [
        Path(path)
        for path in sorted(os.path.join(at, name) for at, names in walk(folder) for name in names if is_image(name))
        if not is_device(path)
    ]


def is_device(path: str) -> bool:
    """Whether it is a pipe, a socket or a device, from which reading may never end."""
    return os.path.exists(path) and not os.path.isfile(path)


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder and the names of its files. Links to folders are followed, each folder is visited once."""

    def fail(error: OSError) -> None:
        raise BenchError(f"{error.filename} cannot be read: {error.strerror}") from error

    seen: set[str] = set()
    for at, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = os.path.realpath(at)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield at, names
