"""ImageNet-1k (ILSVRC 2012, Russakovsky et al. 2015), from your own copy, because it may not be redistributed.

`train/<synset>/*.JPEG` and `val/<synset>/*.JPEG`, as torchvision's ImageFolder reads it. The digest covers names, sizes
and labels, so that a million files are not read again for each run.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from bench_datasets._tree import Part, Tree, files_of, find_parts, named, read_tree

import bench
from bench import BadArgument, BenchError, Dataset, Files, Recipe


class ImageNet(Dataset):
    """1,281,167 + 50,000 colour images in 1,000 classes; --data-root names the folder with train/ and val/."""

    name: ClassVar[str] = "imagenet"
    title = "imagenet"
    imagenet_classes = True
    # Each network's own preprocessing replaces these.
    input_shape = (3, 224, 224)
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    # He et al. 2016, at half their batch size.
    recipe = Recipe(epochs=90, batch_size=128, lr=0.05, finetune_lr=0.005, weight_decay=1e-4)

    def __init__(self, trees: dict[Part, Tree]) -> None:
        self.classes = tuple(bench.imagenet_synsets())
        self.parts = tuple(trees)
        self.trees = trees

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        if argument is not None or root is None:
            raise BadArgument(
                "data_root",
                "" if root is None else root,
                "dataset 'imagenet' is read from a folder with train/<synset>/*.JPEG and val/<synset>/*.JPEG; "
                "for a sample of it use the dataset folder:PATH",
            )
        trees = {part: read_tree(folder) for part, folder in find_parts(root, tested=("val",)).items()}
        for tree in trees.values():
            check_complete(tree, root)
        return cls(trees)

    def load(self, part: Part) -> Files:
        if part not in self.trees:
            raise BenchError("dataset 'imagenet' has no train/ folder, so no training images; 0 epochs need none")
        return files_of(self.trees[part], self.classes)


def check_complete(tree: Tree, root: Path) -> None:
    """BenchError unless the classes are exactly ImageNet's: results filed under `imagenet` must be on all of them."""
    expected = set(bench.imagenet_synsets())
    strange, missing = sorted(tree.keys() - expected), sorted(expected - tree.keys())
    if strange or missing:
        wrong = f"{named(strange)} besides ImageNet's" if strange else f"no {named(missing)}"
        raise BenchError(
            f"dataset 'imagenet': below {root} there is {wrong}; for any other image folder use the dataset folder:PATH"
        )
