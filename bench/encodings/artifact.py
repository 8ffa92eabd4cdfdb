"""A whole compressed network in one safetensors file, and back, without pickle.

The file holds three streams (32-bit floats, 16-bit floats, packed whole numbers) and a manifest: which network to
build, which of its tensors are smaller, and which weights are encoded and how. Everything else is stored densely, in
the order of the rebuilt network's state dict, so that names cost no bytes.

A file may be untrusted. Nothing in it is run, nothing is downloaded unless asked for, and the network's size is checked
on the meta device, against the file's own size, before any memory is allocated.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialized
from torch import Tensor, nn

from bench import encodings as encodings  # they register themselves
from bench.encodings.base import Encoding, encode, encoded_layers, stored_tensors
from bench.encodings.interface import Interface
from bench.encodings.manifest import Architecture as Architecture
from bench.encodings.manifest import Manifest, one_line, read_file, write_file
from bench.encodings.origin import find_encoding, package_of
from bench.encodings.streams import StreamReader, StreamWriter
from bench.networks import zoo
from bench.networks.layers import fold, weighted_layers
from bench.networks.structure import structure_digest
from bench.networks.surgery import shrink_to
from bench.system.errors import BadArgument, BenchError
from bench.system.files import write_atomically

LARGEST_RATIO = 1_000
"""Bytes of a network, as built, for each byte of its file, at most."""
UNKNOWN = Interface()
ZSTANDARD_LEVEL = 15
"""The level of zstandard. Level 19 takes nine times as long to make files of weights 0.2% smaller."""


def dump(
    model: nn.Module, architecture: Architecture, interface: Interface = UNKNOWN, built: nn.Module | None = None
) -> bytes:
    """The content of a compressed network's file. Equal networks give equal bytes, in every process.

    `architecture` says how to build the network that was compressed; `built` is that network, uncompressed, if it has
    no registered name. `interface` says how its images are prepared and what its classes are called. Raises BenchError
    if `model` has other tensors than that network.
    """
    fresh = architecture.build() if built is None else built
    writer = StreamWriter()
    layers, packages = {}, {}
    for name, layer, encoding in encoded_layers(model):
        facts = encoding.store(writer, *stored_tensors(layer))
        layers[name] = {"kind": encoding.kind, "shape": list(encoding.shape), **facts}
        for part in {encoding, encoding.content}:
            if package := package_of(type(part)):
                packages[part.kind] = package
    folded = fold(model)
    _same_names(folded, fresh)
    shapes, integers = _dense_part(folded, fresh, set(layers), writer, whole=built is not None)
    manifest = Manifest(
        architecture=architecture,
        shapes=shapes,
        integers=integers,
        books=[list(book.centroids.shape) for book in writer.books],
        layers=layers,
        packages=packages,
        interface=interface,
    )
    return write_file(writer.tensors(), manifest)


def _dense_part(
    folded: nn.Module, fresh: nn.Module, encoded: set[str], writer: StreamWriter, *, whole: bool
) -> tuple[dict[str, list[int]], dict[str, list[Any]]]:
    """Write what no encoding holds. Returns the shapes and whole numbers that differ from the fresh network's.

    With `whole`, all tensors of whole numbers are returned, because the fresh network may be a trained one.
    """
    built = fresh.state_dict()
    shapes: dict[str, list[int]] = {}
    integers: dict[str, list[Any]] = {}
    state = folded.state_dict()
    for name in own_names(fresh):
        value = state[name]
        if value.shape != built[name].shape:
            shapes[name] = list(value.shape)
        if _skipped(name, encoded):
            continue
        if value.is_floating_point():
            writer.floats(value)
        elif whole or not torch.equal(value.cpu(), built[name]):
            integers[name] = value.tolist()
    return shapes, integers


def _same_names(folded: nn.Module, fresh: nn.Module) -> None:
    unmatched = set(folded.state_dict()) ^ set(fresh.state_dict())
    if unmatched:
        raise BenchError(
            f"the compressed network cannot be rebuilt from a file: {sorted(unmatched)[0]} is not in both it and the "
            "original; methods may encode weights and remove filters, not add or replace layers"
        )


def own_names(model: nn.Module) -> list[str]:
    """The names of a state dict. A module that is used in several places counts under its first name only."""
    modules = {name for name, _ in model.named_modules()}  # each module once
    return [name for name in model.state_dict() if name.rpartition(".")[0] in modules]


def _skipped(name: str, encoded: set[str]) -> bool:
    """Whether a tensor is left out: an encoded weight, or a batch counter, which does not change the outputs."""
    return name.endswith("num_batches_tracked") or name.removesuffix(".weight") in encoded and name.endswith(".weight")


def load(
    path: Path | str, *, model: nn.Module | None = None, folded: bool = True, allow_download: bool = False
) -> nn.Module:
    """Rebuild the network that a file holds, in evaluation mode on the CPU.

    `model` is an uncompressed instance of the network, with any weights; it is copied, and its structure is checked.
    A user's own network needs it, because code that a file names is never run; a network with a registered name does
    not. With `folded`, every encoded weight is decoded to a plain parameter; otherwise the encodings are in place.
    `allow_download` accepts a file that names a network of the Hugging Face hub (`hf_hub:...`), and fetches its
    configuration.

    The network has three additional attributes: `class_names` (a tuple of text) and `preprocessing`, both None if the
    file does not say, and `architecture`, which `save` needs to write the network back.

    Raises BenchError for a file that is missing, damaged, not an artifact, or whose network is too large for it, and if
    the package of an encoding is not installed or `model` is another network.
    """
    path = Path(path)
    streams, manifest = read_file(path)
    name = manifest.architecture.model
    built = None if model is None else _brought(model, manifest.architecture)
    if built is None and zoo.is_remote(name) and not allow_download:
        raise BenchError(
            f"{path}: the network '{name}' would have to be fetched; pass allow_download=True if you trust the file"
        )
    try:
        rebuilt = _rebuild(streams, manifest, path.stat().st_size, built)
        describe(rebuilt, manifest.architecture, manifest.interface)
        return (fold(rebuilt) if folded else rebuilt).eval()
    except BenchError as error:
        raise BenchError(f"{path}: {one_line(error)}") from error
    except Exception as error:  # the manifest is untrusted: it can make an encoding fail in any way
        raise BenchError(f"{path}: its manifest does not describe a network ({one_line(repr(error))})") from error


def _brought(model: nn.Module, architecture: Architecture) -> nn.Module:
    """A copy, on the CPU, of the network that the caller passed; BadArgument if it cannot be the one in the file."""
    if not isinstance(model, nn.Module):
        raise BadArgument("model", model, "expected a torch.nn.Module, an uncompressed instance of the network")
    if architecture.structure not in (None, structure_digest(model)):
        raise BadArgument(
            "model",
            type(model).__name__,
            f"its layers are not those of the network in the file, '{one_line(architecture.model)}' for "
            f"{architecture.classes} classes and {architecture.channels} channels; expected it as it was built, "
            "uncompressed",
        )
    return copy.deepcopy(model).cpu().float()


def describe(model: nn.Module, architecture: Architecture, interface: Interface) -> None:
    """Give a network the attributes that `save` reads."""
    described: Any = model
    described.architecture, described.class_names = architecture, interface.class_names
    described.preprocessing = interface.preprocessing


def save(model: nn.Module, path: Path | str, *, built: nn.Module | None = None) -> None:
    """Write a network that `load` returned back to a file, after further training or with other class names.

    Its encodings are kept, so that the file has the same size. Load with `folded=False` for this; a network with
    decoded weights is written dense. `built` is the uncompressed network that was passed to `load` as `model`, if any.
    Raises BenchError for a network that does not come from `load`, or whose layers or attributes no longer fit its
    architecture.
    """
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, Architecture):
        raise BadArgument("model", type(model).__name__, "not a network that bench.load returned")
    interface = Interface.of(getattr(model, "class_names", None), getattr(model, "preprocessing", None))
    try:
        interface.check_fits(architecture.classes, architecture.channels)
    except ValueError as error:
        raise BenchError(f"the network cannot be saved: {error}") from None
    brought = None if built is None else _brought(built, architecture)
    write_atomically(Path(path), dump(model, architecture, interface, brought))


def _rebuild(
    streams: dict[str, Tensor], manifest: Manifest, file_bytes: int, built: nn.Module | None = None
) -> nn.Module:
    """The network in a file. `built` is the uncompressed network, if it is not to be built from the manifest."""
    largest = _check_size(streams, manifest, file_bytes, built)
    model = manifest.architecture.build() if built is None else built
    shrink_to(model, manifest.shapes)
    for kind, package in manifest.packages.items():
        find_encoding(kind, package)
    reader = StreamReader(streams, manifest.books, largest)
    layers = {name: _restore(reader, model, name, manifest) for name in manifest.layers}
    state = model.state_dict()
    for name in own_names(model):
        value = state[name]
        if not _skipped(name, set(layers)) and value.is_floating_point():
            value.copy_(reader.floats(*value.shape))
        elif name in manifest.integers:
            value.copy_(torch.tensor(manifest.integers[name], dtype=value.dtype).view(value.shape))
    for name, encoding in layers.items():
        encode(weighted_layers(model)[name], encoding)
    reader.finish()
    return model


def _check_size(streams: Mapping[str, Tensor], manifest: Manifest, file_bytes: int, built: nn.Module | None) -> int:
    """Raise BenchError if the file is too small for its network. Returns how many numbers the network has.

    The network is built on the meta device, where tensors have shapes but no memory.
    """
    with torch.device("meta"):
        model = manifest.architecture.build() if built is None else copy.deepcopy(built).to("meta")
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > LARGEST_RATIO * file_bytes:
        raise BenchError(f"its network takes {size} bytes, the file holds only {file_bytes}")
    whole = model.state_dict()
    for name, shape in manifest.shapes.items():
        if name in whole and not _is_within(shape, whole[name].shape):
            raise BenchError(f"{name} has the shape {shape}, which does not fit into {tuple(whole[name].shape)}")
    shrink_to(model, manifest.shapes)
    state, encoded = model.state_dict(), set(manifest.layers)
    dense = [state[name] for name in own_names(model) if not _skipped(name, encoded)]
    wanted = sum(value.numel() for value in dense if value.is_floating_point())
    stored = len(streams.get("float32", ()))
    if wanted > stored:
        raise BenchError(f"the float32 stream ends early: {wanted} numbers wanted, {stored} there")
    return sum(tensor.numel() for tensor in tensors)


def _is_within(shape: list[int], whole: torch.Size) -> bool:
    return len(shape) == len(whole) and all(part <= full for part, full in zip(shape, whole, strict=True))


def _restore(reader: StreamReader, model: nn.Module, name: str, manifest: Manifest) -> Encoding:
    facts = dict(manifest.layers[name])
    kind, shape = str(facts.pop("kind")), tuple(facts.pop("shape"))
    layer = weighted_layers(model).get(name)
    if layer is None:
        raise BenchError(f"the network has no convolution or linear layer called {name!r}")
    if shape != tuple(layer.weight.shape):
        raise BenchError(f"{name}: the weight has the shape {shape}, the network's is {tuple(layer.weight.shape)}")
    return find_encoding(kind, None).restore(reader, shape, facts)


def compressed_bytes(content: bytes) -> int:
    """Bytes of a file after zstandard: what an entropy coder can still save."""
    import zstandard

    return len(zstandard.ZstdCompressor(level=ZSTANDARD_LEVEL).compress(content))


def dense_bytes(model: nn.Module) -> int:
    """Bytes of the network's state dict in 32-bit floats, as a safetensors file of its own."""
    everything = model.state_dict()
    state = {name: everything[name].detach().cpu() for name in own_names(model)}
    return len(
        serialized(
            {name: (v.float() if v.is_floating_point() else v).clone().contiguous() for name, v in state.items()}
        )
    )
