"""What the datasets that torchvision downloads have in common: 32x32 colour images, in memory once loaded."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch

from bench import BadArgument, BenchError, Dataset, Pixels, cache_dir


class TorchvisionDataset(Dataset):
    """A dataset that torchvision knows; `layout` are the files or folders it keeps in its root."""

    name: ClassVar[str]
    downloads: ClassVar[bool] = True
    layout: ClassVar[str]
    input_shape = (3, 32, 32)

    def __init__(self, root: Path | None) -> None:
        self.title = self.name
        self.folder = root or cache_dir() / "datasets"
        self.download = root is None

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        if argument is not None:
            raise BadArgument(
                "dataset",
                f"{cls.name}:{argument}",
                f"{cls.name} takes no path; name its folder as the data root, or use folder:PATH for images",
            )
        return cls(root)

    @abstractmethod
    def read(self, part: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [N, 3, 32, 32] and labels [N], by torchvision, from `folder`; fetched if `download`."""

    def load(self, part: Literal["train", "test"]) -> Pixels:
        try:
            with warnings.catch_warnings():
                # The files are old pickles and archives, about which NumPy and tarfile warn.
                warnings.simplefilter("ignore")
                images, labels = self.read(part)
        except (OSError, RuntimeError, ImportError) as error:
            # torchvision's own advice, download=True, is not an option here.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". You can use")[0]
            tried = "could not be downloaded to" if self.download else "could not be read from"
            raise BenchError(
                f"dataset '{self.name}' {tried} {self.folder} ({reason}); "
                f"expected a data root that holds torchvision's files: {self.layout}"
            ) from error
        return Pixels(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64)))
