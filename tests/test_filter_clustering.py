"""`fixed`, `wcss` and `inertia` against brute force and hand counts, and what becomes of a network."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.clustering.few_points import FewPoints
from bench.encodings import SharedFilters, artifact
from bench.encodings.artifact import Architecture
from bench.encodings.base import encoded_layers, encoding_of
from bench.encodings.manifest import read_file
from bench.measuring import cost
from bench.networks.layers import convolutions
from bench.networks.work import Work
from bench.plugins import registry
from bench.plugins.setting import parse
from bench.system.errors import BenchError
from bench.training.lab import Lab
from bench.trials.trial import source_digest

from .random_filters import filters, generator, inertia_of, scikit_learns

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]


def choose(setting: str, points: Tensor, seed: int = 0) -> int:
    method = parse(setting)[0].stages[0]
    return method.choose_k(FewPoints(points, generator(seed)))  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("count", "keep", "k"), [(64, 0.75, 48), (16, 0.95, 15), (10, 0.25, 2), (3, 0.1, 1), (8, 1, 8)]
)
def test_fixed_keeps_the_share(count: int, keep: float, k: int) -> None:
    assert choose(f"fixed(keep={keep})", filters(count, 9)) == k == max(1, round(count * keep))


@pytest.mark.parametrize("step", [1, 3, 7])
def test_wcss_takes_the_elbow_that_brute_force_finds(step: int) -> None:
    points = filters(48, 27)
    ks = [k for k in range(round(48 * 0.3), 49) if (k - round(48 * 0.3)) % step == 0 or k == 48]
    heights = [inertia_of(points, FewPoints(points, generator()).kmeans(k).labels) for k in ks]
    first, line = np.array([ks[0], heights[0]]), np.array([ks[-1] - ks[0], heights[-1] - heights[0]])
    unit = line / np.linalg.norm(line)
    apart = [np.linalg.norm(p - (p @ unit) * unit) for p in np.column_stack([ks, heights]) - first]
    chosen = choose(f"wcss(lowest=0.3, highest=1, step={step})", points)
    assert chosen == ks[int(np.argmax(apart))] and ks[0] < chosen < 48


def test_wcss_fits_the_last_k_too_and_one_k_alone() -> None:
    wcss = __import__("bench_methods.wcss", fromlist=["wcss"])
    # Without the last point the line would be flat, and 3 the farthest.
    assert wcss.elbow([1, 2, 3, 4], [10.0, 10.0, 8.0, 0.0]) == 3
    assert wcss.elbow([1, 2, 3], [10.0, 2.0, 0.0]) == 2
    assert wcss.elbow([2, 5], [9.0, 1.0]) == 2 and wcss.elbow([7], [3.0]) == 7
    assert choose("wcss(lowest=0.5, highest=0.5)", filters(10, 9)) == 5


@pytest.mark.parametrize("limit", [0, 0.5, 3, 10, 1e3])
@pytest.mark.parametrize(("count", "width"), [(24, 18), (17, 2), (2, 4), (1, 4), (3, 4)])
def test_inertia_searches_as_the_literal_loop_does(count: int, width: int, limit: float) -> None:
    points = filters(count, width)
    ours, k = FewPoints(points, generator()), count
    while k - 1 >= count // 2 + 1 and ours.kmeans(k - 1).inertia <= limit:
        k -= 1
    assert choose(f"inertia(limit={limit})", points) == k
    theirs = count
    while theirs - 1 >= count // 2 + 1 and scikit_learns(points, theirs - 1, 0) <= limit:
        theirs -= 1
    assert k <= theirs


def compress(setting: str, model: nn.Module, lab: Lab) -> nn.Module:
    return parse(setting)[0].compress(model, lab).eval()


def test_what_a_layer_costs_by_hand_and_in_the_file(make_model: Make, make_lab: MakeLab, tmp_path: Path) -> None:
    dense, lab = make_model(), make_lab()
    model = compress("fixed(keep=0.75, layers='layer3.*')", make_model(), lab)
    layers = {name: (layer, encoding) for name, layer, encoding in encoded_layers(model)}
    assert layers.keys() == {name for name in convolutions(model) if name.startswith("layer3.")}
    found = {layer.name: layer for layer in cost.compare(dense, model, (3, 32, 32), lab.notes).layers}
    for name, (layer, encoding) in layers.items():
        outputs, inputs, height, width = layer.weight.shape
        k = round(0.75 * outputs)
        assert encoding.bits() == k * inputs * height * width * 32 + outputs * ceil(log2(k))
        assert found[name].macs == found[name].macs_dense * k / outputs
        before, after = (convolutions(m)[name].weight.detach().double().numpy() for m in (dense, model))
        details, change = found[name].details, np.abs(after - before)
        assert (details["filters"], details["k"]) == (outputs, k)
        assert details["inertia"] == pytest.approx((change**2).sum(), rel=1e-5)
        assert details["l0"] == np.count_nonzero(change) / change.size
        assert details["l1"] == pytest.approx(change.sum() / change.size)
        assert details["l2"] == pytest.approx((change**2).sum() ** 0.5 / change.size)
        assert details["linf"] == pytest.approx(change.max())
    content = artifact.dump(model, Architecture("resnet20", 4, 3))
    fewer = sum(layer.weight.numel() * 4 - ceil(encoding.bits() / 8) for layer, encoding in layers.values())
    plain = len(artifact.dump(dense, Architecture("resnet20", 4, 3)))
    assert abs(plain - len(content) - fewer) < 200 * len(layers)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for name, layer in convolutions(artifact.load(path)).items():
        assert torch.equal(layer.weight, convolutions(model)[name].weight)
    kinds = [layer["kind"] for layer in read_file(path)[1].layers.values()]
    assert kinds.count("shared-filters") == len(layers)


def test_every_filter_is_the_mean_of_those_that_share_it(make_model: Make, make_lab: MakeLab) -> None:
    dense = convolutions(make_model())
    model = compress("fixed(keep=0.5)", make_model(), make_lab())
    for name, layer, encoding in encoded_layers(model):
        assert isinstance(encoding, SharedFilters)
        for label in range(encoding.k):
            members = encoding.labels == label
            mean = dense[name].weight[members].double().mean(0)
            assert torch.allclose(layer.weight[members].double(), mean, atol=1e-7)


def test_grouped_filters_share_storage_but_each_group_computes_its_own(make_lab: MakeLab) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3, groups=4, bias=False)
    with torch.no_grad():
        layer.weight[12:] = layer.weight[:4]  # the last group computes as the first, of other inputs
    lab = make_lab()
    model = compress("inertia(limit=0)", nn.Sequential(layer), lab)
    encoding = encoding_of(convolutions(model)["0"])
    assert isinstance(encoding, SharedFilters) and encoding.k == 12
    assert encoding.bits() == 12 * 2 * 9 * 32 + 16 * 4
    assert encoding.macs(Work(1600, 1, 1)) == 1600
    assert "each of its groups" in lab.notes["0"]
    images = torch.randn(2, 8, 6, 6)
    assert torch.equal(model(images), nn.functional.conv2d(images, layer.weight, groups=4))


def test_depthwise_and_pointwise_layers_are_clustered_too(make_model: Make, make_lab: MakeLab) -> None:
    model = compress("fixed(keep=0.5)", make_model("test_efficientnet"), make_lab(size=64))
    encoded = {name: layer for name, layer, _ in encoded_layers(model)}
    assert any(layer.groups == layer.in_channels > 1 for layer in encoded.values())
    assert any(layer.kernel_size == (1, 1) for layer in encoded.values())
    assert encoded.keys() == convolutions(model).keys()


@pytest.mark.parametrize(("layers", "names"), [("first", ["conv1"]), (2, ["layer1.0.conv1"]), ("none", [])])
def test_some_layers_only(layers: str | int, names: list[str], make_model: Make, make_lab: MakeLab) -> None:
    if not names:
        with pytest.raises(BenchError, match="layers='nothing.' matches no layer: the network has 19 convolutions"):
            compress("fixed(layers='nothing*')", make_model(), make_lab())
        return
    model = compress(f"fixed(keep=0.5, layers={layers})", make_model(), make_lab())
    assert [name for name, _, _ in encoded_layers(model)] == names


def test_after_pruning_what_is_left_is_clustered(make_model: Make, make_lab: MakeLab) -> None:
    pruned = convolutions(compress("l1(rate=0.3)", make_model(), make_lab()))
    model = compress("l1(rate=0.3)+fixed(keep=0.5)", make_model(), make_lab())
    layers = list(encoded_layers(model))
    assert len(layers) == 19 and any(layer.weight.shape[0] == 11 for _, layer, _ in layers)
    for name, layer, encoding in layers:
        assert layer.weight.shape == pruned[name].weight.shape
        assert isinstance(encoding, SharedFilters) and encoding.k == round(0.5 * len(layer.weight))


def test_layers_that_cannot_be_clustered_stay_and_say_why(make_model: Make, make_lab: MakeLab) -> None:
    lab = make_lab()
    compress("tic(k=4)+fixed(keep=0.9)", make_model("test_resnet"), lab)
    assert "scaled-kernels of an earlier method stays" in lab.notes.values()
    lab = make_lab()
    model = compress("inertia(limit=0)", make_model(), lab)
    assert not list(encoded_layers(model)) and lab.notes["conv1"] == "none of its 16 filters is merged"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fixed(keep=0)", "keep=0.*greater than 0"),
        ("fixed(keep=1.5)", "keep=1.5.*less than or equal to 1"),
        ("wcss(lowest=0.9, highest=0.5)", "lowest=0.9 is above highest=0.5"),
        ("wcss(step=0)", "step=0.*greater than or equal to 1"),
        ("inertia(limit=-1)", "limit=-1.*greater than or equal to 0"),
    ],
)
def test_bad_settings_are_one_line(setting: str, message: str) -> None:
    with pytest.raises(BenchError, match=message) as caught:
        parse(setting)
    assert "\n" not in str(caught.value)


def test_a_network_without_convolutions_is_refused(make_lab: MakeLab) -> None:
    for name in ("fixed", "wcss", "inertia"):
        with pytest.raises(BenchError, match=f"{name}.*: the network has no convolutions"):
            compress(name, nn.Sequential(nn.Linear(2, 2)), make_lab())


def test_what_methods_share_is_part_of_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = registry.methods()
    before = {name: source_digest(methods[name]) for name in ("fixed", "wcss", "kse")}
    assert len(set(before.values())) == 3
    shared = __import__("bench_methods._filter_clustering", fromlist=["x"])
    whole = __import__("inspect").getsource
    monkeypatch.setattr("inspect.getsource", lambda item: whole(item) + ("edited = 1\n" if item is shared else ""))
    after = {name: source_digest(methods[name]) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"fixed", "wcss"}
