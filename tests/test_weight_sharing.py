"""`sharing` against scikit-learn's k-means, the paper's example, and counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from bench.encodings import SharedWeights, artifact
from bench.encodings.base import encode, encoded_layers, stored_tensors
from bench.measuring import cost
from bench.networks.layers import fold, weighted_layers
from bench.networks.work import Work
from bench.plugins.setting import parse
from bench.system.errors import BenchError
from bench.training.lab import Lab

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]
sharing = __import__("bench_methods.sharing", fromlist=["sharing"])


def numbers(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def start(values: Tensor, k: int, kind: str = "linear") -> Tensor:
    found: Tensor = sharing.first_centroids(values, k, kind, torch.Generator().manual_seed(0))
    return found


@pytest.mark.parametrize(
    ("count", "k", "kind"), [(500, 1, "linear"), (500, 2, "linear"), (2000, 8, "linear"), (3000, 32, "density")]
)
def test_the_clusters_are_those_of_scikit_learn(count: int, k: int, kind: str) -> None:
    """Without empty clusters, which scikit-learn fills again."""
    values = numbers(count)
    first = start(values, k, kind)
    centroids, labels = sharing.cluster_line(values, first)
    reference = KMeans(k, init=first.numpy()[:, None], n_init=1, tol=0, max_iter=10_000, algorithm="lloyd")
    reference.fit(values.double().numpy()[:, None])
    order = np.argsort(reference.cluster_centers_[:, 0])
    assert np.allclose(centroids.numpy(), reference.cluster_centers_[order, 0], atol=1e-6)
    assert torch.equal(labels, torch.from_numpy(np.argsort(order)[reference.labels_]).long())


def test_where_clusters_start() -> None:
    values = torch.tensor([0.0, 1, 2, 3, 4, 100])
    assert start(values, 3).tolist() == [0, 50, 100]
    assert start(values, 3, "density").tolist() == [0, 2, 100]
    random = start(values, 3, "random")
    assert len(random) == 3 and set(random.tolist()) <= set(values.tolist()) and random.equal(random.sort().values)


def test_empty_clusters_are_dropped() -> None:
    values = torch.tensor([0.0, 0, 1, 1, 1, 100])
    centroids, labels = sharing.cluster_line(values, start(values, 50))
    assert centroids.tolist() == pytest.approx([0.6, 100])  # the range is wide: 0 and 1 are nearest to the first
    assert torch.equal(labels.unique(), torch.arange(len(centroids)))
    few, own = sharing.cluster_line(torch.full((7,), 2.5), start(torch.full((7,), 2.5), 4))
    assert few.tolist() == [2.5] and own.tolist() == [0] * 7
    few, own = sharing.cluster_line(values[:1], start(values[:1], 4, "random"))
    assert few.tolist() == [0] and own.tolist() == [0]


def test_the_papers_example() -> None:
    """Section 3: 16 weights that share 4, (16 * 32) / (4 * 32 + 2 * 16) = 3.2."""
    encoding = SharedWeights(torch.arange(16).view(4, 4) % 4, torch.randn(4))
    assert encoding.bits() == encoding.formula_bits() == 4 * 32 + 2 * 16
    assert 16 * 32 / encoding.formula_bits() == 3.2
    assert encoding.params(torch.randn(4)) == 4 and encoding.macs(Work(16, 1, 1)) == 16


def test_a_shared_weight_is_trained_by_the_sum_of_its_gradients() -> None:
    layer = nn.Linear(3, 2, bias=False)
    labels = torch.tensor([[0, 1, 1], [2, 0, 1]])
    encode(layer, SharedWeights(labels, torch.tensor([1.0, 2, 3]), labels < 2))
    gradient = torch.tensor([[1.0, 10, 100], [1000, 10_000, 100_000]])
    (layer.weight * gradient).sum().backward()
    (centroids,) = stored_tensors(layer)
    assert centroids.grad is not None and centroids.grad.tolist() == [10_001, 100_110, 0]
    assert layer.weight.tolist() == [[1, 2, 2], [0, 1, 2]]


@pytest.mark.parametrize("network", ["resnet20", "test_efficientnet"])
def test_each_layer_has_its_own_few_values(network: str, make_model: Make, make_lab: MakeLab) -> None:
    dense = make_model(network, size=64)
    model = parse("sharing(k=5)")[0].compress(make_model(network, size=64), make_lab(size=64, epochs=1))
    layers = weighted_layers(model)
    assert [name for name, _, _ in encoded_layers(model)] == list(layers)
    for name, layer in layers.items():
        assert len(layer.weight.unique()) <= 5 and not torch.equal(layer.weight, weighted_layers(dense)[name].weight)


def test_the_pipeline_of_the_paper(make_model: Make, make_lab: MakeLab, tmp_path: Path) -> None:
    """Pruned weights stay zero, the others share: bits by hand, and again with a codebook of 8 bits."""
    dense, architecture = make_model(), artifact.Architecture("resnet20", 4, 3)
    for last, bits, step in (("", 32, 0), ("+quantize(bits=8)", 8, 16)):
        lab = make_lab(epochs=1)
        model = parse(f"magnitude(rate=0.8)+sharing(k=8){last}")[0].compress(make_model(), lab).eval()
        for _, layer, encoding in encoded_layers(model):
            shared = encoding.content
            assert isinstance(shared, SharedWeights)
            kept = int(shared.kept.sum())  # type: ignore[operator,union-attr]
            assert not layer.weight[~shared.kept].any() and shared.k <= 8  # type: ignore[operator]
            positions = encoding.bits() - kept * int(np.ceil(np.log2(shared.k))) - shared.k * bits - step
            assert 0 < positions <= layer.weight.numel()
        figures = cost.compare(dense, model, (3, 32, 32), lab.notes)
        assert figures.macs < 0.5 * figures.macs_dense and {layer.encoding for layer in figures.layers} <= {
            "shared-weights",
            "quantized",
        }
        content = artifact.dump(model, architecture)
        (tmp_path / "model").write_bytes(content)
        found, state = artifact.load(tmp_path / "model").state_dict(), fold(model).state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items() if "num_batches" not in name)


@pytest.mark.parametrize("granularity", ["kernel", "weight"])
def test_what_was_dropped_before_is_not_clustered(granularity: str, make_model: Make, make_lab: MakeLab) -> None:
    setting = f"l1(rate=0.5, granularity={granularity})+sharing(k=4)"
    model = parse(setting)[0].compress(make_model(), make_lab())
    convolutions = [(layer, e) for _, layer, e in encoded_layers(model) if isinstance(layer, nn.Conv2d)]
    for layer, encoding in convolutions:
        assert isinstance(encoding, SharedWeights) and len(layer.weight.unique()) == 5
        assert float((layer.weight == 0).double().mean()) == pytest.approx(0.5, abs=0.02)


def test_what_is_encoded_otherwise_stays_and_says_so(make_model: Make, make_lab: MakeLab) -> None:
    lab = make_lab()
    parse("tic(k=4)+sharing(k=4)")[0].compress(make_model(), lab)
    assert (
        lab.notes["conv1"] == "scaled-kernels of an earlier method stays"
        and lab.notes["fc"] == "256 weights share 4 values"
    )
    with pytest.raises(BenchError, match=r"^sharing\(k=4\): an earlier method has encoded every weight"):
        parse("sharing(k=8)+sharing(k=4)")[0].compress(make_model(), make_lab())
