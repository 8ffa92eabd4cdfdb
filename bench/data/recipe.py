"""How every network is trained on a dataset."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Lt
from pydantic import AllowInfNan, ConfigDict, TypeAdapter, ValidationError

from bench.system.errors import BenchError

Finite = AllowInfNan(False)


@dataclass(frozen=True)
class Recipe:
    """How every network is trained on a dataset: one optimiser and one schedule, the same for all methods.

    SGD with Nesterov momentum. The learning rate rises linearly to its peak and falls to zero along a cosine.
    `epochs` is the length of a baseline that is trained on demand, `lr` its peak learning rate, and `finetune_lr` the
    peak of every training after compression. `crop_padding` is in pixels; `flip` mirrors half of the images.
    Raises BenchError for a value outside its bounds.
    """

    epochs: Annotated[int, Ge(1)]
    # Batch norm cannot compute a variance from one image.
    batch_size: Annotated[int, Ge(2)] = 128
    lr: Annotated[float, Gt(0), Finite] = 0.1
    finetune_lr: Annotated[float, Gt(0), Finite] = 0.01
    # Nesterov's variant needs a momentum.
    momentum: Annotated[float, Gt(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0), Finite] = 5e-4
    crop_padding: Annotated[int, Ge(0)] = 4
    flip: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                _rules()[field.name].validate_python(value)
            except ValidationError as error:
                problem = error.errors()[0]["msg"].removeprefix("Input ")
                raise BenchError(f"Recipe: {field.name}={value!r}: {problem}") from None


@cache
def _rules() -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(Recipe, include_extras=True)
    return {name: TypeAdapter(hint, config=ConfigDict(strict=True)) for name, hint in hints.items()}
