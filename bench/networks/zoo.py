"""Networks by name, and the preprocessing each expects: the only module that uses timm and pytorchcv.

`own` builds a user's own networks, `torchvision_networks` those of torchvision.
"""

from __future__ import annotations

import difflib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from bench.networks import own, torchvision_networks
from bench.networks.architectures import CifarResNet, CifarVGG
from bench.system.errors import BadArgument, BenchError
from bench.system.text import shortened

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Preprocessing:
    """The images a network expects. `size` is (channels, height, width); `mean`, `std` are of pixels in [0, 1].

    `interpolation`, `crop_share` (the centre crop's share of the resized image) and `crop_mode` apply to large images.
    """

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_share: float = 1.0
    crop_mode: str = "center"


OURS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(CifarResNet, depth) for depth in (20, 32, 44, 56, 110)},
    "vgg16_cifar": CifarVGG,
    "vgg16_512_cifar": partial(CifarVGG, hidden=True),
}


@cache
def load_timm() -> Any:
    """timm with this project's networks. Importing it takes as long as importing torch, so it is done when needed."""
    import timm
    import timm.data

    for name in OURS:
        timm.models.register_model(_entry(name))
    return timm


def _entry(name: str) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, num_classes: int = 10, in_chans: int = 3, **_: Any) -> nn.Module:
        return _create_ours(name, num_classes, in_chans, pretrained)

    entry.__name__ = name
    entry.__module__ = __name__
    return entry


