"""Street View House Numbers (Netzer et al. 2011): cropped digits, 32x32, without the `extra` images."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from bench_datasets._torchvision import TorchvisionDataset

from bench import Recipe


class SVHN(TorchvisionDataset):
    """73,257 + 26,032 colour images of digits, 32x32; downloaded on first use, or read from --data-root."""

    name: ClassVar[str] = "svhn"
    layout: ClassVar[str] = "DIR/train_32x32.mat and DIR/test_32x32.mat"
    classes = tuple("0123456789")
    mean = (0.4377, 0.4438, 0.4728)
    std = (0.1980, 0.2010, 0.1970)
    # A mirrored digit is another digit, or none.
    recipe = Recipe(epochs=20, flip=False)

    def read(self, part: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
        from torchvision import datasets  # takes longer to import than torch

        data = datasets.SVHN(str(self.folder), split=part, download=self.download)
        return data.data, data.labels
