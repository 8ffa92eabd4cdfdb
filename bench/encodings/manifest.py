"""The description inside an artifact: which network to build, and how its weights are stored."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from pydantic import StringConstraints, TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bench.encodings.interface import Interface
from bench.encodings.streams import STREAMS
from bench.networks import own, zoo
from bench.system.errors import BenchError
from bench.system.text import printable

FORMAT = "cnn-compression-bench 2"
PLAIN_FORMAT = "cnn-compression-bench 1"
"""The format of earlier versions, in which the manifest is plain JSON."""
LARGEST_MANIFEST = 1 << 24
"""Bytes of the JSON, at most; real ones have a few thousand."""
LONGEST_LINE = 300

Count = Annotated[int, Ge(1)]
Sizes = list[Annotated[int, Ge(0)]]
ShortText = Annotated[str, StringConstraints(max_length=200, pattern=r"^[!-~ ]+$")]


@dataclass(frozen=True)
class Architecture:
    """What is needed to build the network that was compressed.

    `structure` is the digest of a network without a registered name; whoever loads the file has to pass that network.
    """

    model: ShortText
    classes: Count
    channels: Count
    image_size: Annotated[int, Ge(1), Le(4096)] | None = None
    structure: Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")] | None = None

    @property
    def is_unnamed(self) -> bool:
        """Whether the network has no registered name."""
        return self.structure is not None or own.is_reference(self.model)

    def build(self) -> nn.Module:
        """The network with random weights; the global random state is left as it was.

        BenchError for a network without a registered name: code that a file names is never run.
        """
        if self.is_unnamed:
            raise BenchError(
                f"'{one_line(self.model)}' is not a registered network, and code that a file names is never run; build "
                f"it for {self.classes} classes and {self.channels} channels, and call bench.load(path, model=net)"
            )
        state = torch.get_rng_state()
        model = zoo.create_model(self.model, self.classes, self.channels, image_size=self.image_size)
        torch.set_rng_state(state)
        return model


@dataclass(frozen=True, kw_only=True)
class Package:
    """The distribution that brought an encoding."""

    name: Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9._-]+$")]
    version: ShortText


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that a file says about its network besides the numbers.

    `shapes` and `integers` hold what differs from the network as built, by state-dict name. `books` has the shapes of
    the codebooks, `layers` the kind, shape and facts of each encoded weight, and `packages` the origin of encodings of
    other packages, by kind. `interface` says what goes into the network and comes out of it; older files lack it.
    """

    architecture: Architecture
    shapes: dict[str, Sizes]
    integers: dict[str, Any]
    books: list[Sizes]
    layers: dict[str, dict[str, Any]]
    packages: dict[str, Package] = field(default_factory=dict)
    interface: Interface = field(default_factory=Interface)

    def __post_init__(self) -> None:
        self.interface.check_fits(self.architecture.classes, self.architecture.channels)


def write_file(streams: dict[str, Tensor], manifest: Manifest) -> bytes:
    """A safetensors file of the streams, with the manifest in its header. Equal input gives equal bytes.

    The manifest is JSON, deflated and in base 85: plain, it would take a tenth of a small file.
    """
    described = asdict(manifest)
    if not manifest.packages:
        del described["packages"]
    if manifest.architecture.structure is None:
        del described["architecture"]["structure"]
    described["interface"] = manifest.interface.described()
    if not described["interface"]:
        del described["interface"]
    text = base64.b85encode(zlib.compress(json.dumps(described, separators=(",", ":")).encode(), 9)).decode()
    return in_fixed_order(save(streams, metadata={"format": FORMAT, "manifest": text}))


def manifest_text(metadata: Mapping[str, str]) -> str:
    """The JSON of a manifest, from the metadata of its file. ValueError if it is damaged or too long."""
    text = metadata.get("manifest", "")
    if metadata["format"] == PLAIN_FORMAT:
        return text
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.b85decode(text), LARGEST_MANIFEST)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not reader.eof:
        raise ValueError(f"cut off, or longer than {LARGEST_MANIFEST} bytes")
    return content.decode()


def in_fixed_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted by key.

    safetensors writes metadata in the order of a hash map, which differs from process to process:
    https://github.com/huggingface/safetensors. The tensors' order is fixed already.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def read_file(path: Path) -> tuple[dict[str, Tensor], Manifest]:
    """The streams and the manifest of a file; BenchError if it is not an artifact, or not a whole one."""
    try:
        if not path.is_file():
            raise BenchError(f"{path}: there is no such file")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") not in (FORMAT, PLAIN_FORMAT):
                raise BenchError(f"{path}: a safetensors file, but not a compressed network of this program")
            streams = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except BenchError:
        raise
    except Exception as error:  # safetensors raises its own, OSError, KeyError and more for broken files
        raise BenchError(f"{path}: not a whole compressed network ({one_line(error)})") from error
    for name, values in streams.items():
        if values.dtype != STREAMS.get(name) or values.dim() != 1:
            raise BenchError(f"{path}: not a whole compressed network (unexpected tensor {one_line(name)})")
    return streams, _parse(path, metadata)


def _parse(path: Path, metadata: Mapping[str, str]) -> Manifest:
    try:
        return TypeAdapter(Manifest).validate_json(manifest_text(metadata), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise BenchError(
            f"{path}: its manifest does not describe a network ({one_line(place)}: {one_line(first['msg'])})"
        ) from None
    except ValueError as error:
        raise BenchError(f"{path}: its manifest does not describe a network ({one_line(error)})") from None


def one_line(told: object) -> str:
    """The text of an error, or untrusted text, short enough for one line of a message."""
    return printable(" ".join((str(told) or type(told).__name__).split())[:LONGEST_LINE])
