"""Which setting reaches an operating point, and what is said where none does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bench.plugins import registry
from bench.plugins.setting import Pipeline, parse
from bench.plugins.strength import Strength
from bench.records.store import MODEL
from bench.trials.baseline import load_task
from bench.trials.points import TOLERANCE, Answer, Search, aims_of, parse_points
from bench.trials.ruler import Ruler

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("quick_timing")


@pytest.fixture(scope="module")
def networks(image_folder: Path) -> Callable[[str], Search]:
    rulers: dict[str, Ruler] = {}

    def search(name: str) -> Search:
        if name not in rulers:
            dataset = registry.open_dataset(f"folder:{image_folder}", None)
            rulers[name] = Ruler(load_task(name, dataset, "scratch", CPU), CPU)
        return Search(rulers[name])

    return search


def stub(ratio: Callable[[Pipeline], float]) -> Search:
    search = Search(None)  # type: ignore[arg-type]
    search.ratio = lambda setting, measure, rough=False: ratio(setting)  # type: ignore[method-assign]
    return search


def option(setting: Pipeline, name: str) -> Any:
    return getattr(setting.stages[0], name)


def narrowed(search: Search, setting: str, point: str) -> Answer:
    (aim,) = aims_of(parse(setting), parse_points([point]))
    return search._bisect(aim, lambda steps: None)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "resnet20",
            "magnitude,l1(scope=network),fixed,dynamic,l1(scope=network)+fixed(keep=0.95),taylor(criterion=weight)",
        ),
        ("resnet56", "magnitude,l1"),
        ("lcnet_035", "magnitude"),
        ("densenet121", "l1(granularity=kernel)"),
    ],
)
def test_what_is_found_reaches_the_point_when_it_is_run(
    name: str, settings: str, networks: Callable[[str], Search], tmp_path: Path
) -> None:
    """Counted here again, by the bytes of the file that a trial without training writes."""
    search = networks(name)
    for aim in aims_of(parse(settings), parse_points(["size=2"])):
        answer = search.find(aim)
        assert not answer.missed, answer
        (setting,) = parse(answer.setting)
        ruler = search._ruler
        lab = ruler.lab(0, 0)
        model = setting.compress(ruler.fresh_model(), lab).eval()
        sizes = ruler.measure(model, lab, tmp_path, timed=False).sizes
        assert abs(sizes.compression_ratio / 2 - 1) <= TOLERANCE, answer
        assert sizes.compression_ratio == pytest.approx(answer.ratio)


def test_multiply_adds_are_a_measure_too(networks: Callable[[str], Search]) -> None:
    search = networks("resnet20")
    (aim,) = aims_of(parse("l1(scope=network)"), parse_points(["macs=2"]))
    (setting,) = parse(search.find(aim).setting)
    model = setting.compress(search._ruler.fresh_model(), search._ruler.lab(0, 0)).eval()
    assert search._ruler.gain(model, "macs") == pytest.approx(2, rel=TOLERANCE)


@pytest.mark.parametrize("settings", ["magnitude", "magnitude+quantize(bits=4)", "sharing"])
def test_compressed_size_is_a_measure_too(settings: str, networks: Callable[[str], Search], tmp_path: Path) -> None:
    """Counted here again, by zstandard on the file that a trial without training writes."""
    search = networks("resnet20")
    (aim,) = aims_of(parse(settings), parse_points(["compressed=9"]))
    answer = search.find(aim)
    assert not answer.missed, answer
    ruler, (setting,) = search._ruler, parse(answer.setting)
    lab = ruler.lab(0, 0)
    model = setting.compress(ruler.fresh_model(), lab).eval()
    sizes = ruler.measure(model, lab, tmp_path, timed=False).sizes
    coded = len(zstandard.ZstdCompressor(level=15).compress((tmp_path / MODEL).read_bytes()))
    assert sizes.dense_bytes / coded == pytest.approx(9, rel=TOLERANCE)
    assert sizes.compressed_ratio == pytest.approx(answer.ratio) and sizes.compression_ratio < sizes.compressed_ratio


@given(st.floats(5, 900), st.floats(1, 5))
def test_any_smooth_growth_is_met(target: float, bend: float) -> None:
    answer = narrowed(stub(lambda setting: 1 + 999 * option(setting, "rate") ** bend), "magnitude", f"size={target!r}")
    assert abs(answer.ratio / target - 1) <= TOLERANCE


def test_a_whole_number_is_found_by_trying_few_of_them() -> None:
    tried = []

    def ratio(setting: Pipeline) -> float:
        tried.append(option(setting, "k"))
        return 1000 / option(setting, "k")

    assert narrowed(stub(ratio), "tic", "size=8").setting == "tic(k=125)" or len(set(tried)) < 10
    assert all(isinstance(k, int) for k in tried)


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("size=1.5", "tic at size=1.5: even its weakest value, k=4096, gives 2.00x"),
        ("size=30", "tic at size=30: it reaches 20.00x at most, with k=1"),
        ("size=7", "tic at size=7: k=500 gives 2.00x and k=499 20.00x, nothing between"),
    ],
)
def test_what_cannot_be_reached_says_how_far_the_method_gets(point: str, said: str) -> None:
    search = stub(lambda setting: 2.0 if option(setting, "k") >= 500 else 20.0)
    assert narrowed(search, "tic", point) == Answer(missed=said)


def test_a_rough_clustering_that_misjudges_is_not_believed() -> None:
    search = Search(None)  # type: ignore[arg-type]
    search.ratio = lambda setting, measure, rough=False: (  # type: ignore[method-assign]
        (4000 if rough else 2000) / option(setting, "k")
    )
    answer = narrowed(search, "tic", "size=4")
    assert abs(option(parse(answer.setting)[0], "k") / 500 - 1) <= TOLERANCE


def test_the_stage_that_is_searched_is_the_first_whose_strength_is_not_given() -> None:
    def searched(text: str) -> str:
        (setting,) = parse(text)
        return setting.family(setting.searched)

    assert searched("tic") == "tic"
    assert searched("tic(transforms=4)") == "tic(transforms=4)"
    assert searched("l1+tic(k=64)") == "l1+tic(k=64)"
    assert searched("l1(rate=0.5)+tic") == "l1(rate=0.5)+tic"
    assert searched("l1+tic") == "l1+tic(k=64)"
    assert parse("tic(k=64)")[0].searched is None and parse("none")[0].searched is None


@pytest.mark.parametrize("method", registry.methods().values(), ids=lambda method: method.name)
def test_both_ends_of_every_strength_are_values_that_the_method_takes(method: Any) -> None:
    strength = method.strength
    if strength is None:
        assert method.name in ("none", "scratch")
        return
    for progress in (0, 0.37, 1):
        replace(parse(method.name)[0].stages[0], **{strength.option: strength.value(progress)})
    assert strength.value(0) == strength.weakest and strength.value(1) == pytest.approx(strength.strongest)


def test_a_range_is_divided_by_difference_or_by_ratio() -> None:
    assert Strength("rate", 0.0, 0.9).value(0.5) == 0.45
    assert Strength("k", 256, 1, log=True).value(0.5) == 16
