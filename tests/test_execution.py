"""The executable form against the decoded network it was made from, and its size against hand counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import bench
from bench.encodings import (
    ChannelKernels,
    Mask,
    Plain,
    Quantized,
    ScaledKernels,
    SharedFilters,
    SharedWeights,
    artifact,
)
from bench.encodings.base import Codebook, Encoding, encode
from bench.execution import choice
from bench.execution.choice import OF_A_LAYER, OF_A_NETWORK, Choice, Demand, fastest, smallest
from bench.execution.executable import execute, require_same
from bench.execution.factored import Factored
from bench.execution.layers import forms_of
from bench.execution.reduced import Reduced, reduced_forms, take
from bench.measuring.cost import count_macs
from bench.networks.layers import convolutions, fold, on_device
from bench.plugins.setting import parse
from bench.system.errors import BadArgument, BenchError
from bench.training.lab import Lab

Make = Callable[..., nn.Module]
SIDE = 12


def assert_same(got: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest output."""
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5 * max(1e-6, expected.abs().max().item())


def shared(groups: int, weight: Tensor) -> Encoding:
    """Half as many filters as there are, each used in every group."""
    k = max(1, len(weight) // groups // 2)
    return SharedFilters(torch.arange(len(weight)) % k, weight[:k].clone(), groups)


def by_channel(groups: int, weight: Tensor) -> Encoding:
    """Every third input channel dropped, the others with two kernels each."""
    channels, filters = weight.shape[1] * groups, len(weight) // groups
    sizes = torch.tensor([0 if channel % 3 == 0 else min(2, filters) for channel in range(channels)])
    labels = torch.arange(filters).expand(channels, -1) % sizes.clamp(min=1)[:, None]
    return ChannelKernels(sizes, labels, torch.randn(int(sizes.sum()), *weight.shape[2:]), groups)


def by_codebook(groups: int, weight: Tensor) -> Encoding:
    """Kernels from a codebook; filter 1 of each group has scales of zero."""
    labels = torch.arange(weight[:, :, 0, 0].numel()).view(weight.shape[:2]) % 3
    scales = torch.rand(weight.shape[:2]) + 0.5
    scales.unflatten(0, (groups, -1))[:, 1] = 0
    book = Codebook(torch.randn(3, *weight.shape[2:]))
    return ScaledKernels(book, labels, torch.zeros_like(labels), scales, 1, groups)


def masked(groups: int, weight: Tensor) -> Encoding:
    """Filters 0 and 3 and, in each group, input 1 are zero."""
    kept = torch.ones(weight.shape[:2], dtype=torch.bool)
    kept[[0, 3]], kept[:, 1] = False, False
    return Mask(kept, weight)


def by_weight(groups: int, weight: Tensor) -> Encoding:
    """Two values, of which the first two filters of each group have but one."""
    labels = torch.randint(0, 2, weight.shape)
    labels.unflatten(0, (groups, -1))[:, :2] = 1
    return SharedWeights(labels, torch.tensor([-0.5, 0.25]))


def rounded(groups: int, weight: Tensor) -> Encoding:
    inner = shared(groups, weight)
    return Quantized(inner, 8, [inner.initial_filters])  # type: ignore[arg-type]


def plain(groups: int, weight: Tensor) -> Encoding:
    return Plain(weight)


ENCODINGS = (shared, by_channel, by_codebook, masked, by_weight, rounded, plain)
SHAPES: tuple[dict[str, object], ...] = (
    {},
    {"padding": 1, "stride": 2},
    {"padding": 2, "dilation": 2, "padding_mode": "reflect"},
    {"padding": "same", "dilation": 3},
)


@pytest.mark.parametrize("make", ENCODINGS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", SHAPES, ids=str)
def test_every_encoding_gives_the_decoded_outputs(
    make: Callable[[int, Tensor], Encoding],
    groups: int,
    bias: bool,
    layout: torch.memory_format,
    options: dict[str, object],
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 8, 3, groups=groups, bias=bias, **options)  # type: ignore[arg-type]
    encode(layer, make(groups, layer.weight.detach()))
    model = on_device(nn.Sequential(layer), torch.device("cpu"))
    images = torch.randn(2, 12, SIDE, SIDE).contiguous(memory_format=layout)
    found = execute(model, images, smallest)
    with torch.no_grad():
        assert_same(found.network(images), model(images))
    assert (found.layers["0"].form == "dense") == (make is plain)
    assert not any(isinstance(module, Encoding) for module in found.network.modules())


@pytest.mark.parametrize(
    ("make", "groups", "computed", "form"),
    [
        (shared, 1, (4, 12), "4 filters + gather"),
        (shared, 2, (4, 6), "4 filters + gather"),  # 2 of 4 in each group
        (by_channel, 1, (2, 8), "8 inputs, 2 filters + gather"),  # two kernels a channel, in turns: every second filter
        (by_codebook, 2, (6, 6), "6 filters + gather"),
        (by_codebook, 1, (7, 12), "7 filters + gather"),
        (masked, 1, (6, 11), "11 inputs, 6 filters + gather"),
        (masked, 2, (8, 5), "10 inputs"),  # group 2 needs all its filters, so group 1 computes two zeros
        (by_weight, 1, (7, 12), "7 filters + gather"),
    ],
)
def test_what_is_computed_by_hand(
    make: Callable[[int, Tensor], Encoding], groups: int, computed: tuple[int, int], form: str
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(12, 8, 3, groups=groups)
    encode(layer, make(groups, layer.weight.detach()))
    decoded = fold(nn.Sequential(layer))[0]
    first = reduced_forms(decoded)[0]
    assert (tuple(first.layer.weight.shape[:2]), first.description) == (computed, form)


def few_kernels(inputs: int, filters: int, size: int = 3) -> nn.Conv2d:
    """Three kernels for all of the layer, each with a scale of its own."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(inputs, filters, size, padding=1, stride=2)
    book = torch.randn(3, size, size, generator=generator)
    labels = torch.randint(0, 3, (filters, inputs), generator=generator)
    layer.weight.data = book[labels] * torch.randn(filters, inputs, 1, 1, generator=generator)
    return layer


def test_few_kernels_a_channel_are_convolved_first_by_hand() -> None:
    layer = few_kernels(12, 64)
    (form,) = forms_of(layer)
    assert isinstance(form, Factored) and form.description == "12 inputs by 3 kernels + 1x1"
    assert form.weights == 3 * 12 * 9 + 36 * 64
    images = torch.randn(2, 12, 9, 9)
    assert_same(form(images), layer(images))
    assert_same(form(images[0]), layer(images[0]))
    half = fold(nn.Sequential(layer)).double()[0]
    assert_same(forms_of(half)[0](images.double()), half(images.double()))


def test_channels_with_many_kernels_stay_in_a_dense_convolution() -> None:
    layer = few_kernels(32, 64)
    layer.weight.data[:, :5] = torch.randn(64, 5, 3, 3)  # five are dense, three more fill up the eight
    layer.weight.data[:, 30:] = 0  # two are not read
    layer.weight.data[:, 20:30] = layer.weight.data[:, 20:30, :1, :1] * torch.randn(1, 10, 3, 3)  # one kernel each
    *others, form = forms_of(layer)
    assert isinstance(form, Factored) and [other.description for other in others] == ["30 inputs"]
    assert form.description == "22 inputs by 3 kernels + 1x1, 8 inputs"
    assert form.weights == 8 * 64 * 9 + (12 * 3 + 10) * (9 + 64)
    images = torch.randn(2, 32, 9, 9).contiguous(memory_format=torch.channels_last)
    assert_same(form(images), layer(images))


def test_kernels_of_full_rank_are_not_factored() -> None:
    assert forms_of(nn.Conv2d(16, 64, 3)) == forms_of(nn.Conv2d(16, 64, 1)) == forms_of(nn.Linear(4, 4)) == []
    assert forms_of(nn.Conv2d(64, 64, 3, groups=64)) == []


@given(
    groups=st.sampled_from([1, 2, 4]),
    each=st.integers(1, 4),
    width=st.integers(1, 4),
    seed=st.integers(0, 1000),
    bias=st.booleans(),
)
def test_any_pattern_of_equal_and_zero_weights(groups: int, each: int, width: int, seed: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    draw = lambda most, *shape: torch.randint(0, most, shape, generator=generator)  # noqa: E731
    layer = nn.Conv2d(groups * width, groups * each, 3, padding=1, groups=groups, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[draw(len(layer.weight), len(layer.weight))])
        layer.weight *= draw(3, len(layer.weight), 1, 1, 1) > 0
        layer.weight *= draw(3, 1, width, 1, 1) > 0
    images = torch.randn(2, groups * width, 5, 5, generator=generator)
    parts = layer.weight.detach().unflatten(0, (groups, each))
    distinct = [len({tuple(row) for row in part.flatten(1).tolist() if any(row)}) for part in parts]
    for form in reduced_forms(layer):
        with torch.no_grad():
            assert_same(form(images), layer(images))
        if form.outputs is not None:
            assert len(form.layer.weight) == max(1, *distinct) * max(1, sum(count > 0 for count in distinct))


def test_a_linear_layer_and_one_without_batch_axis() -> None:
    linear = nn.Linear(6, 4)
    with torch.no_grad():
        linear.weight[2] = linear.weight[0]
        linear.weight[1], linear.weight[:, 5] = 0, 0
    for values in (torch.randn(6), torch.randn(2, 6), torch.randn(2, 3, 6)):
        forms = reduced_forms(linear)
        assert [tuple(form.layer.weight.shape) for form in forms] == [(2, 5), (2, 6), (4, 5)]
        for form in forms:
            assert_same(form(values), linear(values))
    layer = nn.Conv2d(2, 4, 1)
    layer.weight.data[1:] = layer.weight.data[0]
    image = torch.randn(2, 5, 5)
    assert_same(reduced_forms(layer)[0](image), layer(image))


def test_a_layer_of_zeros_gives_its_bias() -> None:
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.data.zero_()
    form = reduced_forms(layer)[0]
    assert tuple(form.layer.weight.shape) == (1, 1, 3, 3)
    assert torch.equal(form(torch.randn(1, 3, 5, 5)), layer.bias.view(1, 4, 1, 1).expand(1, 4, 3, 3))  # type: ignore[union-attr]


def test_a_gather_keeps_the_layout() -> None:
    index = torch.tensor([2, 0, 0, 3])
    for layout in (torch.contiguous_format, torch.channels_last):
        values = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout)
        found = take(values, index, -3, pads=True)
        assert found.is_contiguous(memory_format=layout)
        assert torch.equal(found, torch.cat([values, torch.zeros(2, 1, 4, 5)], 1)[:, index])


@pytest.mark.parametrize(
    ("setting", "name", "structured"),
    [
        ("fixed(keep=0.5)", "resnet20", True),
        ("fixed(keep=0.3)+quantize(bits=8)", "test_byobnet", True),
        ("fixed(keep=0.5)", "mobilenetv3_small_050", True),
        ("kse(G=5)", "resnet20", True),
        ("magnitude(rate=0.95)", "resnet20", True),
        ("magnitude(rate=0.98)", "test_byobnet", True),
        ("l1(granularity=kernel,rate=0.8)", "resnet20", True),
        ("kse(G=5)", "test_convnext", False),
        ("tic(k=4)", "resnet20", False),
        ("tic(k=2,transforms=1)", "resnet20", True),
        ("kse(T=6)", "resnet20", True),
        ("sharing(k=2)", "resnet20", False),
        ("fixed(keep=0.5)", "test_nfnet", True),
    ],
)
def test_networks_give_the_decoded_outputs(
    setting: str, name: str, structured: bool, make_model: Make, make_lab: Callable[..., Lab]
) -> None:
    size = 32 if name == "resnet20" else 64
    model = parse(setting)[0].compress(make_model(name), make_lab(size=size)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    found = execute(model, images, smallest)
    with torch.no_grad():
        assert_same(found.network(images), fold(model)(images))
    assert found.layers.keys() == bench.weighted_layers(model).keys()
    assert any(form.form != "dense" for form in found.layers.values()) == structured
    standardised = [layer for layer in make_model(name).named_modules() if "StdConv" in type(layer[1]).__name__]
    assert bool(standardised) == (name == "test_nfnet")
    assert all(found.layers[path].form == "dense" for path, _ in standardised)


class Chain(nn.Module):
    """A convolution used twice, and one whose outputs only another reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.again = self.twice
        self.norm, self.last = nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3, stride=2)
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        values = self.again(self.twice(self.stem(images)).relu())
        outputs: Tensor = self.head(self.last(self.norm(values).relu()).mean((2, 3)))
        return outputs


def test_filters_that_nothing_reads_are_not_computed() -> None:
    torch.manual_seed(0)
    model = Chain().eval()
    model.again = nn.Conv2d(16, 16, 3, padding=1)
    model.last.weight.data[:, [1, 4, 5, 7, 8, 9, 10, 11, 15]] = 0  # 7 of 16 are read, kept are 8
    images = torch.randn(2, 3, 16, 16)
    before = count_macs(model, (3, 16, 16))
    found = execute(model, images, smallest)
    assert_same(found.network(images), model(images))
    assert found.layers["again"].form == "8 filters removed"
    assert found.layers["last"].form == "8 inputs removed, 7 inputs"
    saved = 16 * 16 * 8 * 16 * 9 + 7 * 7 * 9 * 32 * 9
    assert before - count_macs(found.network, (3, 16, 16)) == saved


def test_filters_that_something_else_reads_stay() -> None:
    class Skips(Chain):
        def forward(self, images: Tensor) -> Tensor:
            values = self.again(self.stem(images))
            outputs: Tensor = self.head(self.last(values).mean((2, 3)).repeat(1, 1)) + values.mean()
            return outputs

    model = Skips().eval()
    model.again = nn.Conv2d(16, 16, 3, padding=1)
    model.last.weight.data[:, :9] = 0
    images = torch.randn(2, 3, 16, 16)
    found = execute(model, images, smallest)
    assert_same(found.network(images), model(images))
    assert found.layers["again"].form == "dense" and found.layers["last"].form == "7 inputs"


def test_a_layer_in_two_places_is_replaced_in_both() -> None:
    model = Chain().eval()
    encode(model.twice, shared(1, model.twice.weight.detach()))
    images = torch.randn(2, 3, 16, 16)
    found = execute(model, images, smallest).network
    assert isinstance(found.twice, Reduced) and found.again is found.twice
    assert_same(found(images), fold(model)(images))


def test_a_network_that_reads_its_layers_weights_itself_stays_decoded() -> None:
    class Reads(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            outputs: Tensor = super().forward(images.to(self[0].weight.dtype))
            return outputs

    model = Reads(nn.Conv2d(12, 8, 3)).eval()
    encode(model[0], shared(1, model[0].weight.detach()))  # type: ignore[arg-type]
    images = torch.randn(2, 12, SIDE, SIDE)
    found = execute(model, images, smallest)
    assert found.layers["0"].form == "dense" and torch.equal(found.network(images), fold(model)(images))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_precisions(kind: torch.dtype) -> None:
    model, images = four_layers(), torch.randn(2, 3, SIDE, SIDE).to(kind)
    found = execute(fold(model).to(kind), images, smallest)
    # Scaled kernels are not multiples of one another any more when they are rounded to 8 bits of mantissa.
    last = "64 inputs by 3 kernels + 1x1" if kind is torch.float64 else "dense"
    words = ["2 inputs, 6 filters + gather", "32 filters + gather", "32 filters + gather", last]
    assert [found.layers[name].form for name in "0245"] == words
    assert {parameter.dtype for parameter in found.network.parameters()} == {kind}


def half_shared(make_model: Make) -> nn.Module:
    model = make_model()
    for layer in convolutions(model).values():
        encode(layer, shared(1, layer.weight.detach()))
    return model


def test_it_is_exported_with_a_dynamic_batch(make_model: Make) -> None:
    model, images = half_shared(make_model), torch.randn(2, 3, 32, 32)
    network = execute(model, images, smallest).network
    program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    more = torch.randn(5, 3, 32, 32)
    assert_same(program.module()(more), fold(model)(more))
    kernels = [value for name, value in program.state_dict.items() if name.endswith("layer.weight")]
    assert len(kernels) == len(convolutions(model))


def four_layers() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), few_kernels(64, 64)]
    model = nn.Sequential(*parts).eval()
    encode(model[0], masked(1, model[0].weight.detach()))  # type: ignore[arg-type]
    encode(model[2], shared(1, model[2].weight.detach()))  # type: ignore[arg-type]
    encode(model[4], shared(1, model[4].weight.detach()))  # type: ignore[arg-type]
    return model


def test_onnx_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model, images = four_layers(), torch.randn(2, 3, SIDE, SIDE)
    network = execute(model, images, smallest).network
    for name, each in (("shared", network), ("dense", fold(model))):
        torch.onnx.export(each, (images,), tmp_path / f"{name}.onnx", dynamo=True, external_data=False, verbose=False)
    session = runtime.InferenceSession(tmp_path / "shared.onnx")
    (outputs,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert_same(torch.from_numpy(outputs), fold(model)(images))
    assert (tmp_path / "shared.onnx").stat().st_size < 0.7 * (tmp_path / "dense.onnx").stat().st_size


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_it_compiles() -> None:
    from torch._inductor.exc import InductorError

    model, images = four_layers(), torch.randn(2, 3, SIDE, SIDE)
    network = execute(model, images, smallest).network
    try:
        with torch.no_grad():
            outputs = torch.compile(network)(images)
    except InductorError as error:
        pytest.skip(f"no compiler: {error}")
    assert_same(outputs, model(images))


def test_a_file_becomes_a_fast_network_by_one_call(
    make_model: Make, make_lab: Callable[..., Lab], tmp_path: Path, quick_timing: None
) -> None:
    model = parse("fixed(keep=0.25)")[0].compress(make_model(), make_lab()).eval()
    path = tmp_path / "model.safetensors"
    path.write_bytes(artifact.dump(model, artifact.Architecture("resnet20", 4, 3)))
    images = torch.randn(8, 3, 32, 32)
    before = torch.get_rng_state()
    for folded in (False, True):
        loaded = bench.load(path, folded=folded)
        fast = bench.executable(loaded, images)
        assert_same(fast(images), bench.load(path)(images))
        assert not fast.training and not {*map(id, fast.parameters())} & {*map(id, loaded.parameters())}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.zeros(3, 32, 32), "example=.*expected the lab, or images of shape"),
        (torch.zeros(1, 4, 32, 32), r"example_input=.*\(1, 4, 32, 32\) on cpu.*: the network does not take it"),
    ],
)
def test_an_input_that_does_not_fit_is_told(example: Tensor, message: str, make_model: Make) -> None:
    with pytest.raises(BadArgument, match=message):
        bench.executable(make_model(), example)


