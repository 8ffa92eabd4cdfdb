"""What a reader of results must know about the images: test images used for training, classes with too few images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bench.data.images import Files, Images, Pixels
from bench.system.errors import BenchError
from bench.system.text import counted

MOST_COMPARED = 50_000
"""Files that are opened to find test images among the training images, at most."""
BLOCK = 4096


def remarks_on(train: Images | None, trained: Images | None, test: Images, classes: int) -> list[str]:
    """One sentence for each fact that makes accuracies less meaningful than they seem.

    `train` are the official training images (None if there are none), `trained` those that remain after the tuning
    images are held out, `test` the test images; `classes` is the number of classes.
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
    untrained = int(((per_class > 0) & (trained.labels.bincount(minlength=classes) == 0)).sum())
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
        seen = set(_pixel_digests(train))
        return sum(digest in seen for digest in _pixel_digests(test))
    if isinstance(train, Files) and isinstance(test, Files):
        return _count_shared_files(train, test)
    return 0


def _pixel_digests(pixels: Pixels) -> Iterable[bytes]:
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in pixels.images.numpy())


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
