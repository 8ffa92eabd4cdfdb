"""Operating points: the setting with which a method reaches a wanted ratio, found without training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib import resources
from math import isfinite, log

from bench.clustering.kmeans import roughly
from bench.isolation.randomness import seeded
from bench.plugins.setting import Pipeline, parse
from bench.system.cache import cache_dir
from bench.system.errors import BadArgument, BenchError
from bench.system.files import write_atomically
from bench.system.progress import Advance, bar
from bench.trials.guard import Guard
from bench.trials.ruler import GAINS, Ruler
from bench.trials.sources import code, source_digest

TOLERANCE = 0.03
"""How far a setting may be from the wanted ratio, as a fraction of it."""
PROBES = 24
"""Values tried for one operating point, at most; each try compresses the network once."""
IMAGES = 256
"""Held-out images on which a try ranks filters; a trial uses more images, and ranks after training."""
EXAMPLE = "expected ratios above 1, as in size=2,4,8, compressed=8 or macs=2"


@dataclass(frozen=True)
class Point:
    """A ratio of dense to compressed that a setting should reach; `measure` is one of `GAINS`."""

    measure: str
    target: float

    def __str__(self) -> str:
        return f"{self.measure}={self.target:g}"

    def is_met(self, ratio: float) -> bool:
        return abs(ratio / self.target - 1) <= TOLERANCE


@dataclass(frozen=True)
class Aim:
    """A setting, the stage whose strength is to be chosen, and the operating point to reach."""

    setting: Pipeline
    stage: int
    point: Point

    @property
    def option(self) -> str:
        strength = self.setting.stages[self.stage].strength
        assert strength is not None
        return strength.option

    @property
    def family(self) -> str:
        return self.setting.family(self.stage)

    def at(self, value: float) -> Pipeline:
        return self.setting.with_strength(self.stage, value)

    def value(self, progress: float) -> float:
        strength = self.setting.stages[self.stage].strength
        assert strength is not None
        return strength.value(progress)

    def __str__(self) -> str:
        return f"{self.family} at {self.point}"


@dataclass(frozen=True)
class Answer:
    """The result of a search: a setting's text with its ratio, or in `missed` how close the method gets."""

    setting: str = ""
    ratio: float = 0.0
    missed: str = ""


def parse_points(texts: Iterable[str], argument: str = "at") -> list[Point]:
    """Operating points as `size=2,4,8`, each once. BadArgument for anything else."""
    points: dict[Point, None] = {}
    for text in texts:
        measure, equals, values = text.replace(" ", "").partition("=")
        if measure not in GAINS or not equals:
            raise BadArgument(argument, text, f"{EXAMPLE}; measures are {', '.join(GAINS)}")
        for value in values.split(","):
            try:
                target = float(value)
            except ValueError:
                target = 0.0
            if not (isfinite(target) and target > 1):
                raise BadArgument(argument, text, EXAMPLE)
            points[Point(measure, target)] = None
    return list(points)


def aims_of(settings: Iterable[Pipeline], points: Iterable[Point]) -> list[Aim]:
    """Every setting at every point. BadArgument for a setting without an option to choose; `none` is left out."""
    aims: list[Aim] = []
    points = list(points)
    for setting in settings if points else ():
        if str(setting) == "none":
            continue
        if (stage := setting.searched) is None:
            raise BadArgument("at", str(points[0]), f"{setting}: {_why_fixed(setting)}")
        aims += [Aim(setting, stage, point) for point in points]
    return aims


def _why_fixed(setting: Pipeline) -> str:
    fixed = [stage for stage in setting.stages if stage.strength is not None]
    if not fixed:
        return "no method in it declares an option that sets its strength"
    option = fixed[0].strength.option if fixed[0].strength else ""
    return f"{option} is given; leave it out, so that its value can be chosen"


