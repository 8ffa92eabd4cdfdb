"""What a search may propose: pipelines with open options."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from bench.plugins.method import Method
from bench.plugins.registry import methods
from bench.plugins.setting import Pipeline
from bench.plugins.strength import Strength
from bench.system.errors import BadArgument, BenchError

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class Knob:
    """An open option of one stage: a strength, or a choice among words."""

    stage: int
    option: str
    strength: Strength | None = None
    choices: tuple[str, ...] = ()

    def value(self, point: float | str) -> Any:
        """The option's value at a point of the search space."""
        return self.strength.value(float(point)) if self.strength else point


@dataclass(frozen=True)
class Family:
    """A pipeline whose `knobs` are open; a point gives each of them a place from 0 to 1, or a word."""

    pipeline: Pipeline
    knobs: tuple[Knob, ...]

    @cached_property
    def name(self) -> str:
        """The pipeline without its open strengths."""
        strengths = {knob.stage: knob.option for knob in self.knobs if knob.strength}
        return "+".join(
            stage.written(without=strengths.get(index, "")) for index, stage in enumerate(self.pipeline.stages)
        )

    @cached_property
    def strengths(self) -> list[str]:
        """The parameters of its strengths; along each, gain grows and accuracy falls."""
        return [self.parameter(knob) for knob in self.knobs if knob.strength]

    def snapped(self, places: Sequence[float]) -> list[float]:
        """The places of the values that the strengths take at `places`: whole numbers have few."""
        strengths = [knob.strength for knob in self.knobs if knob.strength]
        return [each.progress(each.value(place)) for each, place in zip(strengths, places, strict=True)]

    def parameter(self, knob: Knob) -> str:
        """The knob's name in the search space."""
        return f"{self.name} {knob.stage} {knob.option}"

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """A point, proposed by Optuna."""
        return {
            (name := self.parameter(knob)): trial.suggest_float(name, 0, 1)
            if knob.strength
            else trial.suggest_categorical(name, knob.choices)
            for knob in self.knobs
        }

    @property
    def middle(self) -> dict[str, Any]:
        """The point at the middle of every strength, with the methods' own words."""
        return {
            self.parameter(knob): 0.5 if knob.strength else getattr(self.pipeline.stages[knob.stage], knob.option)
            for knob in self.knobs
        }

    @property
    def middle_setting(self) -> Pipeline:
        return self.at(self.middle)

    def at(self, point: Mapping[str, Any]) -> Pipeline:
        """The setting at a point. Raises BenchError if its options exclude each other."""
        changes: dict[int, dict[str, Any]] = {}
        for knob in self.knobs:
            changes.setdefault(knob.stage, {})[knob.option] = knob.value(point[self.parameter(knob)])
        stages = [replace(stage, **changes.get(index, {})) for index, stage in enumerate(self.pipeline.stages)]
        return Pipeline(tuple(stages))

    def fits(self, point: Mapping[str, Any]) -> bool:
        try:
            self.at(point)
        except BenchError:
            return False
        return True


def families(given: Iterable[Pipeline] = ()) -> list[Family]:
    """The families of settings that were given: an option is open if the text leaves it out.

    Without any: every method that declares a strength, and each followed by every method that finishes a pipeline.
    BadArgument if nothing is open.
    """
    given = list(given)
    found = [_family(pipeline) for pipeline in given or _registered()]
    found = list({each.name: each for each in found if given or each.strengths}.values())
    if not any(each.knobs for each in found):
        raise BadArgument("methods", ", ".join(map(str, given)), "every option is given; leave out one to choose")
    return found


def _registered() -> Iterator[Pipeline]:
    strong = [kind for kind in methods().values() if kind.strength is not None and _buildable(kind)]
    last = [kind for kind in methods().values() if kind.finishes]
    for kind in strong:
        yield Pipeline((_training(kind()),))
        yield from (Pipeline((_training(kind()), _training(end()))) for end in last if end is not kind)


def _buildable(kind: type[Method]) -> bool:
    try:
        kind()
    except (TypeError, BenchError):  # an option without a default
        return False
    return True


def _training(method: Method) -> Method:
    """The method with the switch on that lets it train, if it has one: a search has a budget to spend."""
    if method.trains:
        return method
    for option in fields(method):
        if getattr(method, option.name) is False:
            switched = replace(method, **{option.name: True})
            if switched.trains:
                return switched
    return method


def _family(pipeline: Pipeline) -> Family:
    given = pipeline.given or (frozenset(),) * len(pipeline.stages)
    knobs = [
        knob
        for index, (stage, named) in enumerate(zip(pipeline.stages, given, strict=True))
        for knob in _knobs(index, stage)
        if knob.option not in named
    ]
    return Family(Pipeline(pipeline.stages), tuple(knobs))


def _knobs(index: int, stage: Method) -> Iterator[Knob]:
    if stage.strength is not None:
        yield Knob(index, stage.strength.option, strength=stage.strength)
    hints = get_type_hints(type(stage), include_extras=True)
    for option in fields(stage):
        hint = hints[option.name]
        hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        words = get_args(hint) if get_origin(hint) is Literal else ()
        if option.name in stage.searched and len(words) > 1:
            yield Knob(index, option.name, choices=words)
