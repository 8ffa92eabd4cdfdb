"""The stages of a setting: how they share the budget, and whose error it is."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
from torch import nn

from bench.plugins.setting import Pipeline, parse
from bench.system.errors import BadArgument, BenchError, MethodFault
from bench.training.lab import Lab

from .sample_methods import Plain
from .sample_methods import more_methods as more_methods


def test_stages_share_the_budget_and_what_one_leaves_is_the_next_ones(
    make_lab: Callable[..., Lab], make_model: Callable[..., nn.Module]
) -> None:
    lab = make_lab(epochs=3)
    parse("sample(switch=true)+plain+sample")[0].compress(make_model(), lab)
    # `plain` asks for 0.5 epochs of 3 steps: one whole step, a third of an epoch.
    assert list(lab.notes.values()) == ["1", "2.66667"]
    assert lab.spent == pytest.approx(3) and lab.remaining == 0


def test_a_stage_that_does_not_train_leaves_its_part_to_the_others(
    make_lab: Callable[..., Lab], make_model: Callable[..., nn.Module]
) -> None:
    for text in ("l1(rate=0.5)+fixed(keep=0.5)", "none+l1(rate=0.5)+none"):
        lab = make_lab(epochs=2)
        parse(text)[0].compress(make_model(), lab)
        assert lab.spent == pytest.approx(2), text


def test_a_method_that_returns_no_model_is_named(
    make_model: Callable[..., nn.Module], make_lab: Callable[..., Lab]
) -> None:
    class Forgets(Plain):
        def compress(self, model: nn.Module, lab: Lab) -> None:  # type: ignore[override]
            pass

    class Wraps(Plain):
        def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
            return nn.Sequential(model)

    class Copies(Plain):
        def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
            return deepcopy(model)

    expected = "expected the model, or a changed copy of it$"
    with pytest.raises(MethodFault, match=f"^plain: compress returned None; {expected}"):
        Pipeline((Forgets(),)).compress(make_model("resnet20"), make_lab())
    with pytest.raises(MethodFault, match=f"^plain: compress returned a Sequential; {expected}"):
        Pipeline((Wraps(),)).compress(make_model("resnet20"), make_lab())
    model = make_model("resnet20")
    assert Pipeline((Copies(),)).compress(model, make_lab()) is not model


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (KeyError("layer9"), MethodFault, "plain: KeyError: 'layer9'"),
        (SystemExit(3), MethodFault, "plain: SystemExit: 3"),
        (BenchError("too small"), BenchError, "plain: too small"),
        (BenchError("plain: too small"), BenchError, "plain: too small"),
        (BadArgument("k", 9, "expected less"), BadArgument, "plain: k=9: expected less"),
    ],
)
def test_an_error_of_a_method_carries_its_name(
    error: BaseException,
    kind: type[Exception],
    message: str,
    make_model: Callable[..., nn.Module],
    make_lab: Callable[..., Lab],
) -> None:
    class Fails(Plain):
        def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
            raise error

    with pytest.raises(kind) as caught:
        Pipeline((Plain(), Fails())).compress(make_model("resnet20"), make_lab())
    assert str(caught.value) == message and type(caught.value) is kind


def test_a_full_disk_stays_what_it_is_and_notes_the_method(
    make_model: Callable[..., nn.Module], make_lab: Callable[..., Lab]
) -> None:
    class Fills(Plain):
        def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        Pipeline((Fills(),)).compress(make_model("resnet20"), make_lab())
    assert caught.value.errno == 28 and caught.value.__notes__ == ["in plain"]


def test_every_method_says_whether_it_trains() -> None:
    trains = {
        text: parse(text)[0].stages[0].trains for text in ("none", "none(train=true)", "fixed", "wcss", "inertia")
    }
    assert [text for text, value in trains.items() if value] == ["none(train=true)"]
    assert parse("l1")[0].stages[0].trains and parse("inertia(train=true)")[0].stages[0].trains
