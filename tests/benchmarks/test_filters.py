"""How fast `inertia` finds its k, beside the loop one would write with scikit-learn: `tox -e bench`.

Filters are random directions of random lengths. The plain loop is run in full for 256 filters; the largest layer of
ResNet-18 is timed for ours alone.
"""

from __future__ import annotations

import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from bench.clustering.few_points import FewPoints
from bench.plugins.setting import parse

MERGED = 0.05
"""The limit is the inertia at which Ward's clusters merge this share of the filters."""


def layer(filters: int, width: int) -> tuple[Tensor, float]:
    """Filters [Co, Ci * h * w] and a limit for `inertia`."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(filters, width, generator=generator) * torch.rand(filters, 1, generator=generator)
    return points, FewPoints(points, generator).ward_inertia[round(filters * (1 - MERGED))].item()


def ours(points: Tensor, limit: float) -> int:
    method = parse(f"inertia(limit={limit})")[0].stages[0]
    return method.choose_k(FewPoints(points, torch.Generator().manual_seed(0)))  # type: ignore[attr-defined]


def plain_loop(points: Tensor, limit: float) -> int:
    k, cloud = len(points), points.numpy()
    while k - 1 > len(points) // 2 and Reference(k - 1, n_init=1, random_state=0).fit(cloud).inertia_ <= limit:
        k -= 1
    return k


@pytest.mark.benchmark(group="inertia: 256 filters of 2,304")
def test_search_by_distances(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["ours"] = True
    points, limit = layer(256, 2304)
    benchmark.pedantic(lambda: ours(points, limit), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="inertia: 256 filters of 2,304")
def test_search_one_k_after_the_other_with_scikit_learn(benchmark: BenchmarkFixture) -> None:
    points, limit = layer(256, 2304)
    started = time.perf_counter()
    found = ours(points, limit)
    seconds = time.perf_counter() - started
    theirs = benchmark.pedantic(lambda: plain_loop(points, limit), rounds=1)
    assert found <= theirs < 256
    assert benchmark.stats["min"] >= 20 * seconds


@pytest.mark.benchmark(group="inertia: 512 filters of 4,608, ResNet-18's largest layer")
def test_search_in_a_large_layer(benchmark: BenchmarkFixture) -> None:
    benchmark.extra_info["ours"] = True
    points, limit = layer(512, 4608)
    benchmark.pedantic(lambda: ours(points, limit), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="inertia: 512 filters of 4,608, ResNet-18's largest layer")
def test_a_single_k_of_it_with_scikit_learn(benchmark: BenchmarkFixture) -> None:
    points, _ = layer(512, 4608)
    cloud = points.numpy()
    benchmark.pedantic(lambda: Reference(511, n_init=1, random_state=0).fit(cloud), rounds=1)
