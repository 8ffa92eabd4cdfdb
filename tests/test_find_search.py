"""The search of `bench find`, on curves whose best answer is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import pytest

from bench.plugins.setting import Pipeline, parse
from bench.search.candidates import Tried
from bench.search.goal import Goal, goal_of
from bench.search.rungs import Search
from bench.search.space import Family, families
from tests.search_curves import Curves, record_of

WITHIN = goal_of(within=1.0, smallest="size")
METHODS = "l1,l1+quantize,magnitude,magnitude+quantize,random,random+quantize,kse(G=4),kse(G=4)+quantize"
EPOCHS = 0.25


def searched(goal: Goal, measure: Curves, text: str = METHODS, trials: int = 32) -> list[Tried]:
    return Search(families(parse(text)), goal, EPOCHS, trials, measure).run()


def best_of_grid(goal: Goal, most: float) -> float:
    """The worth of the best setting of a grid that costs at least `most` epochs: the finest of the same kind that a
    person would write down, with each strength at evenly spaced places."""
    for steps in range(2, 100):
        settings = {str(each): each for each in grid(steps)}
        if EPOCHS * len(settings) >= most:
            break
    records = [record_of(setting, EPOCHS) for setting in settings.values()]
    return max(goal.worth(record) for record in records if goal.keeps(record))


def grid(steps: int) -> Iterator[Pipeline]:
    for family in families(parse(METHODS)):
        for places in product([step / (steps - 1) for step in range(steps)], repeat=len(family.strengths)):
            yield family.at(family.middle | dict(zip(family.strengths, places, strict=True)))


@pytest.mark.parametrize(
    "goal", [WITHIN, goal_of(at_least=["size=12"]), goal_of(within=0.5, smallest="size", at_least=["size=3"])], ids=str
)
def test_it_is_as_good_as_a_grid_with_a_third_of_its_training(goal: Goal) -> None:
    measure = Curves()
    best = searched(goal, measure)[0].record
    assert goal.keeps(best)
    assert goal.worth(best) >= best_of_grid(goal, 3 * measure.epochs_spent)


def test_the_same_question_asks_for_the_same_settings() -> None:
    first, second = Curves(), Curves()
    assert searched(WITHIN, first)[0].candidate.setting == searched(WITHIN, second)[0].candidate.setting
    assert first.asked == second.asked


class Interrupted(Curves):
    def __call__(self, settings: Sequence[Pipeline], epochs: float):  # type: ignore[no-untyped-def]
        if len(self.asked) > 20:
            raise KeyboardInterrupt
        return super().__call__(settings, epochs)


def test_an_interrupted_search_goes_on_with_what_it_asked_for_before() -> None:
    before, after = Interrupted(), Curves()
    with pytest.raises(KeyboardInterrupt):
        searched(WITHIN, before)
    searched(WITHIN, after)
    assert after.asked[: len(before.asked)] == before.asked


def test_every_family_is_tried_and_each_rung_has_a_third_of_the_settings_and_three_times_the_budget() -> None:
    measure = Curves()
    searched(WITHIN, measure, trials=4)
    first, second, last = (
        {name for name, epochs in measure.asked if epochs == pytest.approx(EPOCHS / part, abs=1e-5)}
        for part in (9, 3, 1)
    )
    assert {name.partition("(")[0] + "+quantize" * ("+" in name) for name in first} == {
        name + more for name in ("l1", "magnitude", "random", "kse") for more in ("", "+quantize")
    }
    assert len(second) == -(-len(first) // 3) and second <= first
    assert len(last & second) == -(-len(second) // 3)


def test_strengths_are_narrowed_towards_the_bound() -> None:
    goal = goal_of(within=1.0, smallest="size")
    tried = searched(goal, Curves(), "magnitude")
    kept = [each.candidate.places[0] for each in tried if goal.keeps(each.record)]
    lost = [each.candidate.places[0] for each in tried if not goal.keeps(each.record)]
    assert max(kept) < 0.885 <= min(lost) <= max(kept) + 0.1  # 40 points a range: 1 point is 0.025 beyond 0.86


class WithFailures(Curves):
    def __call__(self, settings: Sequence[Pipeline], epochs: float):  # type: ignore[no-untyped-def]
        return {name: record for name, record in super().__call__(settings, epochs).items() if "magnitude" not in name}


def test_settings_that_fail_are_left_out() -> None:
    tried = searched(WITHIN, WithFailures())
    assert tried and not any("magnitude" in each.record.setting for each in tried)


def test_without_training_there_is_one_rung() -> None:
    measure = Curves()
    Search(families(parse("magnitude")), WITHIN, 0, 5, measure).run()
    assert {epochs for _, epochs in measure.asked} == {0.0}


def names(found: Sequence[Family]) -> list[str]:
    return [family.name for family in found]


def test_the_registry_is_searched_alone_and_in_every_format() -> None:
    found = names(families())
    assert {"tic", "tic+quantize", "l1", "l1+quantize", "quantize"} <= set(found)
    assert "quantize+quantize" not in found and not any("scratch" in name or name.startswith("none") for name in found)


def test_methods_that_can_train_do() -> None:
    assert "fixed(train=True)" in names(families())


def test_options_that_are_given_stay() -> None:
    (family,) = families(parse("l1(granularity=kernel)+quantize(bits=4)"))
    assert [knob.option for knob in family.knobs] == ["rate"]
    assert str(family.at(family.middle)) == "l1(rate=0.495, granularity=kernel)+quantize(bits=4)"


def test_a_sweep_is_several_families() -> None:
    assert names(families(parse("tic(transforms=[1, 8])"))) == ["tic(transforms=1)", "tic"]
