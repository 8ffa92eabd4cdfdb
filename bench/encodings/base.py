"""How a compressed weight is stored: parametrizations that decode it, count its MACs and write it to a file.

`encode` registers an encoding on a layer, so the layer and its forward stay as they are, and autograd trains what the
encoding keeps trainable. Integer labels are buffers; a codebook that several layers share is one `Codebook`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, overload

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.encodings.grid import Grid, own_rows
from bench.networks.layers import Layer, is_classifier, unparametrize, weighted_layers
from bench.networks.work import Work

if TYPE_CHECKING:
    from bench.training.lab import Lab

DENSE_BITS = 32


class Writer(Protocol):
    """Takes what an encoding stores. It is read back in the same order."""

    def floats(self, values: Tensor) -> None:
        """32-bit floats."""

    def halves(self, values: Tensor) -> None:
        """16-bit floats; they must hold the values exactly."""

    def integers(self, values: Tensor, width: int) -> None:
        """Whole numbers in [0, 2**width), packed without gaps."""

    def codebook(self, codebook: Codebook) -> int:
        """Store a codebook, only once even if several layers share it. Returns its index in the file."""


class Reader(Protocol):
    """Gives back what a `Writer` wrote, in the same order."""

    def floats(self, *shape: int) -> Tensor: ...

    def halves(self, *shape: int) -> Tensor: ...

    def integers(self, width: int, *shape: int) -> Tensor: ...

    def codebook(self, index: int, bits: int | None = None) -> Codebook:
        """The codebook of that index, with numbers of `bits` bits if the layer is quantized."""


class _BitCounter:
    """A writer that keeps nothing and only counts the bits."""

    def __init__(self) -> None:
        self.bits = 0

    def floats(self, values: Tensor) -> None:
        self.bits += 32 * values.numel()

    def halves(self, values: Tensor) -> None:
        self.bits += 16 * values.numel()

    def integers(self, values: Tensor, width: int) -> None:
        self.bits += width * values.numel()

    def codebook(self, codebook: Codebook) -> int:
        return 0


class Codebook(nn.Module):
    """Kernels that many weights share: `centroids` [k, h, w], which are trained with the network.

    Once the codebook is quantized, `centroids` are rounded, and the kernels before rounding are trained.
    """

    def __init__(self, centroids: Tensor) -> None:
        super().__init__()
        self.centroids = nn.Parameter(centroids.detach().clone())

    def __len__(self) -> int:
        return len(self.centroids)

    @property
    def bits(self) -> int:
        """Bits that the codebook takes in a file."""
        width, steps = (self.grid.width, self.grid.step_bits) if self.grid else (DENSE_BITS, 0)
        return self.centroids.numel() * width + steps

    @property
    def grid(self) -> Grid | None:
        """How the kernels are rounded, each with its own step; None if they are not."""
        grid = self.parametrizations["centroids"][0] if parametrize.is_parametrized(self) else None  # type: ignore[index]
        return grid if isinstance(grid, Grid) else None

    @property
    def trained(self) -> Tensor:
        """The kernels before they are rounded."""
        if not self.grid:
            return self.centroids
        original: Tensor = self.parametrizations["centroids"].original  # type: ignore[index,union-attr]
        return original

    def quantize(self, bits: int, grid: Grid | None = None) -> None:
        """Round the kernels to `bits` bits from now on. A codebook that is already rounded does not change."""
        if not self.grid:
            grid = grid or Grid.fitted(self.centroids, bits, own_rows(self.centroids))
            parametrize.register_parametrization(self, "centroids", grid)


class Encoding(nn.Module, ABC):
    """One compressed weight: [Co, Ci / groups, h, w] of a convolution, [Co, Ci] of a linear layer.

    Subclasses set `kind`, their name in files, and `shape`. `right_inverse` makes the trainable tensors, and `forward`
    decodes them. An author writes these two, `macs`, `store` and `restore`; the bits follow from `store`.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Encoding]]] = {}
    shape: tuple[int, ...]
    drops_kernels_only = False
    """Whether it only sets whole kernels to zero."""
    quantizable: ClassVar[bool] = False
    """Whether the floats that `store` writes are exactly the tensors that are trained, or entries of them. Then
    `quantize` can round them: it passes whole numbers to `store` in their place."""

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

    @torch.no_grad()
    def bits(self) -> int:
        """Bits that `store` writes for this weight. Codebooks are counted separately, because layers may share them.

        The bits are counted for the tensors that `right_inverse` makes, so they must not depend on the values.
        """
        counter = _BitCounter()
        device = next((tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu"))
        stored = self.right_inverse(torch.ones(self.shape, device=device))
        self.store(counter, *([stored] if isinstance(stored, Tensor) else stored))
        return counter.bits

    def formula_bits(self) -> float:
        """Bits by the paper's formula, if it differs from what is stored; codebooks are counted separately."""
        return self.bits()

    @abstractmethod
    def macs(self, work: Work) -> int:
        """Multiply-adds of the layer for one image when it uses the encoding, by the paper's formula."""

    def macs_full(self, work: Work) -> int:
        """As `macs`, plus the additions and scalings that the formula ignores, each counted as one multiply-add."""
        return self.macs(work)

    def params(self, *stored: Tensor) -> int:
        """How many trained numbers are kept. Codebooks are counted separately."""
        return sum(tensor.numel() for tensor in stored)

    @property
    def content(self) -> Encoding:
        """The encoding whose numbers are rounded; itself if they are not."""
        return self

    def step_rows(self, *stored: Tensor) -> list[Tensor]:
        """Which entries share a step when they are quantized: for each tensor, int64 [length of its first axis].

        By default each entry of the first axis, such as an output channel or a filter, has its own step, and a vector
        has one step.
        """
        return [own_rows(tensor) for tensor in stored]

    def codebooks(self) -> list[Codebook]:
        """The codebooks it uses."""
        return [module for module in self.modules() if isinstance(module, Codebook)]

    def describe(self, work: Work) -> dict[str, float | int | str]:
        """Columns for the per-layer table."""
        return {}

    @abstractmethod
    def store(self, writer: Writer, *stored: Tensor) -> dict[str, Any]:
        """Write what `restore` needs. Small facts are returned instead, as plain JSON."""

    @classmethod
    @abstractmethod
    def restore(cls, reader: Reader, shape: tuple[int, ...], facts: dict[str, Any]) -> Encoding:
        """Read what `store` wrote, in the same order. `right_inverse` of the result gives the tensors that were stored.

        `shape` is the weight's, `facts` what `store` returned. The file may be untrusted: any exception raised here
        becomes a BenchError that names the file.
        """


def encode(layer: Layer, encoding: Encoding) -> None:
    """Let `encoding` hold the layer's weight, in place of any earlier encoding.

    If the layer shared its weight with another layer, it no longer does.
    """
    if parametrize.is_parametrized(layer, "weight"):
        unparametrize(layer)
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)
    parametrize.register_parametrization(layer, "weight", encoding)


@overload
def encodable(
    model: nn.Module, lab: Lab, *, dropped_kernels: bool = True, linear: Literal[False] = False
) -> dict[str, nn.Conv2d]: ...


@overload
def encodable(model: nn.Module, lab: Lab, *, dropped_kernels: bool = True, linear: bool) -> Mapping[str, Layer]: ...


def encodable(
    model: nn.Module, lab: Lab, *, dropped_kernels: bool = True, linear: bool = False
) -> dict[str, nn.Conv2d] | Mapping[str, Layer]:
    """The layers whose weights may still be encoded, by name. The per-layer table says why the others may not.

    These are the convolutions, except for a classifier. A method that also encodes weights [Co, Ci] passes
    `linear=True`; it then also gets the linear layers and the classifier.

    A layer that an earlier method of the pipeline encoded is left out. The exception is a mask that drops whole
    kernels: a method that keeps these kernels dropped may replace it. Other methods pass `dropped_kernels=False`.
    """
    free: dict[str, Any] = {}
    for name, layer in weighted_layers(model).items():
        encoding = encoding_of(layer)
        if encoding is not None and not (dropped_kernels and encoding.drops_kernels_only):
            lab.note(name, f"{encoding.kind} of an earlier method stays")
        elif linear or (isinstance(layer, nn.Conv2d) and not is_classifier(model, layer)):
            free[name] = layer
        else:
            what = (
                "linear: not reached by this method" if isinstance(layer, nn.Linear) else "the classifier stays dense"
            )
            lab.note(name, what, reachable=False)
    return free


def encoding_of(layer: nn.Module) -> Encoding | None:
    """The encoding of a layer's weight; None if the weight is dense."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    first = layer.parametrizations["weight"][0]  # type: ignore[index]
    return first if isinstance(first, Encoding) else None


def stored_bits(layer: nn.Module) -> int:
    """Bits that the layer's weight now takes in a file; codebooks are counted separately."""
    encoding = encoding_of(layer)
    return encoding.bits() if encoding else layer.weight.numel() * DENSE_BITS  # type: ignore[operator]


def stored_tensors(layer: nn.Module) -> list[Tensor]:
    """The tensors that are trained in place of an encoded weight, and decode to it."""
    parametrization: Any = layer.parametrizations["weight"]  # type: ignore[index]
    if hasattr(parametrization, "original"):
        return [parametrization.original]
    return [getattr(parametrization, f"original{index}") for index in range(parametrization.ntensors)]


def encoded_layers(model: nn.Module) -> Iterator[tuple[str, Layer, Encoding]]:
    """Every encoded convolution and linear layer with its name and encoding."""
    for name, layer in weighted_layers(model).items():
        encoding = encoding_of(layer)
        if encoding is not None:
            yield name, layer, encoding


def codebooks_of(model: nn.Module) -> list[Codebook]:
    """Every codebook of a network. One that several layers share is listed once."""
    books = {id(book): book for _, _, encoding in encoded_layers(model) for book in encoding.codebooks()}
    return list(books.values())


def round_to_half(values: Tensor) -> Tensor:
    """Values rounded to 16-bit floats. The gradient passes through unchanged (straight-through estimator)."""
    return values + (values.half().float() - values).detach()
