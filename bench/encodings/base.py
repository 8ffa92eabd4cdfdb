"""How a compressed weight is stored: parametrizations that decode, count their bits and MACs, and go to a file.

An encoding is registered on a layer with `encode`, so that the layer and its forward stay what they were and autograd
trains what the encoding keeps trainable. Integer labels are buffers; a codebook shared by layers is one `Codebook`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.networks.layers import convolutions, is_classifier
from bench.networks.work import Work

if TYPE_CHECKING:
    from bench.training.lab import Lab

DENSE_BITS = 32


class Writer(Protocol):
    """Where an encoding puts what it stores, in an order it will read again."""

    def floats(self, values: Tensor) -> None:
        """32-bit floats."""

    def halves(self, values: Tensor) -> None:
        """16-bit floats; values must be exact in them."""

    def integers(self, values: Tensor, width: int) -> None:
        """Numbers in [0, 2**width), packed."""

    def codebook(self, codebook: Codebook) -> int:
        """Store a codebook, once however many layers share it; its index in the file."""


class Reader(Protocol):
    """The same, in the same order."""

    def floats(self, *shape: int) -> Tensor: ...

    def halves(self, *shape: int) -> Tensor: ...

    def integers(self, width: int, *shape: int) -> Tensor: ...

    def codebook(self, index: int) -> Codebook: ...


class Codebook(nn.Module):
    """Kernels that many weights share: `centroids` [k, h, w], trained with them."""

    def __init__(self, centroids: Tensor) -> None:
        super().__init__()
        self.centroids = nn.Parameter(centroids.detach().clone())

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def bits(self) -> int:
        return self.centroids.numel() * DENSE_BITS


class Encoding(nn.Module, ABC):
    """One compressed weight of a convolution, [Co, Ci / groups, h, w].

    Subclasses set `kind`, by which a file names them, and `shape`. `forward` decodes from the trainable tensors that
    `right_inverse` makes; both must agree.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Encoding]]] = {}
    shape: tuple[int, ...]
    drops_kernels_only = False
    """Whether all it does is to set whole kernels to zero."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in cls.__dict__:
            other = Encoding.kinds.setdefault(cls.kind, cls)
            if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(f"two encodings are called {cls.kind!r}: {other} and {cls}")

    @abstractmethod
    def forward(self, *stored: Tensor) -> Tensor:
        """The decoded weight, of `shape`."""

    @abstractmethod
    def right_inverse(self, weight: Tensor) -> Any:
        """The tensor(s) to train in place of `weight`."""

    @abstractmethod
    def bits(self) -> int:
        """Bits this weight takes in the file, without codebooks that other layers share."""

    def formula_bits(self) -> float:
        """Bits by the paper's formula, where that differs."""
        return self.bits()

    @abstractmethod
    def macs(self, work: Work) -> int:
        """Multiply-adds of the layer when it computes with the encoding, by the paper's formula."""

    def macs_full(self, work: Work) -> int:
        """The same with the additions and scalings that the formula ignores, each counted as one multiply-add."""
        return self.macs(work)

    def params(self, *stored: Tensor) -> int:
        """Numbers that are trained and kept, without codebooks that other layers share."""
        return sum(tensor.numel() for tensor in stored)

    def codebooks(self) -> list[Codebook]:
        """The codebooks it uses."""
        return [module for module in self.modules() if isinstance(module, Codebook)]

    def describe(self, work: Work) -> dict[str, float | int | str]:
        """Columns for the per-layer table."""
        return {}

    @abstractmethod
    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        """Write everything `restore` needs; small facts are returned and must be plain JSON."""

    @classmethod
    @abstractmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        """Read, in the order it was written, an encoding whose `right_inverse` gives the tensors that were stored."""


def encode(layer: nn.Conv2d, encoding: Encoding) -> None:
    """Let `encoding` hold the layer's weight; an encoding it had before is replaced.

    A weight that the layer shared with another is its own from then on.
    """
    if parametrize.is_parametrized(layer, "weight"):
        parametrize.remove_parametrizations(layer, "weight")
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
    parametrize.register_parametrization(layer, "weight", encoding)


def encodable(model: nn.Module, lab: Lab, *, dropped_kernels: bool = True) -> dict[str, nn.Conv2d]:
    """The convolutions whose weights may still be encoded; the per-layer table says why the others may not.

    A layer that an earlier method of the pipeline encoded stays as it is. Only a mask that drops whole kernels may be
    replaced, by a method that says it keeps them dropped. A classifier that is a convolution stays dense, as linear
    layers do.
    """
    free = {}
    for name, layer in convolutions(model).items():
        encoding = encoding_of(layer)
        if is_classifier(model, layer):
            lab.note(name, "the classifier stays dense")
        elif encoding is None or (dropped_kernels and encoding.drops_kernels_only):
            free[name] = layer
        else:
            lab.note(name, f"{encoding.kind} of an earlier method stays")
    return free


def encoding_of(layer: nn.Module) -> Encoding | None:
    """The encoding of a layer's weight, None where it is dense."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    found = layer.parametrizations["weight"][0]  # type: ignore[index]
    return found if isinstance(found, Encoding) else None


def stored_tensors(layer: nn.Module) -> list[Tensor]:
    """What is trained in place of the weight: the tensors that decode to it."""
    parametrization: Any = layer.parametrizations["weight"]  # type: ignore[index]
    if hasattr(parametrization, "original"):
        return [parametrization.original]
    return [getattr(parametrization, f"original{index}") for index in range(parametrization.ntensors)]


def encoded_layers(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d, Encoding]]:
    """Every encoded convolution with its name and encoding."""
    for name, layer in convolutions(model).items():
        encoding = encoding_of(layer)
        if encoding is not None:
            yield name, layer, encoding


def codebooks_of(model: nn.Module) -> list[Codebook]:
    """Every codebook of a network, each shared one once."""
    found = {id(book): book for _, _, encoding in encoded_layers(model) for book in encoding.codebooks()}
    return list(found.values())


def round_to_half(values: Tensor) -> Tensor:
    """Rounded to 16-bit floats in the forward pass; the gradient passes straight through."""
    return values + (values.half().float() - values).detach()
