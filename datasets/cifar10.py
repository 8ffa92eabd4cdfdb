"""CIFAR-10 (Krizhevsky 2009): 60,000 colour photographs of animals and vehicles, 32x32."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from bench_datasets._torchvision import TorchvisionDataset

from bench import Recipe


class CIFAR10(TorchvisionDataset):
    """50,000 + 10,000 colour images in 10 classes, 32x32; downloaded on first use, or read from --data-root."""

    name: ClassVar[str] = "cifar10"
    layout: ClassVar[str] = "DIR/cifar-10-batches-py/"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    recipe = Recipe(epochs=30)

    def read(self, part: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets  # takes longer to import than torch

        data = datasets.CIFAR10(self.folder, train=part == "train", download=self.download)
        return data.data.transpose(0, 3, 1, 2), np.array(data.targets)