class Search:
    """Looks for the settings of one network. Ratios that were measured, and answers of earlier runs, are reused."""

    def __init__(self, ruler: Ruler) -> None:
        self._ruler = ruler
        self._ratios: dict[tuple[str, str, bool], float] = {}

    def find(self, aim: Aim) -> Answer:
        """The setting that reaches the point within `TOLERANCE`, without training and with seed 0.

        The value is found by bisection between the ends of the method's range. Raises BenchError if the method cannot
        be applied to the network.
        """
        path = cache_dir() / "points" / f"{self._key(aim)}.json"
        try:
            return Answer(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            pass
        self._ruler.announce()
        with bar(f"looking for {aim}", PROBES) as advance:
            answer = self._bisect(aim, advance)
        write_atomically(path, json.dumps(asdict(answer)).encode())
        return answer

    def _bisect(self, aim: Aim, advance: Advance) -> Answer:
        """Search with rough clusterings first, because only the number of clusters decides a size; check the result."""
        answer = self._narrow(aim, advance, rough=True)
        if answer.missed or aim.point.is_met(self.ratio(parse(answer.setting)[0], aim.point.measure)):
            return answer
        return self._narrow(aim, advance, rough=False)

    def _narrow(self, aim: Aim, advance: Advance, rough: bool) -> Answer:
        low, high = 0.0, 1.0
        ratios: dict[float, float] = {}
        for _ in range(PROBES):
            progress = _next(aim, low, high, ratios)
            if progress is None:
                break
            value = aim.value(progress)
            ratio = ratios[value] = self.ratio(aim.at(value), aim.point.measure, rough)
            advance(1)
            if aim.point.is_met(ratio):
                return Answer(str(aim.at(value)), ratio)
            low, high = (progress, high) if ratio < aim.point.target else (low, progress)
        return Answer(missed=_missed(aim, aim.value(low), aim.value(high), ratios))

    def ratio(self, setting: Pipeline, measure: str, rough: bool = False) -> float:
        """Dense / compressed, for the network that `setting` gives without training, ranked on `IMAGES` images."""
        key = (str(setting), measure, rough)
        if key not in self._ratios:
            guard = Guard(self._ruler)
            with seeded(0), guard, roughly() if rough else nullcontext():
                model = setting.compress(self._ruler.fresh_model(), self._ruler.glancing_lab(IMAGES)).eval()
                self._ratios[key] = self._ruler.gain(model, measure)
            if guard.changes:
                raise BenchError(f"{setting} changed what other trials share: {guard.changes}")
        return self._ratios[key]

    def _key(self, aim: Aim) -> str:
        """A digest of everything that the answer depends on."""
        task = self._ruler.task
        stages = [
            {name: value for name, value in stage.items() if (index, name) != (aim.stage, aim.option)}
            for index, stage in enumerate(aim.setting.options)
        ]
        strength = aim.setting.stages[aim.stage].strength
        sources = [source_digest(type(stage)) for stage in aim.setting.nested]
        of = [task.name, task.source, task.digest, task.dataset.digest, task.preprocessing.size]
        parts = [stages, str(strength), sources, str(aim.point), *of, TOLERANCE, IMAGES, _code()]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _code() -> str:
    """Digest of the harness's code that decides what a setting stores; the methods' own code is not included."""
    digest = hashlib.sha256()
    for package in ("clustering", "encodings", "networks", "pruning"):
        files = (file for file in resources.files(f"bench.{package}").iterdir() if file.name.endswith(".py"))
        for file in sorted(files, key=lambda file: file.name):
            digest.update(code(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def _next(aim: Aim, low: float, high: float, ratios: Mapping[float, float]) -> float | None:
    """Where to look next, from 0 to 1; None if every value from `low` to `high` was tried.

    After the middle of the whole range comes the end on the target's side, which shows whether the target can be
    reached. From then on, the next guess is where a straight line through the logarithms of the ratios at both ends
    meets the target.
    """
    ends = {aim.value(low): low, aim.value(high): high}
    untried = next((end for value, end in ends.items() if value not in ratios), None)
    if ratios and untried is not None:
        return untried
    first, last = (ratios.get(value, 0.0) for value in (aim.value(low), aim.value(high)))
    middle = (low + high) / 2
    if 0 < first < last:
        share = log(aim.point.target / first) / log(last / first)
        guess = low + min(max(share, 0.1), 0.9) * (high - low)
        middle = middle if aim.value(guess) in ends else guess
    return None if aim.value(middle) in ends else middle


def _missed(aim: Aim, weaker: float, stronger: float, ratios: Mapping[float, float]) -> str:
    """How close the method gets, in words; there is no value between the two."""
    less, more = ratios[weaker], ratios[stronger]
    if less > aim.point.target:
        return f"{aim}: even its weakest value, {aim.option}={weaker:g}, gives {less:.2f}x"
    if more < aim.point.target:
        return f"{aim}: it reaches {more:.2f}x at most, with {aim.option}={stronger:g}"
    return (
        f"{aim}: {aim.option}={weaker:g} gives {less:.2f}x and {aim.option}={stronger:g} {more:.2f}x, nothing between"
    )