def test_another_network_is_a_clear_failure(make_model: Make) -> None:
    model, images = make_model(), torch.randn(2, 3, 32, 32)
    other = make_model()
    require_same(other, model, images)
    with torch.no_grad():
        other.conv1.weight *= 1.001  # type: ignore[union-attr,operator]
    with pytest.raises(BenchError, match="computes something else than the network it was made from"):
        require_same(other, model, images)


class Sleeper(nn.Module):
    """Takes so many milliseconds in turns, on the clock of the test."""

    def __init__(self, *milliseconds: float) -> None:
        super().__init__()
        self.milliseconds, self.runs = milliseconds, 0

    def forward(self, images: Tensor) -> Tensor:
        self.runs += 1
        return images


@pytest.mark.parametrize(
    ("dense", "forms", "demand", "expected"),
    [
        ((10,), [(9,), (5,), (6,)], OF_A_LAYER, Choice(1, 2.0)),
        ((10,), [(9.8,)], OF_A_LAYER, Choice(None)),  # 2% is too little for a layer, and enough for a network
        ((10,), [(9.8,)], OF_A_NETWORK, Choice(0, 10 / 9.8)),
        ((10,), [(11,)], OF_A_NETWORK, Choice(None)),
        ((10, 30, 50, 20), [(45, 18, 9, 27)], OF_A_LAYER, Choice(None)),  # 1.11 times as fast, in noise that is larger
        ((10, 30, 50, 20), [(45, 18, 9, 27)], OF_A_NETWORK, Choice(0, 10 / 9)),
        ((10, 30, 50, 20), [(50, 20, 10, 31)], OF_A_NETWORK, Choice(None)),
    ],
)
def test_a_form_is_chosen_where_it_is_clearly_faster(
    dense: Sequence[float],
    forms: list[Sequence[float]],
    demand: Demand,
    expected: Choice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def time_once(network: Sleeper, images: Tensor) -> float:
        network(images)
        return network.milliseconds[network.runs % len(network.milliseconds)]

    monkeypatch.setattr(choice, "time_once", time_once)
    dense_one, others = Sleeper(*dense), [Sleeper(*form) for form in forms]
    found = fastest(dense_one, others, [torch.zeros(1)], demand)
    assert (found.number, found.speedup) == (expected.number, pytest.approx(expected.speedup))
    assert {other.runs for other in others} == {dense_one.runs} and dense_one.runs >= 8


def test_what_gains_nothing_in_the_network_is_left_out(make_model: Make) -> None:
    def layers_only(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], demand: Demand) -> Choice:
        return Choice(0, 2.0) if isinstance(dense, nn.Conv2d) else Choice(None)

    model = half_shared(make_model)
    found = execute(model, torch.randn(1, 3, 32, 32), layers_only)
    assert {form.form for form in found.layers.values()} == {"dense"}
    assert not any(isinstance(module, Reduced) for module in found.network.modules())


def test_equal_layers_are_timed_once_and_executed_alike(make_model: Make) -> None:
    seen = []

    def noting(dense: nn.Module, forms: Sequence[nn.Module], inputs: Sequence[Tensor], demand: Demand) -> Choice:
        seen.append(tuple(inputs[0].shape))
        return Choice(0, 1.5)

    found = execute(half_shared(make_model), torch.randn(2, 3, 32, 32), noting)
    # Stem, three stages with six alike (the first of the later two differs by its stride), two shortcuts, the network.
    assert len(seen) < 12 and seen[-1] == (2, 3, 32, 32)
    assert all(form.form.endswith("filters + gather") for name, form in found.layers.items() if name != "fc")
