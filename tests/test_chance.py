"""Baselines near chance: where the warning comes, and that it comes before anything is compressed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bench.measuring.chance import remark_on_chance
from bench.measuring.evaluation import Evaluation
from bench.networks import zoo
from bench.records.store import Store

Say = Callable[..., Any]


def evaluation(right: int, wrong: int, labels: list[int] | None = None) -> Evaluation:
    truth = torch.tensor(labels or [index % 2 for index in range(right + wrong)])
    predictions = torch.cat([truth[:right], 1 - truth[right:].clamp(max=1)])
    count = len(truth)
    return Evaluation(predictions, truth, torch.ones(count, dtype=torch.bool), torch.zeros(count), 0.0)


@pytest.mark.parametrize("count", [4, 20, 100])
def test_chance_is_told_where_the_exact_interval_reaches_it(count: int) -> None:
    """By hand: P(X >= right) of a fair coin is above 2.5% exactly where the interval reaches down to a half."""
    for right in range(count + 1):
        tail = sum(math.comb(count, k) for k in range(right, count + 1)) / 2**count
        assert (remark_on_chance(evaluation(right, count - right)) is not None) == (tail > 0.025), right


def test_a_constant_answer_is_chance_even_where_a_class_is_frequent() -> None:
    labels = [0] * 90 + [1] * 10
    remark = remark_on_chance(evaluation(90, 10, labels))
    assert remark is not None and "top-1 90.00% on 100 test images" in remark and "gives 90.00%" in remark
    assert remark_on_chance(evaluation(98, 2, labels)) is None


def test_a_baseline_near_chance_is_warned_of_before_anything_is_compressed(
    image_folder: Path, tmp_path: Path, bench_command: Say
) -> None:
    torch.manual_seed(3)
    save_file(zoo.create_model("resnet20", 3, 3).state_dict(), tmp_path / "random.safetensors")
    words = f"run --methods l1 --models resnet20 --dataset folder:{image_folder} --epochs 0 --no-tracking"
    said = bench_command(*words.split(), "--weights", tmp_path / "random.safetensors", "--store", tmp_path / "runs")
    lines = said.err.splitlines()
    told = next(index for index, line in enumerate(lines) if "warning: the dense network is near chance" in line)
    assert told < next(index for index, line in enumerate(lines) if ": none, seed 0" in line)
    assert all("near chance" in record.notes[0] for record in Store(tmp_path / "runs").records())
