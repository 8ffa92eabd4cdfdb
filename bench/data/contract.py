"""The contract of dataset plugins: their attributes, and the images they load. Errors name the plugin."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.data.images import Files, Images, Pixels, described
from bench.data.recipe import Recipe
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from bench.data.dataset import Dataset

D = TypeVar("D", bound="Dataset")
T = TypeVar("T")

IMAGENET_CLASSES = 1000


def open_checked(kind: type[D], argument: str | None, root: Path | None) -> D:
    """Open a dataset, check the contract, and warn of what a reader of its results must know.

    `argument` and `root` are those of `Dataset.open`. Raises BenchError, in one line, for anything that is wrong.
    """
    dataset = guarded(kind, "open", lambda: kind.open(argument, root))
    if not isinstance(dataset, kind):
        raise broken(kind, f"`open` returned {described(dataset)}, expected a {kind.__name__}")
    dataset.check()
    for remark in dataset.remarks:
        warnings.warn(f"{dataset.title}: {remark}", stacklevel=3)
    return dataset


def guarded(kind: type[Dataset], name: str, call: Callable[[], T]) -> T:
    """Call a plugin's code. Errors that it does not raise on purpose become a one-line BenchError with its name."""
    try:
        return call()
    except (BenchError, OSError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise broken(kind, f"`{name}` failed: {type(error).__name__}: {reason}") from error


def broken(kind: type[Dataset], problem: str) -> BenchError:
    name = getattr(kind, "name", kind.__name__)
    return BenchError(f"dataset plugin '{name}' ({kind.__module__}.{kind.__qualname__}): {problem}")


def check_attributes(dataset: Dataset) -> None:
    """BenchError for an attribute that is missing, or not as `Dataset` describes it."""
    for name, (expected, is_right) in ATTRIBUTES.items():
        if not hasattr(dataset, name):
            raise broken(type(dataset), f"`{name}` is not set, expected {expected}")
        value = getattr(dataset, name)
        if not is_right(value):
            raise broken(type(dataset), f"`{name}` is {value!r:.200}, expected {expected}")
    channels = dataset.input_shape[0]
    for name in ("mean", "std"):
        count = len(getattr(dataset, name))
        if count != channels:
            raise broken(type(dataset), f"`{name}` has {count} numbers, expected one per channel: {channels}")
    if dataset.imagenet_classes and len(dataset.classes) != IMAGENET_CLASSES:
        raise broken(type(dataset), f"{len(dataset.classes)} classes, expected ImageNet's {IMAGENET_CLASSES}")


def check_part(dataset: Dataset, part: str, images: Images) -> None:
    """BenchError where loaded images do not fit the dataset's attributes."""
    kind = type(dataset)
    if not isinstance(images, Pixels | Files):
        raise broken(kind, f"`load({part!r})` returned {described(images)}, expected Pixels or Files")
    if len(images) == 0:
        raise broken(kind, f"`load({part!r})` returned no images")
    if isinstance(images, Pixels) and tuple(images.images.shape[1:]) != tuple(dataset.input_shape):
        shape = list(images.images.shape[1:])
        raise broken(kind, f"{part} images are {shape}, expected `input_shape`: {list(dataset.input_shape)}")
    if isinstance(images, Files) and not all(isinstance(path, Path) for path in images.paths):
        raise broken(kind, f"`load({part!r})` returned paths that are not pathlib.Path objects")
    lowest, highest = int(images.labels.min()), int(images.labels.max())
    if lowest < 0 or highest >= len(dataset.classes):
        last = len(dataset.classes) - 1
        raise broken(kind, f"{part} labels are {lowest} to {highest}, expected 0 to {last} (one per class)")


def _is_text(value: object) -> bool:
    """Whether it is non-empty, printable, valid Unicode: it is written to tables, file names and JSON."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_title(value: object) -> bool:
    return _is_text(value) and "/" not in str(value)


def _are_classes(value: Any) -> bool:
    return isinstance(value, tuple | list) and 0 < len(value) == len(set(value)) and all(map(_is_text, value))


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 3
        and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value)
    )


def _are_numbers(value: object) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) > 0
        and all(isinstance(number, int | float) and math.isfinite(number) for number in value)
    )


def _are_means(value: Any) -> bool:
    return _are_numbers(value) and all(0 <= mean <= 1 for mean in value)


def _are_deviations(value: Any) -> bool:
    return _are_numbers(value) and all(deviation > 0 for deviation in value)


def _are_parts(value: object) -> bool:
    return value in (("test",), ("train", "test"), ("test", "train"))


def _are_notes(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(note, str) for note in value)


ATTRIBUTES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "title": ("non-empty text without a slash, under which results are filed", _is_title),
    "classes": ("the names of the classes: a tuple of non-empty text, each name once", _are_classes),
    "input_shape": ("three positive integers: channels, height, width", _is_shape),
    "mean": ("one number per channel from 0 to 1, of pixels in [0, 1]", _are_means),
    "std": ("one number per channel above 0, of pixels in [0, 1]", _are_deviations),
    "recipe": ("a Recipe", lambda value: isinstance(value, Recipe)),
    "parts": ("('train', 'test') or ('test',)", _are_parts),
    "imagenet_classes": ("True or False", lambda value: isinstance(value, bool)),
    "notes": ("a tuple of text", _are_notes),
}
"""What is expected of each attribute of a dataset, in words and as a test."""
