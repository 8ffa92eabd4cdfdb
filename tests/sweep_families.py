"""Which families of convolutional networks timm and pytorchcv have, and the network that stands for each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import timm
import torch
from sweep_table import DISCOVERY, Cell
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from bench.networks import zoo
from bench.networks.layers import convolutions

CLASSES = 4
SIZES = (64, 96, 128)
CIFAR = "pytorchcv"
"""Stands for a module of timm; its networks take images of 32 pixels."""
FAMILY = re.compile(r"(?:tf_|legacy_)?(cs3[a-z]+|res2ne[a-z]+|[a-z]+?(?:v\d|(?![a-z])))")


def candidates() -> dict[str, list[str]]:
    """The networks of each family, those whose names promise the fewest parameters first."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in zoo.model_names()[CIFAR]:
        if name.endswith("_cifar10") and (match := FAMILY.match(name)):
            found[f"{CIFAR}/{match[1]}"].append(name)
    for module in timm.models.list_modules():
        for name in timm.list_models(module=module):
            if name not in zoo.OURS and not name.startswith("test_") and (match := FAMILY.match(name)):
                found[f"{module}/{match[1]}"].append(name)
    return {family: sorted(names, key=_promise) for family, names in sorted(found.items())}


def _promise(name: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", name)] or [50], name


class _Larger(BaseException):
    """Than the smallest so far."""


def smallest(names: Iterable[str]) -> tuple[str, int, bool]:
    """The network with the fewest parameters, how many, and whether it is convolutional; built without memory."""
    best = "", 1 << 62, False
    for name in names:
        count = 0

        def registered(module: nn.Module, name: str, parameter: Tensor) -> None:
            nonlocal count
            count += parameter.numel()
            if count > 1.1 * best[1]:  # noqa: B023  # a replaced classifier counts twice here
                raise _Larger

        handle = register_module_parameter_registration_hook(registered)
        try:
            with torch.device("meta"):
                model = _create(name)
        except _Larger:
            continue
        except Exception:  # some networks compute with numbers while they are built
            count = 0
            try:
                model = _create(name)
            except _Larger:
                continue
        finally:
            handle.remove()
        params = sum(parameter.numel() for parameter in model.parameters())
        if params < best[1]:
            best = name, params, is_convolutional(model)
    return best


def _create(name: str) -> nn.Module:
    return timm.create_model(name, num_classes=CLASSES) if timm.is_model(name) else zoo.create_model(name, CLASSES, 3)


def is_convolutional(model: nn.Module) -> bool:
    """Whether windows of some convolution overlap."""
    layers = convolutions(model).values()
    return any(k > s for layer in layers for k, s in zip(layer.kernel_size, layer.stride, strict=True))


def discover(family: str) -> Cell:
    """The network that stands for a family, and the smallest image size on which it gives finite numbers."""
    name, params, convolutional = smallest(candidates()[family])
    if not convolutional:
        return Cell(family, DISCOVERY, "left out", name, params=params, reason="no convolution whose windows overlap")
    of_timm = not family.startswith(CIFAR)
    own = timm.get_pretrained_cfg(name).input_size[1] if of_timm else 32
    tried = {}
    for size in (*SIZES, own) if of_timm else (own,):
        try:
            model = build(name, size)
            with torch.no_grad():
                outputs = model(torch.randn(2, 3, size, size))
                if not isinstance(outputs, Tensor):
                    return Cell(family, DISCOVERY, "left out", name, params=params, reason="several outputs")
                if outputs.isfinite().all():
                    return Cell(family, DISCOVERY, "found", name, size, params)
            tried[size] = "outputs are not finite"
        except Exception as error:
            tried[size] = f"{type(error).__name__}: {line(error)}"
    return Cell(family, DISCOVERY, "FAILED", name, own, params, reason=f"it runs on no image: {tried[own]}")


def build(name: str, size: int) -> nn.Module:
    """The network, with nothing in it so small that an error behind it would not show."""
    torch.manual_seed(0)
    model = zoo.create_model(name, CLASSES, 3, image_size=size)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
        for parameter in model.parameters():
            if parameter.numel() and float(parameter.abs().max()) < 1e-3 and parameter.dim() < 4:
                nn.init.uniform_(parameter, 0.1, 0.3)  # layer scales, batch norms that begin at 0
    return model.eval()


def line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
