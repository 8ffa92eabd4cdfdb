"""A whole compressed network in one safetensors file, and back, without pickle.

The file holds three streams (32-bit floats, 16-bit floats, packed bits) and a manifest: which network to build, which
layers are smaller than it builds them, which weights are encoded and how. Everything else is stored densely, in the
order of the rebuilt network's state dict, so that a name costs no bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bench import encodings as encodings  # they register themselves
from bench.encodings.base import Codebook, Encoding, encode, encoded_layers, stored_tensors
from bench.encodings.packing import pack, unpack
from bench.networks import zoo
from bench.networks.layers import fold
from bench.networks.surgery import shrink_to
from bench.system.errors import BenchError

FORMAT = "cnn-compression-bench 1"


@dataclass(frozen=True)
class Architecture:
    """What it takes to build the network that was compressed."""

    model: str
    classes: int
    channels: int
    image_size: int | None = None

    def build(self) -> nn.Module:
        state = torch.get_rng_state()
        model = zoo.create_model(self.model, self.classes, self.channels, image_size=self.image_size)
        torch.set_rng_state(state)
        return model


@dataclass
class _Writer:
    """Collects the streams; an array of packed numbers starts on a whole byte."""

    float_parts: list[Tensor] = field(default_factory=list)
    half_parts: list[Tensor] = field(default_factory=list)
    bit_parts: list[Tensor] = field(default_factory=list)
    books: list[Codebook] = field(default_factory=list)

    def floats(self, values: Tensor) -> None:
        self.float_parts.append(values.detach().cpu().float().flatten())

    def halves(self, values: Tensor) -> None:
        self.half_parts.append(values.detach().cpu().half().flatten())

    def integers(self, values: Tensor, width: int) -> None:
        self.bit_parts.append(pack(values, width))

    def codebook(self, codebook: Codebook) -> int:
        for index, known in enumerate(self.books):
            if known is codebook:
                return index
        self.floats(codebook.centroids)
        self.books.append(codebook)
        return len(self.books) - 1

    def tensors(self) -> dict[str, Tensor]:
        streams = {"float32": self.float_parts, "float16": self.half_parts, "packed": self.bit_parts}
        return {name: torch.cat(parts) for name, parts in streams.items() if parts}


@dataclass
class _Reader:
    """Takes the streams apart again. Reading past a stream's end raises BenchError."""

    streams: Mapping[str, Tensor]
    book_shapes: list[list[int]]
    books: dict[int, Codebook] = field(default_factory=dict)
    position: dict[str, int] = field(default_factory=lambda: {"float32": 0, "float16": 0, "packed": 0})

    def _take(self, stream: str, count: int) -> Tensor:
        start = self.position[stream]
        self.position[stream] = start + count
        taken = self.streams.get(stream, torch.empty(0))[start : start + count]
        if len(taken) != count:
            raise BenchError(f"the {stream} stream ends early: {count} numbers wanted, {len(taken)} left")
        return taken

    def floats(self, *shape: int) -> Tensor:
        return self._take("float32", prod(shape)).view(shape).clone()

    def halves(self, *shape: int) -> Tensor:
        return self._take("float16", prod(shape)).view(shape).float()

    def integers(self, width: int, *shape: int) -> Tensor:
        return unpack(self._take("packed", (prod(shape) * width + 7) // 8), width, prod(shape)).view(shape)

    def finish(self) -> None:
        """Everything must have been read."""
        for stream, values in self.streams.items():
            if self.position[stream] != len(values):
                raise BenchError(f"the {stream} stream holds {len(values) - self.position[stream]} numbers too many")

    def codebook(self, index: int) -> Codebook:
        if index not in self.books:
            self.books[index] = Codebook(self.floats(*self.book_shapes[index]))
        return self.books[index]


def dump(model: nn.Module, architecture: Architecture) -> bytes:
    """The file's content for a compressed network."""
    fresh = architecture.build()
    writer = _Writer()
    layers = {}
    for name, layer, encoding in encoded_layers(model):
        facts = encoding.store(writer, *stored_tensors(layer))
        layers[name] = {"kind": encoding.kind, "shape": list(encoding.shape), **facts}
    folded = fold(model)
    _same_names(folded, fresh)
    shapes, integers = _dense_part(folded, fresh, set(layers), writer)
    manifest = {
        "architecture": vars(architecture),
        "shapes": shapes,
        "integers": integers,
        "books": [list(book.centroids.shape) for book in writer.books],
        "layers": layers,
    }
    text = json.dumps(manifest, separators=(",", ":"))
    return save(writer.tensors(), metadata={"format": FORMAT, "manifest": text})


def _dense_part(
    folded: nn.Module, fresh: nn.Module, encoded: set[str], writer: _Writer
) -> tuple[dict[str, list[int]], dict[str, list[Any]]]:
    """Write what no encoding holds; return shapes and whole numbers that differ from the fresh network's."""
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
        elif not torch.equal(value.cpu(), built[name]):
            integers[name] = value.tolist()
    return shapes, integers


def _same_names(folded: nn.Module, fresh: nn.Module) -> None:
    odd = set(folded.state_dict()) ^ set(fresh.state_dict())
    if odd:
        raise BenchError(
            f"the compressed network cannot be rebuilt from a file: {sorted(odd)[0]} is not in both it and the "
            "original; methods may encode weights and remove filters, not add or replace layers"
        )


def own_names(model: nn.Module) -> list[str]:
    """The names of a state dict, each tensor of a module that stands in several places under its first name alone."""
    modules = {name for name, _ in model.named_modules()}  # each module once
    return [name for name in model.state_dict() if name.rpartition(".")[0] in modules]


def _skipped(name: str, encoded: set[str]) -> bool:
    """Encoded weights are elsewhere in the file; batch counters have no say in what a network computes."""
    return name.endswith("num_batches_tracked") or name.removesuffix(".weight") in encoded and name.endswith(".weight")


def load(path: Path | str, *, folded: bool = True) -> nn.Module:
    """Rebuild the network a file holds, in evaluation mode on the CPU: decoded weights, or the encodings themselves.

    Raises BenchError for a file that is missing, truncated or not one of these.
    """
    streams, manifest = _open(Path(path))
    try:
        model = _rebuild(streams, manifest)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise BenchError(f"{path}: its manifest does not describe a network ({error!r})") from error
    return (fold(model) if folded else model).eval()


def _rebuild(streams: dict[str, Tensor], manifest: dict[str, Any]) -> nn.Module:
    architecture = Architecture(**manifest["architecture"])
    model = architecture.build()
    shrink_to(model, manifest["shapes"])
    reader = _Reader(streams, manifest["books"])
    layers = {name: _restore(reader, dict(facts)) for name, facts in manifest["layers"].items()}
    state = model.state_dict()
    for name in own_names(model):
        value = state[name]
        if not _skipped(name, set(layers)) and value.is_floating_point():
            value.copy_(reader.floats(*value.shape))
        elif name in manifest["integers"]:
            value.copy_(torch.tensor(manifest["integers"][name], dtype=value.dtype))
    for name, encoding in layers.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        encode(layer, encoding)
    reader.finish()
    return model


def _restore(reader: _Reader, facts: dict[str, Any]) -> Encoding:
    kind, shape = facts.pop("kind"), tuple(facts.pop("shape"))
    if kind not in Encoding.kinds:
        from bench.plugins.registry import methods

        methods()  # an installed plugin may bring its own encoding
    if kind not in Encoding.kinds:
        raise BenchError(f"no installed method has an encoding called '{kind}'")
    return Encoding.kinds[kind].restore(reader, shape, facts)


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise BenchError(f"{path}: there is no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise BenchError(f"{path}: a safetensors file, but not a compressed network of this program")
            streams = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return streams, json.loads(metadata["manifest"])
    except (SafetensorError, OSError, ValueError) as error:
        raise BenchError(f"{path}: not a whole compressed network ({error})") from error


def dense_bytes(model: nn.Module) -> int:
    """Bytes of the network's state dict in 32-bit floats, as a safetensors file of its own."""
    everything = model.state_dict()
    state = {name: everything[name].detach().cpu() for name in own_names(model)}
    return len(
        save({name: (v.float() if v.is_floating_point() else v).clone().contiguous() for name, v in state.items()})
    )
