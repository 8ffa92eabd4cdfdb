"""Layers that are slower than they would be with more channels, and how a run tells of them."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.execution.choice import smallest
from bench.execution.costly_widths import costly_widths, remark_on_widths

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class SlowWhenOdd(nn.Conv2d):
    """A device on which a number of filters that is no multiple of 8 takes two milliseconds longer."""

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.002 * (self.out_channels % 8 > 0))
        return super().forward(images)


def network(*widths: int, kind: type[nn.Conv2d] = nn.Conv2d, groups: int = 1) -> nn.Module:
    """Convolutions of these widths one after the other, and a classifier."""
    layers: list[nn.Module] = []
    for inputs, filters in zip((3, *widths), widths, strict=False):
        layers += [kind(inputs, filters, 3, padding=1, groups=1 if inputs == 3 else groups), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 4)).eval()


@pytest.mark.parametrize(
    ("widths", "told"),
    [
        ((13, 16, 5), ["0 3 -> 13 of 3 -> 16", "2 13 -> 16 of 16 -> 16", "4 16 -> 5 of 16 -> 8"]),
        ((16, 8, 16), []),
        ((24, 24, 24), []),
        ((23, 24, 24), ["0 3 -> 23 of 3 -> 24", "2 23 -> 24 of 24 -> 24"]),
    ],
)
def test_only_layers_that_lost_channels_are_tried_and_none_wider_than_before(
    widths: tuple[int, ...], told: list[str]
) -> None:
    found = costly_widths(network(*widths), network(24, 24, 24), IMAGES, judge=smallest)
    assert [f"{c.name} {c.inputs} -> {c.filters} of {c.wider_inputs} -> {c.wider_filters}" for c in found] == told


def test_no_width_becomes_wider_than_it_was() -> None:
    (first, second) = costly_widths(network(9, 12), network(12, 12), IMAGES, judge=smallest)
    assert (first.filters, first.wider_filters) == (9, 12)
    assert (second.inputs, second.wider_inputs, second.wider_filters) == (9, 12, 12)


def test_grouped_convolutions_are_left_out() -> None:
    found = costly_widths(network(12, 12, groups=4), network(16, 16, groups=4), IMAGES, judge=smallest)
    assert [layer.name for layer in found] == ["0"], "the stem is an ordinary convolution"


def test_what_is_slow_is_named_by_measurement_with_what_helps() -> None:
    dense = network(24, 24, 24, kind=SlowWhenOdd)
    before = copy.deepcopy(dense.state_dict())
    told = remark_on_widths(network(13, 16, 21, kind=SlowWhenOdd), dense, IMAGES)
    assert told is not None and told.endswith("; round_to=8 keeps multiples")
    assert "widths that cost more than they save, with 2 images: " in told
    assert "0 (3 -> 13 channels) takes" in told and "the time of 3 -> 16" in told and "the time of 16 -> 24" in told
    assert "2 (" not in told, "its number of filters is a multiple, so it is not slow"
    assert remark_on_widths(network(16, 16, 8, kind=SlowWhenOdd), dense, IMAGES[:1]) is None
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())


def test_a_run_prints_the_note_and_records_it(
    bench_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_timing: None, image_folder: Path
) -> None:
    monkeypatch.setattr("bench.trials.ruler.remark_on_widths", lambda *_: "widths that cost more")
    words = ["--methods", "none,l1(rate=0.4)", "--models", "resnet20", "--dataset", f"folder:{image_folder}"]
    said = bench_command("run", *words, "--weights", "scratch", "--epochs", 0, "--store", tmp_path, "--no-tracking")
    assert said.code == 0 and said.err.count("note: widths that cost more") == 2  # with one image, and with a batch
    notes = {
        file.parent.name: file.read_text().count("widths that cost more") for file in tmp_path.rglob("record.json")
    }
    assert sorted(notes.values()) == [0, 2], "the dense network has the widths it was built with"
