"""Exported networks: their size, and their outputs in other runtimes, for every encoding and method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.deploying import onnx_file
from bench.deploying.graph import Part
from bench.encodings import ChannelKernels, Mask, Plain, Quantized, ScaledKernels, SharedFilters, SharedWeights
from bench.encodings.base import Codebook, Encoding, encode, encoded_layers
from bench.networks import zoo
from bench.networks.layers import fold, weighted_layers
from bench.plugins.registry import methods
from bench.plugins.setting import parse

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CLOSE = 1e-4
BITS = (2, 3, 4, 5, 7, 8, 16)


def run(content: bytes, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def openvino_run(content: bytes, images: Tensor) -> Tensor:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    found = core.compile_model(
        core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    )
    return torch.from_numpy(found(images.numpy())[0])


def exported(model: nn.Module, size: int = 32, channels: int = 3) -> onnx_file.Exported:
    return onnx_file.export(model, torch.rand(2, channels, size, size), {})


def check_outputs(model: nn.Module, made: onnx_file.Exported, size: int = 32, *, openvino: bool = False) -> None:
    """At several batch sizes."""
    onnx.checker.check_model(onnx.load_from_string(made.content), full_check=True)
    for batch in (1, 3):
        images = torch.randn(batch, 3, size, size)
        with torch.no_grad():
            expected = fold(model)(images)
        assert expected.std() > 1e-3, "outputs that are all the same would show nothing"
        assert (run(made.content, images) - expected).abs().max() <= CLOSE
    if openvino:
        assert (openvino_run(made.content, images) - expected).abs().max() <= CLOSE


class Several(nn.Module):
    """Convolutions plain, grouped, strided and dilated, 1x1 and 3x3, with batch norm or without; and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 16, 3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.two = nn.Conv2d(16, 16, 3, groups=2, stride=2)
        self.again = nn.BatchNorm2d(16)
        self.three = nn.Conv2d(16, 32, 3, dilation=2, padding=2)
        self.four = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.norm(self.one(images)).relu()
        maps = self.again(self.two(maps)).relu()
        return self.head(self.four(self.three(maps).relu()).relu().mean((2, 3)))


def several() -> Several:
    torch.manual_seed(0)
    model = Several()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
    return model.eval()


def some(shape: Any, share: float = 0.6) -> Tensor:
    kept = torch.rand(tuple(shape)) < share
    kept.view(-1)[0] = True
    return kept


def mask(layer: Any) -> Encoding:
    return Mask(some(layer.weight.shape, 0.3), layer.weight)


def kernel_mask(layer: Any) -> Encoding:
    return Mask(some(layer.weight.shape[:2]), layer.weight)


def shared_filters(layer: Any) -> Encoding:
    groups = getattr(layer, "groups", 1)
    return SharedFilters(torch.randint(0, 5, (len(layer.weight),)), layer.weight[:5].detach(), groups)


def shared_weights(layer: Any) -> Encoding:
    return SharedWeights(torch.randint(0, 13, layer.weight.shape), torch.randn(13) / 8)


def masked_shared_weights(layer: Any) -> Encoding:
    return SharedWeights(torch.randint(0, 3, layer.weight.shape), torch.randn(3) / 8, some(layer.weight.shape, 0.4))


def channel_kernels(layer: Any) -> Encoding:
    groups = layer.groups
    filters, inputs = len(layer.weight) // groups, layer.weight.shape[1] * groups
    sizes = torch.randint(0, 5, (inputs,))
    sizes[0], sizes[-1] = 0, filters
    labels = torch.stack([torch.randint(0, max(1, int(size)), (filters,)) for size in sizes])
    labels[-1] = torch.arange(filters)
    kernels = torch.randn(int(sizes.sum()), *layer.weight.shape[2:]) / 4
    return ChannelKernels(sizes, labels, kernels, groups)


def scaled_kernels(layer: Any, drops: bool = False) -> Encoding:
    units = layer.weight.shape[:2]
    scales = torch.randn(units).half().float()
    scales[scales == 0] = 1
    if drops:
        scales = scales * some(units)
    book = Codebook(torch.randn(6, *layer.weight.shape[2:]) / 6)
    forms = 4 if layer.weight.shape[2] > 1 else 1
    labels, transforms = torch.randint(0, 6, units), torch.randint(0, forms, units)
    return ScaledKernels(book, labels, transforms, scales, forms, layer.groups)


