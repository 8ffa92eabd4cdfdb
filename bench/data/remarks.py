"""What a reader of results must know about the images: test images used for training, classes with too few images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.data.images import Files, Images, Pixels
from bench.system.errors import BenchError
from bench.system.text import counted

MOST_COMPARED = 50_000
"""Files that are opened to find test images among the training images, at most."""
BLOCK = 4096
IMAGES_AT_ONCE = 4096


def remarks_on(train: Images | None, trained: Tensor | None, test: Images, classes: int) -> list[str]:
    """One sentence for each fact that makes accuracies less meaningful than they seem.

    `train` are the official training images (None if there are none), `trained` the labels of those that remain after
    the tuning images are held out, `test` the test images; `classes` is the number of classes.
    """
    remarks = []
    per_class = test.labels.bincount(minlength=classes)
    if classes == 1:
        remarks.append("there is one class only: every network is always right, and accuracies say nothing")
    elif (per_class > 0).sum() == 1:
        remarks.append("all test images are of one class: accuracies say little")
    elif per_class.max() == 1:
        remarks.append(f"no class has more than one test image ({len(test)} images): accuracies are uncertain")
    if train is None or trained is None:
        return remarks
    untrained = int(((per_class > 0) & (trained.bincount(minlength=classes) == 0)).sum())
    if untrained:
        remarks.append(f"{counted(untrained, 'class', 'classes')} with test images but no images to train on")
    shared = count_shared(train, test)
    if shared is None:
        remarks.append(
            f"test images were not searched for among the training images: more than {MOST_COMPARED:,} files "
            "have sizes that occur in both"
        )
    elif shared:
        remarks.append(f"{counted(shared, 'test image is', 'test images are')} among the training images too")
    return remarks


def count_shared(train: Images, test: Images) -> int | None:
    """How many test images are among the training images: the same pixels, or files of the same bytes.

    Files are compared if their sizes agree. If more than `MOST_COMPARED` files do, as in ImageNet, reading them would
    take too long, and the result is None.
    """
    if isinstance(train, Pixels) and isinstance(test, Pixels):
        return _count_shared_pixels(train, test)
    if isinstance(train, Files) and isinstance(test, Files):
        return _count_shared_files(train, test)
    return 0


def _count_shared_pixels(train: Pixels, test: Pixels) -> int:
    """Digests are computed of those images only whose checksums occur in both parts."""
    ours, theirs = _checksums(test), _checksums(train)
    candidates = test.images.numpy()[np.isin(ours, theirs)]
    if not len(candidates):
        return 0
    seen = set(_pixel_digests(train.images.numpy()[np.isin(theirs, ours)]))
    return sum(digest in seen for digest in _pixel_digests(candidates))


def _checksums(pixels: Pixels) -> NDArray[np.uint64]:
    """A sum of the bytes of each image, eight at a time, with random odd weights; equal images have equal sums."""
    flat = np.ascontiguousarray(pixels.images.numpy()).reshape(len(pixels), -1)
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 8))) if flat.shape[1] % 8 else flat
    words = flat.view(np.uint64)
    weights = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64) * 2 + 1
    parts = (words[start : start + IMAGES_AT_ONCE] for start in range(0, len(words), IMAGES_AT_ONCE))
    return np.concatenate([(part * weights).sum(1) for part in parts])


def _pixel_digests(images: NDArray[np.uint8]) -> Iterable[bytes]:
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)


def _count_shared_files(train: Files, test: Files) -> int | None:
    sizes = set(train.sizes) & set(test.sizes)
    ours, theirs = ([path for path, size in zip(part.paths, part.sizes, strict=True) if size in sizes]
                    for part in (test, train))  # fmt: skip
    if len(ours) + len(theirs) > MOST_COMPARED:
        return None
    blocks = {path: _block(path) for path in {*ours, *theirs}}
    alike = {blocks[path] for path in ours} & {blocks[path] for path in theirs}
    seen = {_digest(path) for path in theirs if blocks[path] in alike}
    counts = Counter(_digest(path) for path in ours if blocks[path] in alike)
    return sum(count for digest, count in counts.items() if digest in seen)


def _block(path: Path) -> bytes:
    """Some bytes from the middle of a file: its beginning may be a header that many share."""
    try:
        with path.open("rb") as file:
            file.seek(path.stat().st_size // 2)
            return file.read(BLOCK)
    except OSError as error:
        raise BenchError(f"image {path} cannot be read: {error.strerror}") from error


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
