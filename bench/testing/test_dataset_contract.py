"""What holds for every installed dataset that needs no download.

The id of each test is the dataset's name, so `-k stripes` selects a dataset. A dataset may need a path or a data root;
without one it raises a BenchError of one line, and the tests of its images are skipped.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from bench.data.dataset import Dataset, Pixels, content_digest
from bench.data.feed import Feed
from bench.plugins import registry
from bench.system.errors import BenchError
from bench.trials.task import Subject, preprocessing

DATASETS = {name: kind for name, kind in registry.datasets().items() if not kind.downloads}
SAMPLE = 8
"""Images that a network is trained on."""
MOST_IMAGES = 1000
"""Images whose mean and deviation are computed."""
FARTHEST = 4
"""By what factor `std` may differ from the deviation of the training images, and by how many deviations `mean`."""

every_dataset = pytest.mark.parametrize("name", DATASETS)


def open_or_skip(name: str) -> Dataset:
    """Open the dataset, or skip the test if it needs a path or a data root. Any other problem is an error."""
    try:
        return DATASETS[name].open(None, None)
    except BenchError as error:
        pytest.skip(f"refused: {error}")


@cache
def opened(name: str) -> Dataset:
    return open_or_skip(name)


@every_dataset
def test_attributes_and_images_are_what_they_should_be(name: str) -> None:
    dataset = opened(name)
    dataset.check()
    assert dataset.name == name


@every_dataset
def test_opened_twice_it_has_the_same_content(name: str) -> None:
    once, again = opened(name), open_or_skip(name)
    assert (once.title, once.digest) == (again.title, again.digest)
    for part in once.parts:
        assert content_digest(once.load(part)) == content_digest(again.load(part)), part


@every_dataset
def test_no_training_image_is_held_out_and_none_is_lost(name: str) -> None:
    dataset = opened(name)
    if "train" not in dataset.parts:
        pytest.skip("no training images")
    parts = [dataset.split("train"), dataset.split("tuning")]
    assert all(len(part) > 0 for part in parts)
    together = torch.cat([part.labels for part in parts]).sort().values
    assert torch.equal(together, dataset.load("train").labels.sort().values)


@every_dataset
def test_mean_and_std_are_of_pixels_between_0_and_1(name: str) -> None:
    dataset = opened(name)
    images = dataset.load(dataset.parts[0])
    if not isinstance(images, Pixels):
        pytest.skip("the network's own preprocessing is used")
    pixels = images.images[:: 1 + len(images) // MOST_IMAGES].transpose(0, 1).flatten(1).float() / 255
    mean, std = torch.tensor(dataset.mean), torch.tensor(dataset.std)
    assert (pixels.mean(1) - mean).abs().le(FARTHEST * std).all(), f"mean is {pixels.mean(1).tolist()}"
    ratio = std / pixels.std(1).clamp(min=1 / 255)
    assert ((1 / FARTHEST <= ratio) & (ratio <= FARTHEST)).all(), f"std is {pixels.std(1).tolist()}"


@every_dataset
def test_a_network_trains_on_it(name: str) -> None:
    dataset = opened(name)
    images = dataset.load(dataset.parts[0])
    model = Subject("resnet20", dataset).build().train()
    sample = images.subset(torch.arange(min(SAMPLE, len(images))))
    feed = Feed(sample, preprocessing(model, dataset), torch.device("cpu"), dataset.recipe)
    for batch, labels in feed.once():
        outputs = model(batch)
        assert outputs.shape == (len(labels), len(dataset.classes))
        loss = cross_entropy(outputs, labels)
        loss.backward()
        assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_dataset
def test_a_path_that_does_not_exist_gets_one_line(name: str, tmp_path: Path) -> None:
    """Or is not needed, as by a dataset that is part of its package."""
    missing = tmp_path / "missing"
    for argument, root in ((str(missing), None), (None, missing)):
        try:
            DATASETS[name].open(argument, root).check()
        except BenchError as error:
            assert "\n" not in str(error)


@every_dataset
def test_the_list_can_describe_it(name: str) -> None:
    kind = DATASETS[name]
    assert kind.__doc__ or sys.modules[kind.__module__].__doc__, f"{name} has no docstring"
