"""The predictions kept beside a record, image by image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.records.store import PREDICTIONS, RECORD, StoreError

TOLERANCE = 1e-6
"""How much top-1 in a record may differ from the accuracy of the predictions beside it."""


@dataclass(frozen=True)
class Outcomes:
    """Classes of N test images, int [N] each: predicted by the compressed and the dense network, and the true ones."""

    predictions: NDArray[np.int32]
    dense: NDArray[np.int32]
    labels: NDArray[np.int32]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        return np.equal(self.predictions, self.labels)

    @cached_property
    def dense_right(self) -> NDArray[np.bool_]:
        return np.equal(self.dense, self.labels)

    def same_images(self, other: Outcomes) -> bool:
        """Whether both have the same labels, image by image."""
        return np.array_equal(self.labels, other.labels)


@dataclass(frozen=True)
class Marked:
    """Which of N test images a network classified correctly, as bits; `images` identifies the images."""

    bits: bytes
    count: int
    images: bytes

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.count).astype(bool)


def read_marked(folder: Path, top1: float | None = None) -> Marked | None:
    """As `read_outcomes`, but only what boards need; a file that has not changed is read once in a process."""
    try:
        status = (folder / PREDICTIONS).stat()
    except OSError:
        return None
    return _marked(folder, top1, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1 << 17)
def _marked(folder: Path, top1: float | None, *stamp: int) -> Marked | None:
    outcomes = read_outcomes(folder, top1)
    if outcomes is None:
        return None
    digest = hashlib.sha256(outcomes.labels.tobytes()).digest()
    return Marked(np.packbits(outcomes.right).tobytes(), len(outcomes.right), digest)


def read_outcomes(folder: Path, top1: float | None = None) -> Outcomes | None:
    """The predictions in a record's folder, None if there are none.

    StoreError for a file that holds no predictions, or whose accuracy is not `top1`, the record's.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        outcomes = Outcomes(*(tensors[name].reshape(-1) for name in ("predictions", "dense", "labels")))
        shapes = {len(values) for values in vars(outcomes).values()}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: not predictions ({error}); delete its folder and run the trial again") from error
    if len(shapes) > 1 or 0 in shapes:
        raise StoreError(f"{path}: not predictions of the same images; delete its folder and run the trial again")
    if top1 is not None and abs(float(outcomes.right.mean()) - top1) > TOLERANCE:
        raise StoreError(
            f"{folder}: top-1 is {top1:.6g} in {RECORD}, {outcomes.right.mean():.6g} by {PREDICTIONS}; "
            "delete the folder and run the trial again"
        )
    return outcomes
