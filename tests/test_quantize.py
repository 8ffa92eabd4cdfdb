"""Numbers of few bits: counted by hand, and rounded as well as a search can."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from bench.encodings import ChannelKernels, Mask, Plain, Quantized, ScaledKernels, SharedFilters, SharedWeights
from bench.encodings.base import Codebook, Encoding, codebooks_of, encode, encoded_layers, encoding_of, stored_tensors
from bench.encodings.grid import WIDTHS, Grid, best_steps, own_rows
from bench.encodings.mask import elias_fano_bits
from bench.encodings.streams import StreamWriter
from bench.measuring import cost, pictures
from bench.networks.layers import weighted_layers
from bench.networks.work import Work
from bench.plugins.setting import parse
from bench.system.errors import BenchError
from bench.training.lab import Lab

Make = Callable[..., nn.Module]
MakeLab = Callable[..., Lab]


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def some(kept: int, *shape: int) -> Tensor:
    """So many entries of a shape, spread over it."""
    mask = torch.zeros(shape, dtype=torch.bool)
    mask.view(-1)[torch.randperm(mask.numel(), generator=torch.Generator().manual_seed(0))[:kept]] = True
    return mask


def scaled(dropped: int) -> ScaledKernels:
    scales = randn(2, 3).abs() + 1
    scales.view(-1)[:dropped] = 0
    labels = torch.tensor([[0, 31, 2], [3, 4, 5]])
    return ScaledKernels(Codebook(randn(32, 3, 3)), labels, labels % 8, scales, 8)


STEP = 16
BY_CHANNEL = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3]])
HAND = {
    # numbers, steps, bits that are no numbers
    "convolution": (lambda: Plain(randn(4, 3, 3, 3)), 108, 4, 0),
    "depthwise": (lambda: Plain(randn(4, 1, 3, 3)), 36, 4, 0),
    "linear": (lambda: Plain(randn(5, 7)), 35, 5, 0),
    "weights": (lambda: Mask(some(40, 4, 3, 3, 3), randn(4, 3, 3, 3)), 40, 4, 108),
    "few weights": (lambda: Mask(some(6, 4, 3, 3, 3), randn(4, 3, 3, 3)), 6, 4, 6 * (1 + 4) + 108 // 16 + 1),
    "kernels": (lambda: Mask(some(5, 4, 3), randn(4, 3, 3, 3)), 5 * 9, 4, 12),
    "linear weights": (lambda: Mask(some(20, 5, 7), randn(5, 7)), 20, 5, 35),
    "filters": (lambda: SharedFilters(torch.tensor([0, 1, 2, 2, 1, 0]), randn(3, 2, 3, 3)), 3 * 18, 3, 6 * 2),
    # Three channels of 0, 2 and 4 kernels: the first has no step, the second 4 labels of 1 bit; 3 sizes of 2 bits.
    "channels": (lambda: ChannelKernels(torch.tensor([0, 2, 4]), BY_CHANNEL, randn(6, 3, 3), 1), 6 * 9, 2, 4 + 3 * 2),
    "scaled": (lambda: scaled(0), 6, 2, 6 * (5 + 3)),
    "scaled, one dropped": (lambda: scaled(1), 5, 2, 5 * (5 + 3) + 6),
    "shared weights": (lambda: SharedWeights(torch.arange(35).view(5, 7) % 5, randn(5)), 5, 1, 35 * 3),
    "few shared weights": (
        lambda: SharedWeights(torch.arange(35).view(5, 7) % 5, randn(5), some(20, 5, 7)), 5, 1, 20 * 3 + 35,
    ),
}  # fmt: skip


def quantized(inner: Encoding, bits: int) -> tuple[nn.Module, Quantized]:
    """A layer that holds it."""
    shape = inner.shape
    layer = nn.Linear(shape[1], shape[0]) if len(shape) == 2 else nn.Conv2d(shape[1], shape[0], 3)
    layer.weight = nn.Parameter(torch.zeros(shape))
    encode(layer, inner)
    encoding = Quantized(inner, bits, stored_tensors(layer))
    encode(layer, encoding)
    return layer, encoding


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("name", HAND)
def test_bits_counted_by_hand(name: str, bits: int) -> None:
    make, numbers, steps, others = HAND[name]
    layer, encoding = quantized(make(), bits)
    expected = numbers * bits + (0 if bits == 16 else steps * STEP) + others
    assert encoding.bits() == expected
    book = sum(32 * 9 * bits + (0 if bits == 16 else 32 * STEP) for _ in encoding.codebooks())
    assert sum(book.bits for book in encoding.codebooks()) == book
    writer = StreamWriter()
    encoding.store(writer, *stored_tensors(layer))
    written = sum(8 * values.numel() * values.element_size() for values in writer.tensors().values())
    assert expected + book <= written <= expected + book + 7 * len(writer.bit_parts)
    assert not writer.float_parts, "nothing is left in 32 bits"


def test_positions_of_the_hand_count() -> None:
    assert elias_fano_bits(108, 6) == 6 * (1 + 4) + 108 // 16 + 1


@pytest.mark.parametrize("bits", [4, 16])
def test_the_papers_bits_with_levels_in_place_of_floats(bits: int) -> None:
    _, encoding = quantized(scaled(0), bits)
    assert encoding.formula_bits() == 6 * (5 + 3 + bits) + (0 if bits == 16 else 2 * STEP)
    _, encoding = quantized(SharedWeights(torch.arange(35).view(5, 7) % 5, randn(5)), bits)
    assert encoding.formula_bits() == pytest.approx(35 * np.log2(5) + 5 * bits + (0 if bits == 16 else STEP))


def test_costs_are_those_of_what_is_quantized() -> None:
    for make, *_ in HAND.values():
        inner, work = make(), Work(64_800, 100, 25)
        _, encoding = quantized(inner, 8)
        assert (encoding.macs(work), encoding.macs_full(work)) == (inner.macs(work), inner.macs_full(work))
        assert encoding.params(*encoding.initial) == inner.params(*encoding.initial)
        described = encoding.describe(work)
        assert described["content"] == inner.kind and described["number_bits"] == 8
        assert encoding.codebooks() == inner.codebooks() and not encoding.drops_kernels_only


def test_a_shared_codebook_is_rounded_and_stored_once(make_model: Make, make_lab: MakeLab) -> None:
    sizes = {}
    for setting in ("tic(k=4)", "tic(k=4)+quantize(bits=4)"):
        model = parse(setting)[0].compress(make_model(), make_lab())
        (book,) = codebooks_of(model)
        sizes[setting] = book.bits
    assert list(sizes.values()) == [4 * 9 * 32, 4 * (9 * 4 + STEP)]
    steps = book.grid.steps  # type: ignore[union-attr]
    levels = book.centroids / steps[:, None, None]
    assert torch.allclose(levels, levels.round(), atol=1e-4) and levels.abs().max() < 7.5
    assert {"centroids", "use"} <= pictures.of_encodings(model).keys()


def test_every_weight_is_reached_and_the_table_says_what_it_holds(make_model: Make, make_lab: MakeLab) -> None:
    lab = make_lab(size=64)
    dense = make_model("test_efficientnet", size=64)
    model = parse("magnitude(rate=0.8)+quantize(bits=4)")[0].compress(deepcopy(dense), lab)
    found = cost.compare(dense, model, (3, 64, 64), lab.notes)
    assert {layer.name for layer in found.layers} == weighted_layers(dense).keys()
    assert {(layer.encoding, layer.details["content"]) for layer in found.layers} == {("quantized", "mask")}
    assert all(layer.bits < 0.3 * layer.bits_dense for layer in found.layers)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_steps_are_as_good_as_a_search_by_another_hand(bits: int) -> None:
    """Of many normal numbers, the step that scipy finds."""
    values, largest = randn(1, 20_000), 2 ** (bits - 1) - 1
    numbers = values.numpy().astype(np.float64)

    def error(step: float) -> float:
        return float((np.abs(np.clip(np.round(numbers / step), -largest, largest) * step - numbers) ** 2.4).mean())

    best = minimize_scalar(error, bounds=(1e-3, 5), method="bounded").fun
    found = Grid.fitted(values, bits, own_rows(values))
    missed = (found(values) - values).abs()
    assert float(missed.pow(2.4).mean()) < 1.02 * best
    if bits == 2:  # Max (1960), table II: three levels, equally spaced, have a squared error of 0.190 at best
        assert 0.187 < float(missed.square().mean()) < 1.05 * 0.190


def test_rows_do_not_know_each_other_and_zeros_stay() -> None:
    values = torch.stack([randn(50), 1e-12 * randn(50), 1e6 * randn(50), torch.zeros(50)])
    grid = Grid.fitted(values, 8, own_rows(values))
    apart = (grid(values) - values).norm(dim=1) / values.norm(dim=1).clamp(min=1e-30)
    assert (apart[:3] < 0.01).all() and not grid(values)[3].any() and grid.steps[3] == 1
    assert torch.equal(grid.steps, grid.steps.bfloat16().float())
    assert len(best_steps(values, 8, torch.zeros(4, dtype=torch.long))) == 1


def test_what_is_dropped_does_not_stretch_the_steps() -> None:
    weight = randn(2, 3, 3, 3)
    kept = weight.abs() < 1
    weight[~kept] = 1e6
    layer, _ = quantized(Mask(kept, weight), 8)
    assert torch.allclose(layer.weight, weight * kept, atol=0.005)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [3, 16])
def test_the_gradient_passes_straight_through(bits: int) -> None:
    values = (10 * randn(4, 9)).requires_grad_()
    grid = Grid.fitted(values, bits, own_rows(values))
    rounded, factors = grid(values), randn(4, 9)
    assert torch.equal(rounded, grid.numbers(grid.levels(values))) and not torch.equal(rounded, values)
    (rounded * factors).sum().backward()
    assert torch.equal(values.grad, factors)  # type: ignore[arg-type]
    assert torch.equal(grid(rounded.detach()), rounded), "what is rounded stays"


def test_a_16_bit_float_too_large_becomes_the_largest() -> None:
    assert Grid(16, torch.zeros(1, dtype=torch.long), torch.zeros(0))(torch.tensor([1e9])).item() == 65504


def test_training_moves_weights_from_level_to_level(make_model: Make, make_lab: MakeLab) -> None:
    setting = "l1(rate=0.5, granularity=weight)+quantize(bits=3)"
    before, model = (parse(setting)[0].compress(make_model(), make_lab(epochs=epochs)) for epochs in (0, 2))
    for name, layer, encoding in encoded_layers(model):
        assert isinstance(encoding, Quantized) and isinstance(encoding.inner, Mask)
        rows = layer.weight.detach().flatten(1)
        assert all(len(row.unique()) <= 7 for row in rows) and not layer.weight[~encoding.inner.kept].any()
        assert not torch.equal(layer.weight, weighted_layers(before)[name].weight)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("quantize+quantize(bits=4)", r"^quantize\(bits=4\): an earlier method has encoded every weight"),
        ("quantize+tic(k=4)", "no convolution larger than 1x1 that could still be clustered"),
        ("quantize+magnitude", "an earlier method has encoded every"),
        ("quantize+sharing", "an earlier method has encoded every weight"),
        ("quantize(bits=9)", "bits should be 2, 3, 4, 5, 6, 7, 8 or 16"),
    ],
)
def test_nothing_can_be_encoded_after_it(setting: str, told: str, make_model: Make, make_lab: MakeLab) -> None:
    with pytest.raises(BenchError, match=told):
        parse(setting)[0].compress(make_model(), make_lab())


class Theirs(Plain):
    """Of another package, which has not said that it can be quantized."""

    kind = "test-theirs"
    quantizable = False


def test_an_encoding_that_cannot_be_rounded_stays_and_says_so(make_model: Make, make_lab: MakeLab) -> None:
    model, lab = make_model(), make_lab()
    layer = weighted_layers(model)["conv1"]
    encode(layer, Theirs(layer.weight))
    parse("quantize")[0].compress(model, lab)
    assert isinstance(encoding_of(layer), Theirs) and lab.notes["conv1"] == "test-theirs of an earlier method stays"


def test_a_weight_that_is_no_number_is_one_line() -> None:
    layer, encoding = quantized(Plain(randn(2, 2)), 8)
    with torch.no_grad(), pytest.raises(BenchError, match="a weight is NaN or infinite"):
        encoding.store(StreamWriter(), torch.full((2, 2), float("nan")))
