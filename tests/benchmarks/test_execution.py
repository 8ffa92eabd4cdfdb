"""What the executable form gains over the decoded network, in torch on one thread: `tox -e bench`.

ResNet-18 at 224x224 with random weights: what is computed does not depend on them.
"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.encodings import SharedFilters
from bench.encodings.base import encode
from bench.execution.executable import execute
from bench.networks import zoo
from bench.networks.layers import convolutions, fold, on_device

SIZE = 224


@cache
def networks(share: float, batch: int) -> tuple[nn.Module, nn.Module, Tensor]:
    """ResNet-18 with that share of its filters, decoded and executable, and images."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = zoo.create_model("resnet18", 1000, 3)
    for layer in convolutions(model).values():
        k = round(share * layer.out_channels)
        labels = torch.cat([torch.arange(k), torch.randint(0, k, (layer.out_channels - k,))])
        labels = labels[torch.randperm(layer.out_channels)]
        encode(layer, SharedFilters(labels, layer.weight.detach()[:k].clone()))
    images = torch.randn(batch, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    decoded = on_device(fold(model), torch.device("cpu")).eval()
    return decoded, execute(copy.deepcopy(decoded), images).network, images


@torch.inference_mode()
def timed(benchmark: BenchmarkFixture, network: nn.Module, images: Tensor) -> None:
    benchmark.pedantic(network, args=(images,), rounds=10, warmup_rounds=2)


CASES = [
    pytest.param(0.5, 1, marks=pytest.mark.benchmark(group="ResNet-18, 50% of its filters, batch 1")),
    pytest.param(0.5, 8, marks=pytest.mark.benchmark(group="ResNet-18, 50% of its filters, batch 8")),
    pytest.param(0.25, 1, marks=pytest.mark.benchmark(group="ResNet-18, 25% of its filters, batch 1")),
    pytest.param(0.25, 8, marks=pytest.mark.benchmark(group="ResNet-18, 25% of its filters, batch 8")),
]


@pytest.mark.parametrize(("share", "batch"), CASES)
class TestSharedFilters:
    """Each pair has a group of its own."""

    def test_executable(self, benchmark: BenchmarkFixture, share: float, batch: int) -> None:
        benchmark.extra_info["ours"] = True
        _, executable, images = networks(share, batch)
        timed(benchmark, executable, images)

    def test_decoded(self, benchmark: BenchmarkFixture, share: float, batch: int) -> None:
        decoded, _, images = networks(share, batch)
        timed(benchmark, decoded, images)