def dropped_scaled_kernels(layer: Any) -> Encoding:
    return scaled_kernels(layer, drops=True)


def plain(layer: Any) -> Encoding:
    return Plain(layer.weight)


MAKERS = (
    mask, kernel_mask, shared_filters, shared_weights, masked_shared_weights, channel_kernels, scaled_kernels,
    dropped_scaled_kernels, plain,
)  # fmt: skip


def encoded(make: Callable[[Any], Encoding], bits: int | None) -> nn.Module:
    model = several()
    for layer in list(weighted_layers(model).values()):
        if isinstance(layer, nn.Linear) and make not in (mask, shared_weights, plain):
            continue
        encoding = make(layer)
        if bits is not None:
            found = encoding.right_inverse(layer.weight)
            encoding = Quantized(encoding, bits, [found] if isinstance(found, Tensor) else list(found))
        encode(layer, encoding)
    return model.eval()


@pytest.mark.parametrize("bits", [None, 2, 4, pytest.param(5, marks=pytest.mark.slow), 8, 16])
@pytest.mark.parametrize("make", MAKERS)
def test_every_encoding_is_decoded_in_other_runtimes(
    make: Callable[[Any], Encoding], bits: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it would not be smaller: every layer is written as it is encoded."""
    monkeypatch.setattr(Part, "bytes", 0)
    model = encoded(make, bits)
    made = exported(model)
    assert made.encoded == len(list(encoded_layers(model))) or made.encoded == 0
    if made.encoded == 0:  # the whole file would have been larger
        pytest.skip("not smaller")
    check_outputs(model, made, openvino=bits in (None, 4, 8))


@pytest.mark.parametrize("name", sorted(methods()))
@pytest.mark.parametrize("network", ["test_resnet", pytest.param("resnet20", marks=pytest.mark.slow)])
def test_every_method_is_exported(network: str, name: str, make_model: Any, make_lab: Any) -> None:
    method = methods()[name]
    setting = next(iter(method.tested), name)
    size = 64 if network == "test_resnet" else 32
    model = parse(setting)[0].compress(make_model(network, size=size), make_lab(size=size, epochs=3)).eval()
    check_outputs(model, exported(model, size), size)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenetv3_small_050", "densenet121", "convnext_atto"])
@pytest.mark.parametrize("setting", ["tic(k=8)", "quantize(bits=8)", "l1(rate=0.3)", "fixed(keep=0.5)", "magnitude"])
def test_other_networks_are_exported(setting: str, network: str, make_lab: Any) -> None:
    torch.manual_seed(0)
    model = zoo.create_model(network, 4, 3).eval()
    model = parse(setting)[0].compress(model, make_lab(size=64)).eval()
    made = exported(model, 64)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert (run(made.content, images) - fold(model)(images)).abs().max() <= CLOSE


def test_onnx_stays_small(make_model: Any, make_lab: Any) -> None:
    """The bounds of the project's issue, against the same exporter's file of the dense network."""
    dense = len(exported(make_model()).content)
    for setting, most in {"tic(k=16)": 0.45, "quantize(bits=8)": 0.27, "sharing(k=16)": 0.2}.items():
        model = parse(setting)[0].compress(make_model(), make_lab()).eval()
        content = exported(model).content
        assert len(content) <= most * dense, setting


def test_eight_bit_weights_are_dequantized_per_channel(make_model: Any, make_lab: Any) -> None:
    """Each convolution reads DequantizeLinear of int8 with a scale per filter; batch norm is in it."""
    model = parse("quantize(bits=8)")[0].compress(make_model(), make_lab()).eval()
    graph = onnx.load_from_string(exported(model).content).graph
    writers = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 19
    for node in convolutions:
        source = writers[node.input[1]]
        assert source.op_type == "DequantizeLinear"
        levels, scales = (tensors[name] for name in source.input)
        assert levels.data_type == onnx.TensorProto.INT8 and list(scales.dims) == [levels.dims[0]]
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)


def test_a_batch_norm_that_others_read_too_stays(make_lab: Any) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.head = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Linear(32, 4)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.one(images)
            return self.head((self.norm(maps) * maps.sigmoid()).mean((2, 3)))

    torch.manual_seed(0)
    model = Twice()
    nn.init.uniform_(model.norm.running_mean)
    encode(model.one, Quantized(Plain(model.one.weight), 8, [model.one.weight]))
    made = exported(model.eval())
    assert made.encoded == 1 and b"BatchNormalization" in made.content
    check_outputs(model, made)
