"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017, MIT licence): 28x28 grey images of clothes, embedded in the package.

The images have one channel and are padded with zeros to 32x32, as is usual for networks made for CIFAR. The four files
beside this one are the official ones, unchanged.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch.nn.functional import pad

from bench import BenchError, Dataset, Pixels, Recipe

FOLDER = Path(__file__).parent


class FashionMNIST(Dataset):
    """70,000 grey images of clothes in 10 classes, 28x28 padded to 32x32; embedded, works offline."""

    name: ClassVar[str] = "fashion-mnist"
    title = "fashion-mnist"
    classes = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    input_shape = (1, 32, 32)
    # Of the padded training images, so that the network's input has zero mean and unit variance.
    mean = (0.2190,)
    std = (0.3318,)
    recipe = Recipe(epochs=3)

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        if argument is not None:
            raise BenchError(f"dataset 'fashion-mnist:{argument}': fashion-mnist is embedded and takes no path")
        return cls()

    def load(self, part: Literal["train", "test"]) -> Pixels:
        stem = "train" if part == "train" else "t10k"
        images = torch.from_numpy(read_idx(FOLDER / f"{stem}-images-idx3-ubyte.gz"))
        labels = torch.from_numpy(read_idx(FOLDER / f"{stem}-labels-idx1-ubyte.gz"))
        return Pixels(pad(images, (2, 2, 2, 2)).unsqueeze(1), labels.long())


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: two zero bytes, 0x08, the number of axes, each length big-endian, the data."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, dtype=">u4", count=data[3], offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * data[3]).reshape(shape).copy()
