"""Networks of other libraries, and the layers in them that are no method's affair."""

from __future__ import annotations

import pytest
import timm
import torch

from bench.networks import zoo
from bench.networks.layers import convolutions, is_classifier, other_convolutions
from bench.system.errors import BenchError


def test_a_classifier_that_is_a_convolution_is_known_without_timm() -> None:
    model = zoo.create_model("nin_cifar10", 10, 1)
    found = [name for name, layer in convolutions(model).items() if is_classifier(model, layer)]
    assert found == ["output.final_conv.conv"]


@pytest.mark.parametrize("name", ["resnet20_cifar10", "diaresnet20_cifar10", "densenet40_k12_cifar100", "nin_cifar10"])
@pytest.mark.parametrize("classes", [4, 10, 100])
def test_networks_of_pytorchcv_get_the_classes(name: str, classes: int) -> None:
    model = zoo.create_model(name, classes, 1).eval()
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, classes)
    linear = isinstance(list(model.output.modules())[-1], torch.nn.Linear)
    assert any(is_classifier(model, layer) for layer in convolutions(model).values()) != linear


def test_a_network_that_cannot_be_built_is_told() -> None:
    with pytest.raises(BenchError, match="model 'nin_cifar10' cannot be built for 0 classes and -1 channels"):
        zoo.create_model("nin_cifar10", 0, -1)


def test_convolutions_that_are_no_conv2d_are_known() -> None:
    assert {type(layer).__name__ for layer in other_convolutions(timm.create_model("efficientnet_cc_b0_4e"))} == {
        "CondConv2d"
    }
    assert other_convolutions(timm.create_model("test_resnet")) == []