def _create_ours(name: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    if pretrained:
        problem = f"there are no published weights for '{name}'; expected a file, scratch or auto"
        raise BadArgument("weights", "pretrained", problem)
    return OURS[name](num_classes=classes, in_chans=channels)


def model_names() -> dict[str, list[str]]:
    """Every name of a network that `create_model` accepts, by the library it comes from.

    References are not listed: `hf_hub:...`, `package.module:function` and `file.py:Class`.
    """
    return {
        "this project": list(OURS),
        "timm": [name for name in load_timm().list_models() if name not in OURS],
        "pytorchcv": _pytorchcv_names(),
        "torchvision": [f"{torchvision_networks.PREFIX}{name}" for name in torchvision_networks.names()],
        "an installed package": list(own.registered()),
    }


def is_remote(name: str) -> bool:
    """Whether building the network needs a configuration from the Hugging Face hub."""
    return name.startswith(("hf_hub:", "hf-hub:"))


def check_name(name: str, source: str = "") -> None:
    """BenchError, with the nearest names, if there is no network of that name.

    `source` says where the name was read, such as a line of a file; without it the error is a BadArgument. The code
    that a reference names is not imported here.
    """
    if is_remote(name) or (own.is_reference(name) and not name.endswith((":", ".py"))):
        return
    if name in OURS and name not in own.registered():
        return
    known = [name for names in model_names().values() for name in names]
    if known.count(name) > 1:
        raise BenchError(f"two networks are called '{name}', one of them by {own.registered()[name].value}")
    if name in known or name.split(".")[0] in known:
        return
    near = difflib.get_close_matches(shortened(name), known, n=3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    if name.endswith((".py", ".py:")):
        hint = f"expected the class or function in it too, as in {name.rstrip(':')}:Net; "
    if source:
        raise BenchError(f"{source}: no network is called '{shortened(name)}'; {hint}`bench list models` has them all")
    raise BadArgument("models", name, f"there is no such network; {hint}`bench list models` has them all")


def create_model(
    name: str, classes: int, channels: int, *, pretrained: bool = False, image_size: int | None = None
) -> nn.Module:
    """A network with `classes` outputs for images of `channels` channels; fixed-size networks get `image_size`.

    Raises BadArgument for weights that are not published or cannot be fetched, and BenchError for a network that does
    not exist or cannot be built.
    """
    check_name(name, "model")
    if own.is_own(name):
        return own.build(name, classes, channels, pretrained=pretrained, image_size=image_size)
    if name not in OURS and name in _pytorchcv_names() and not load_timm().is_model(name):
        return _create_pytorchcv(name, classes, channels, pretrained)
    options: dict[str, Any] = {"num_classes": classes, "in_chans": channels}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm warns of names that it has changed; the old names still work
        try:
            if name in OURS:
                return _create_ours(name, classes, channels, pretrained)
            if name.startswith(torchvision_networks.PREFIX):
                short = name.removeprefix(torchvision_networks.PREFIX)
                return torchvision_networks.build(
                    short, classes, channels, pretrained=pretrained, image_size=image_size
                )
            if image_size is not None and _takes_image_size(name):
                options["img_size"] = image_size
            return cast(nn.Module, load_timm().create_model(name, pretrained=pretrained, **options))
        except BenchError:
            raise
        except Exception as error:
            if pretrained:
                reason = f"the weights of '{name}' cannot be fetched ({_first_line(error)})"
                remedy = f"expected a file, or a baseline trained from random weights by `bench train --models {name}`"
                raise BadArgument("weights", "pretrained", f"{reason}; {remedy}") from error
            raise BenchError(f"model '{name}' cannot be built: {_first_line(error)}") from error


def has_pretrained(name: str, classes: int | None = None) -> bool:
    """Whether there are published weights for the network; with `classes`, for that number of classes.

    A user's own network has them if its callable takes `pretrained`; for how many classes is not known.
    """
    if own.is_own(name):
        return classes is None and own.takes(name, "pretrained")
    if name.startswith(torchvision_networks.PREFIX):
        return classes in (None, 1000)
    if is_remote(name):
        return True
    if name in OURS:
        return False
    timm = load_timm()
    if not timm.is_model(name) or not timm.models.is_model_pretrained(name):
        return False
    config = timm.get_pretrained_cfg(name)
    return classes is None or bool(config is not None and config.num_classes == classes)


def preprocessing(model: nn.Module) -> Preprocessing:
    """The preprocessing of large images that the network was trained with: timm's data configuration.

    Some networks were tested with larger images than they were trained with; the training size is taken. A network
    without its own configuration gets that of ImageNet: 224 pixels, bicubic, the centre 87.5%.
    """
    config = load_timm().data.resolve_model_data_config(model, use_test_size=False)
    return Preprocessing(
        size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
        crop_share=config["crop_pct"],
        crop_mode=config["crop_mode"],
    )


def image_transform(wanted: Preprocessing, training: bool) -> Callable[[Image], Tensor]:
    """timm's transform from an image to uint8 [C, H, W]; in training a random resized crop and flip, no colour changes.

    Images are normalised later, on the device, as in timm's own loader. Random numbers come from `random` and torch's
    global generator.
    """
    load_timm()
    from timm.data.transforms_factory import create_transform

    options: dict[str, Any] = {"interpolation": wanted.interpolation, "mean": wanted.mean, "std": wanted.std}
    if training:
        options["color_jitter"] = None
    else:
        options |= {"crop_pct": wanted.crop_share, "crop_mode": wanted.crop_mode}
    transform = create_transform(wanted.size, is_training=training, use_prefetcher=True, **options)
    return cast("Callable[[Image], Tensor]", transform)


def imagenet_synsets() -> list[str]:
    """The 1,000 WordNet ids of ImageNet-1k, in the order of the networks' outputs."""
    return list(load_timm().data.ImageNetInfo("imagenet-1k").label_names())


def synset_meanings(names: Sequence[str]) -> dict[str, str]:
    """The meaning in words of each WordNet id of ImageNet-1k; empty if not all of the names are such ids."""
    known = load_timm().data.ImageNetInfo("imagenet-1k")
    if not names or not set(names) <= set(known.label_names()):
        return {}
    return {name: known.label_name_to_description(name) for name in names}


def _takes_image_size(name: str) -> bool:
    """Whether the network is built for one image size, because of position embeddings, for example. timm marks this as
    `fixed_input_size`."""
    if is_remote(name):
        return False
    config = load_timm().get_pretrained_cfg(name)
    return bool(config is not None and config.fixed_input_size)


def _create_pytorchcv(name: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    """A network of pytorchcv. Many accept 10 or 100 classes only, so their classifier is replaced."""
    from pytorchcv.model_provider import get_model

    published = 100 if name.endswith("_cifar100") else 10
    try:
        with _quiet():
            model: Any = get_model(name, pretrained=pretrained, num_classes=published, in_channels=channels)
            if classes != published and isinstance(last := getattr(model, "output", None), nn.Linear):
                model.output = nn.Linear(last.in_features, classes)
                model.num_classes = classes
            elif classes != published:
                model = get_model(name, num_classes=classes, in_channels=channels)
            return cast(nn.Module, model)
    except Exception as error:
        raise BenchError(
            f"model '{name}' cannot be built for {classes} classes and {channels} channels ({_first_line(error)})"
        ) from error


def _pytorchcv_names() -> list[str]:
    """pytorchcv's networks for CIFAR and SVHN; their names end in the dataset they were published for."""
    with _quiet():
        from pytorchcv import model_provider

    return sorted(name for name in model_provider._models if name.endswith(("_cifar10", "_cifar100", "_svhn")))


@contextmanager
def _quiet() -> Iterator[None]:
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
