"""Any folder of images, or an archive of one: `train/` and `test/` (or `val/`), one sub-folder per class.

Images of at most 64 pixels a side are decoded into memory, in one channel if all are grey, otherwise in three. If
their sizes differ, all get the first image's. Larger images stay files and are prepared as the network expects, in
colour. If every class folder is an ImageNet synset (`n01440764`), labels are ImageNet's and images stay files whatever
their size, so that a network trained on ImageNet sees them as in its training.

The digest covers the pixels of images in memory; for files, it covers names, sizes and labels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Self

from bench_datasets._archive import stem, unpacked
from bench_datasets._decoding import decoded, statistics
from bench_datasets._tree import Part, Tree, check_same_classes, files_of, find_parts, notes_on, read_tree

import bench
from bench import BadArgument, BenchError, Dataset, Files, Pixels, Recipe


class Folder(Dataset):
    """Your own images: folder:PATH, with train/ and test/ or val/, one sub-folder per class; or a .tar(.xz) or .zip."""

    name: ClassVar[str] = "folder"
    recipe = Recipe(epochs=30)
    # For images that stay files; the network's own preprocessing replaces these.
    input_shape = (3, 224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __init__(self, title: str, trees: dict[Part, Tree], notes: tuple[str, ...] = ()) -> None:
        self.title, self.notes = title, notes
        self.parts = tuple(trees)
        names = tuple(trees["test"])
        self.imagenet_classes = all(are_synsets(tuple(tree)) for tree in trees.values())
        self.classes = tuple(bench.imagenet_synsets()) if self.imagenet_classes else names
        files = {part: files_of(tree, self.classes) for part, tree in trees.items()}
        small = None if self.imagenet_classes else in_memory(title, files)
        self.images = small or files
        shown = self.images[self.parts[0]]
        if isinstance(shown, Pixels):
            _, channels, height, width = shown.images.shape
            self.input_shape = (channels, height, width)
            self.mean, self.std = statistics(shown.images)

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        if not argument:
            raise BadArgument("dataset", "folder", "expected folder:PATH, a folder of images or an archive of one")
        try:
            path = Path(argument).expanduser().resolve()
        except (ValueError, RuntimeError) as error:  # a NUL character, or the home of an unknown user
            raise BadArgument("dataset", f"folder:{argument}", f"not a path ({error})") from error
        if not path.exists():
            raise BadArgument("dataset", f"folder:{argument}", f"there is no {path}")
        root = path if path.is_dir() else unpacked(path)
        folders = find_parts(root)
        trees = {part: read_tree(folder) for part, folder in folders.items()}
        if not all(are_synsets(tuple(tree)) for tree in trees.values()):
            check_same_classes(trees, folders)
        return cls(path.name if path.is_dir() else stem(path), trees, notes_on(root, folders))

    def load(self, part: Part) -> Files | Pixels:
        if part not in self.images:
            raise BenchError(f"dataset '{self.title}' has no training images (no train/ folder); 0 epochs need none")
        return self.images[part]


def are_synsets(names: tuple[str, ...]) -> bool:
    """Whether these are classes of ImageNet-1k; its list is not read for names of another form."""
    return all(re.fullmatch(r"n\d{8}", name) for name in names) and set(names) <= set(bench.imagenet_synsets())


def in_memory(title: str, files: dict[Part, Files]) -> dict[Part, Pixels] | None:
    """The decoded images, or None if not all are small."""
    pixels = decoded(title, {part: images.paths for part, images in files.items()})
    if pixels is None:
        return None
    return {part: Pixels(pixels[part], images.labels) for part, images in files.items()}
