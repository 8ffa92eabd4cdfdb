"""What goes into a network and what comes out of it: how its images are prepared, and the names of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen
from pydantic import AfterValidator, AllowInfNan, TypeAdapter, ValidationError

from bench.networks.zoo import Preprocessing
from bench.system.errors import BenchError

LARGEST_MEAN = 1e6


def _readable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("is empty or cannot be printed")
    return text


ClassName = Annotated[str, MaxLen(1000), AfterValidator(_readable)]
Finite = AllowInfNan(False)
Mean = Annotated[float, Finite, Ge(-LARGEST_MEAN), Le(LARGEST_MEAN)]
Deviation = Annotated[float, Finite, Gt(0), Le(LARGEST_MEAN)]
Pixels = Annotated[int, Ge(1), Le(4096)]


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """`Preprocessing` as a file states it, with bounds, because the file may be untrusted."""

    size: tuple[Annotated[int, Ge(1)], Pixels, Pixels]
    mean: Annotated[tuple[Mean, ...], MaxLen(64)]
    std: Annotated[tuple[Deviation, ...], MaxLen(64)]
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
    crop_share: Annotated[float, Finite, Ge(0.05), Le(2)]
    crop_mode: Literal["center", "squash", "border"]

    def __post_init__(self) -> None:
        if not self.size[0] == len(self.mean) == len(self.std):
            raise ValueError(f"{self.size[0]} channels, {len(self.mean)} means and {len(self.std)} deviations")


@dataclass(frozen=True, kw_only=True)
class Interface:
    """How a network's images are prepared, and the names of its classes; None if a file does not say."""

    class_names: tuple[ClassName, ...] | None = None
    input: InputFormat | None = None

    @classmethod
    def of(cls, class_names: Sequence[str] | None, preprocessing: Preprocessing | None) -> Interface:
        """The interface with this content; BenchError for a name or number that a file may not hold."""
        prepared = None if preprocessing is None else asdict(preprocessing)
        names = None if class_names is None else tuple(class_names)
        try:
            return TypeAdapter(cls).validate_python({"class_names": names, "input": prepared})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise BenchError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None

    @property
    def preprocessing(self) -> Preprocessing | None:
        return None if self.input is None else Preprocessing(**asdict(self.input))

    def check_fits(self, classes: int, channels: int) -> None:
        """ValueError if it does not fit a network with so many classes and channels."""
        if self.class_names is not None and len(self.class_names) != classes:
            raise ValueError(f"{len(self.class_names)} class names for {classes} classes")
        if self.input is not None and self.input.size[0] != channels:
            raise ValueError(f"images of {self.input.size[0]} channels for a network of {channels}")

    def described(self) -> dict[str, Any]:
        """The interface as JSON, without unknown parts."""
        return {name: value for name, value in asdict(self).items() if value is not None}
