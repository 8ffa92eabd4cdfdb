"""Methods with options of every kind, which settings may name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge
from torch import nn

from bench.plugins import setting
from bench.plugins.method import Method
from bench.plugins.setting import Pipeline
from bench.training.lab import Lab


@dataclass(frozen=True, kw_only=True)
class Sample(Method):
    name = "sample"

    count: Annotated[int, Ge(0)] = 1
    rate: float = 0.5
    word: str = ""
    layers: tuple[int, ...] = ()
    switch: bool = False
    mode: Literal["none", "all"] = "all"
    limit: float | None = 2.0

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        lab.note(f"{len(lab.notes)}", f"{lab.remaining:g}")
        lab.fit(model, lab.remaining / 2 if self.switch else None)
        return model


@dataclass(frozen=True, kw_only=True)
class Plain(Method):
    name = "plain"
    control = True

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        return model


@dataclass(frozen=True, kw_only=True)
class Needs(Plain):
    name = "needs"

    x: int


@pytest.fixture(autouse=True)
def more_methods() -> Any:
    known = {**setting.methods(), "sample": Sample, "plain": Plain, "needs": Needs}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting, "methods", lambda: known)
        yield


def sample(**options: Any) -> Pipeline:
    return Pipeline((Sample(**options),))
