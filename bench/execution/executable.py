"""From a network with compressed weights to the form that is deployed and timed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from bench.execution.choice import OF_A_NETWORK, Judge, fastest
from bench.execution.layers import DENSE, LayerForm, tolerance, with_forms
from bench.execution.unread import without_unread
from bench.networks.example import example_of
from bench.networks.layers import fold, weighted_layers
from bench.networks.work import layer_work
from bench.system.errors import BadArgument, BenchError


@dataclass(frozen=True)
class Execution:
    """The executable form of a network, and how each of its convolutions and linear layers is executed, by name."""

    network: nn.Module
    layers: dict[str, LayerForm]

    @classmethod
    def as_decoded(cls, network: nn.Module) -> Execution:
        """Every layer dense: a decoded network as it is."""
        return cls(network, {name: LayerForm() for name in weighted_layers(network)})

    @property
    def differs(self) -> bool:
        return any(layer.form != DENSE for layer in self.layers.values())


def executable(model: nn.Module, example_input: Tensor) -> nn.Module:
    """The network in the form in which it is best deployed: structure is used where that is faster on this machine.

    Equal filters are computed once and their outputs copied, filters of zeros are not computed, input channels without
    any weight are not read, filters that no layer reads are removed, and a channel with few different kernels is
    convolved only with those. Each layer is timed in all possible forms and as dense, on inputs of the real size, and a
    form is used only if it is clearly faster. Finally the whole network is timed; if it gains nothing, the decoded
    network is returned.

        model = bench.load("model.safetensors", folded=False)
        fast = bench.executable(model, torch.zeros(1, 3, 224, 224))

    `example_input` [N, C, H, W] has the batch size and the image size of the deployment and lies on the network's
    device. The result is in evaluation mode, shares no tensor with `model`, and consists of plain modules that
    `torch.compile`, `torch.export` and the ONNX exporter understand. Raises BadArgument for an input that the network
    does not take, and BenchError if the result would compute something other than the network.
    """
    return execute(model, example_input).network


def execute(model: nn.Module, example_input: Tensor, judge: Judge = fastest) -> Execution:
    """As `executable`, with what was chosen. `judge` decides for each layer, and then for the whole network."""
    images = example_of(example_input)
    decoded = fold(model).eval()
    _require_runs(decoded, images)
    names = _usable(decoded, images)
    candidates = [Execution(*with_forms(decoded, names, images, judge))]
    smaller = without_unread(decoded, names, images[:1])
    if smaller is not None:
        candidates.insert(0, Execution(*with_forms(smaller, names, images, judge, decoded)))
    candidates = [one for one in candidates if one.differs and _runs(one.network, images)]
    number = judge(decoded, [one.network for one in candidates], [images], OF_A_NETWORK).number if candidates else None
    if number is None:
        return Execution.as_decoded(decoded)
    require_same(candidates[number].network, decoded, images)
    return candidates[number]


@torch.inference_mode()
def _runs(network: nn.Module, images: Tensor) -> bool:
    """Whether the network still runs. It may itself read the weight of a layer, which another form does not have."""
    try:
        network(images)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever the network raises
        return False
    return True


@torch.inference_mode()
def require_same(network: nn.Module, decoded: nn.Module, images: Tensor) -> None:
    """Raise BenchError where the outputs of an executable form are not those of the decoded network."""
    expected, outputs = decoded(images), network(images)
    leaves = [leaf for leaf in tree_leaves(expected) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    allowed = max((tolerance(leaf) * leaf.nan_to_num().abs().max().item() for leaf in leaves), default=0.0)
    try:
        assert_close(outputs, expected, rtol=0, atol=allowed, equal_nan=True)
    except AssertionError as error:
        what = " ".join(str(error).split())
        raise BenchError(
            f"the executable form computes something else than the network it was made from: {what}"
        ) from None


@torch.inference_mode()
def _require_runs(decoded: nn.Module, images: Tensor) -> None:
    try:
        decoded(images)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        size = f"a tensor of shape {tuple(images.shape)} on {images.device}"
        raise BadArgument(
            "example_input", size, f"the network does not take it ({' '.join(str(error).split())})"
        ) from error


def _usable(decoded: nn.Module, images: Tensor) -> Collection[str]:
    """The layers that compute directly with the weight they hold, not with another that they derive from it."""
    size = (images.shape[1], images.shape[2], images.shape[3])
    return [name for name, work in layer_work(decoded, size).items() if work.macs and work.as_stored]
