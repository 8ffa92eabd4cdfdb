"""torchvision's classification networks, by `torchvision:NAME`."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from torch import nn

PREFIX = "torchvision:"
SECOND_OUTPUTS = ("googlenet", "inception_v3")
"""Networks with auxiliary classifiers, which other networks and this program's loss do not have."""


@cache
def names() -> tuple[str, ...]:
    """Every classification network, without the prefix."""
    from torchvision import models

    return tuple(models.list_models(module=models))


def build(
    name: str, classes: int, channels: int, *, pretrained: bool = False, image_size: int | None = None
) -> nn.Module:
    """A network with a `pretrained_cfg` like timm's; `name` is without the prefix.

    Published weights have a classifier for ImageNet's classes and filters for three channels. A layer that does not fit
    is replaced by one with random weights.
    """
    from torchvision import models

    published = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in SECOND_OUTPUTS else {}
    if image_size is not None and name.startswith("vit_"):
        options["image_size"] = image_size
    if image_size is not None and name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    outputs = len(published.meta["categories"])
    if pretrained:
        model: Any = models.get_model(name, weights=published, **options)
    else:
        outputs = classes
        model = models.get_model(name, weights=None, num_classes=classes, **options)
    if outputs != classes:
        _replace_classifier(model, outputs, classes)
    if channels != 3:
        _replace_stem(model, channels)
    model.num_classes, model.pretrained_cfg = classes, _preprocessing(published, outputs)
    return cast(nn.Module, model)


def _preprocessing(published: Any, classes: int) -> dict[str, Any]:
    expected = published.transforms()
    size = expected.crop_size[0]
    return {
        "input_size": (3, size, size),
        "mean": tuple(expected.mean),
        "std": tuple(expected.std),
        "interpolation": expected.interpolation.value,
        "crop_pct": size / expected.resize_size[0],
        "num_classes": classes,
    }


def _replace_classifier(model: nn.Module, old: int, classes: int) -> None:
    """Put a new layer in place of the last one that has an output for each of the `old` classes."""
    candidates = [
        (name, layer)
        for name, layer in model.named_modules()
        if getattr(layer, "out_features", None) == old or getattr(layer, "out_channels", None) == old
    ]
    name, layer = candidates[-1]
    if isinstance(layer, nn.Linear):
        model.set_submodule(name, nn.Linear(layer.in_features, classes, layer.bias is not None))
    elif isinstance(layer, nn.Conv2d):
        model.set_submodule(name, nn.Conv2d(layer.in_channels, classes, 1, bias=layer.bias is not None))


def _replace_stem(model: nn.Module, channels: int) -> None:
    """Put a convolution for another number of channels in place of the first one, which reads three."""
    name, stem = next((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    size, stride, padding = (cast(tuple[int, int], part) for part in (stem.kernel_size, stem.stride, stem.padding))
    model.set_submodule(name, nn.Conv2d(channels, stem.out_channels, size, stride, padding, bias=stem.bias is not None))
