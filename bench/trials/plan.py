"""Plans: which trials to run; and their parts, each opened when its turn comes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bench.deploying.runtimes import DEFAULT, check_runtimes
from bench.isolation.snapshot import SpoiledProcess
from bench.measuring.robustness import Attack
from bench.networks import zoo
from bench.networks.own import Handed
from bench.plugins.registry import open_dataset
from bench.plugins.setting import Pipeline, parse
from bench.records.rules import AttackDistance, AttackImages, Epochs, ImageSize, Seed, check
from bench.system.errors import BadArgument, BenchError
from bench.trials.baseline import load_task, needs_training
from bench.trials.lent import Lent
from bench.trials.points import Aim, Answer, Point, Search, aims_of
from bench.trials.ruler import Ruler
from bench.trials.shards import WHOLE, Shard
from bench.trials.task import Task
from bench.trials.trial import Trial

Wanted = tuple[Pipeline | Aim, int]
"""A setting, or an aim for which one is to be found, and a seed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which trials to run: every model x setting x seed on one dataset.

    A model is a name, or a network that is passed as a module. `weights` is auto, pretrained, scratch or a file. A
    value that cannot be run raises BadArgument when the plan is made.
    """

    settings: Sequence[Pipeline]
    models: Sequence[str | Handed]
    dataset: str = "fashion-mnist"
    data_root: Path | None = None
    weights: str = "auto"
    image_size: ImageSize | None = None
    """Height and width of the images in pixels. None: for photographs the size that the network was trained with, for
    small images their own."""
    epochs: Epochs = 1
    seeds: Sequence[Seed] = (0,)
    attack: AttackImages = 0
    """Test images to attack; none by default."""
    attack_distance: AttackDistance = 8
    runtimes: Sequence[str] = (DEFAULT,)
    """What executes the networks; torch is always among them, because it trains and tests them."""
    recalibrate: bool = True
    """Whether batch-norm statistics are re-estimated if training has not settled them; papers do not do this."""
    timed: bool = True
    """Whether latency and throughput are measured."""
    device: torch.device = torch.device("cpu")
    command: str = ""
    suite: str = ""
    """The name of the suite file that the plan comes from, if any."""
    at: Sequence[Point] = ()
    """Operating points. Each setting is run once for each of them, with the strength that reaches it."""
    shard: Shard = WHOLE
    """The part of the trials that is run here."""
    families: Mapping[str, str] = field(default_factory=dict)
    """By setting, for those whose strength was chosen for an operating point: the setting without its strength."""

    def __post_init__(self) -> None:
        check("epochs", self.epochs, Epochs)
        check("attack", self.attack, AttackImages)
        check("attack_distance", self.attack_distance, AttackDistance)
        _check_list("settings", self.settings, Pipeline, "pipelines, as bench.plugins.setting.parse makes them")
        if self.image_size is not None:
            check("image_size", self.image_size, ImageSize)
        _check_list("models", self.models, (str, Handed), "names of networks")
        _check_list("seeds", self.seeds, int, "whole numbers, as in (0, 1, 2)")
        for seed in self.seeds:
            check("seeds", seed, Seed)
        if self.at:
            _check_list("at", self.at, Point, "operating points, as in Point('size', 4)")
        aims_of(self.settings, self.at)
        if not isinstance(self.device, torch.device):
            raise BadArgument("device", self.device, "expected a torch.device, as torch.device('cpu')")
        _check_list("runtimes", self.runtimes, str, "names of runtimes")
        check_runtimes(list(self.runtimes), self.device)
        if not self.timed and len(self.all_runtimes) > 1:
            raise BadArgument("timed", self.timed, f"{', '.join(self.runtimes)}: another runtime is only timed")

    def wanted(self, model: str | Handed) -> list[Wanted]:
        """Every setting of this shard with its seed, or with `at` every aim, before the setting that meets it is found.

        The unchanged dense network gets one seed: chance only chooses the images that its statistics are re-estimated
        from. It goes with whatever else of its network the shard holds.
        """
        aims = aims_of(self.settings, self.at)
        asked = [setting for setting in self.settings if not aims or str(setting) == "none"] + aims
        pairs = [(each, seed) for each in asked for seed in (self.seeds[:1] if str(each) == "none" else self.seeds)]
        if self.shard.is_whole:
            return pairs
        held = [
            str(each) != "none" and self.shard.holds(str(model), self.dataset, str(each), self.epochs, seed)
            for each, seed in pairs
        ]
        alone = all(str(each) == "none" for each, _ in pairs)
        dense = self.shard.holds(str(model), self.dataset, "none", self.epochs, 0) if alone else any(held)
        return [pair for pair, ours in zip(pairs, held, strict=True) if ours or (dense and str(pair[0]) == "none")]

    def expected(self, model: str | Handed) -> int:
        """How many trials of this model there are."""
        return len(self.wanted(model)) * len(self.all_runtimes)

    @property
    def all_runtimes(self) -> list[str]:
        """Each runtime once; torch first."""
        return list(dict.fromkeys((DEFAULT, *self.runtimes)))

    def command_for(self, trial: Trial) -> str:
        """The command that runs this setting alone, with every seed up to this one.

        For a network that was passed as a module, it is a call in Python, in which `net` stands for the network.
        """
        if trial.task.handed:
            size = f", image_size={self.image_size}" if self.image_size else ""
            of = f"{str(trial.setting)!r}, {{{trial.task.name!r}: net}}, {self.dataset!r}"
            return f"bench.run({of}, weights={self.weights!r}{size}, epochs={self.epochs:g}, seeds={trial.seed + 1})"
        options = {
            "--methods": trial.setting,
            "--models": trial.task.name,
            "--dataset": self.dataset,
            "--data-root": self.data_root,
            "--weights": self.weights,
            "--image-size": self.image_size,
            "--epochs": f"{self.epochs:g}",
            "--seeds": trial.seed + 1,
            "--attack": self.attack or None,
            "--attack-distance": self.attack_distance if self.attack else None,
            "--device": self.device.type,
            "--runtime": trial.runtime if trial.runtime != DEFAULT else None,
        }
        words = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
        switches = {"--no-recalibrate": not self.recalibrate, "--no-timing": not self.timed}
        return shlex.join(["bench", "run", *words, *(name for name, given in switches.items() if given)])

    def trials(self, task: Task, pairs: Iterable[Wanted]) -> list[Trial]:
        """Settings with their seeds on one of the models. An attack on more test images than there are takes all."""
        images = min(self.attack, len(task.dataset.split("test"))) if self.attack else 0
        attack = Attack(images, self.attack_distance) if images else None
        return [
            Trial(task, setting, seed, self.epochs, self.device, attack, self.recalibrate, runtime, self.timed)
            for setting, seed in pairs
            if isinstance(setting, Pipeline)
            for runtime in self.all_runtimes
        ]


def _check_list(argument: str, values: Any, kind: type | tuple[type, ...], wanted: str) -> None:
    try:
        fits = not isinstance(values, str) and len(values) > 0 and all(isinstance(value, kind) for value in values)
    except TypeError:  # neither a length nor elements
        fits = False
    if not fits:
        raise BadArgument(argument, values, f"expected a list of {wanted}")


@dataclass(frozen=True)
class Opened:
    """A part of a plan: one model on its dataset, ready to be measured, or the problem that prevents it."""

    plan: Plan
    model: str
    ruler: Ruler | None
    """None if there is a problem, or if a baseline would have to be trained but may not be."""
    problem: str = ""
    missed: Sequence[str] = ()
    """Operating points that a method cannot reach on this model, and how close it gets."""
    errors: Sequence[str] = ()
    """Settings that failed during the search for an operating point."""
    pairs: Sequence[Wanted] = ()
    """What is to be run, with seeds; aims if there is no ruler."""

    @property
    def trials(self) -> list[Trial]:
        return self.plan.trials(self.ruler.task, self.pairs) if self.ruler else []

    @property
    def names(self) -> list[tuple[str, int]]:
        """What each trial is called, with its seed; also where it cannot be opened."""
        return [(str(each), seed) for each, seed in self.pairs for _ in self.plan.all_runtimes]


def check_models(plans: Sequence[Plan]) -> None:
    """BenchError for a model name that no network has."""
    for plan in plans:
        for name in plan.models:
            if not isinstance(name, Handed):
                zoo.check_name(name)


def at_points(plan: Plan, model: str | Handed, ruler: Ruler) -> Opened:
    """The plan in which each operating point is replaced by the setting that reaches it, each setting once."""
    search, found = Search(ruler), dict[tuple[str, int], tuple[Pipeline, int]]()
    answers: dict[str, Answer | None] = {}
    families, missed, errors = {}, [], []
    for each, seed in plan.wanted(model):
        if isinstance(each, Pipeline):  # the dense network
            found[str(each), seed] = each, seed
            continue
        if str(each) not in answers:
            answers[str(each)] = None
            try:
                answers[str(each)] = search.find(each)
            except SpoiledProcess:
                raise
            except BenchError as error:
                errors.append(f"{each}: {error}")
        answer = answers[str(each)]
        if answer is None:
            continue
        if answer.missed:
            missed.append(answer.missed)
        else:
            found.setdefault((answer.setting, seed), (parse(answer.setting)[0], seed))
            families[answer.setting] = each.family
    settings = [setting for setting, _ in found.values()]
    concrete = replace(plan, settings=settings, families=families, at=()) if settings else None
    opened = Opened(concrete or plan, ruler.task.name, ruler if concrete else None, pairs=list(found.values()))
    return replace(opened, missed=list(dict.fromkeys(missed)), errors=errors)


def open_plans(plans: Sequence[Plan], *, train: bool = True) -> Iterator[Opened]:
    """Each model of each plan in turn, if the shard has trials of it.

    What cannot be opened is a `problem`, or is raised if nothing else is asked for.

    Without `train`, no baseline is trained.
    """
    return Opener(train=train).open(plans)


class Opener:
    """Opens plans. Consecutive parts often share a dataset or a model, so the latest of each is kept."""

    def __init__(self, *, train: bool = True) -> None:
        self._train = train
        self._dataset_of = lru_cache(maxsize=1)(open_dataset)
        self._ruler_of = lru_cache(maxsize=1)(self._make_ruler)

    def _make_ruler(
        self,
        name: str | Handed,
        spec: str,
        root: Path | None,
        weights: str | Lent,
        size: int | None,
        device: torch.device,
    ) -> Ruler | None:
        dataset = self._dataset_of(spec, root)
        if not self._train and needs_training(name, dataset, weights, size):
            return None
        return Ruler(load_task(name, dataset, weights, device, size), device)

    def open(self, plans: Sequence[Plan], lent: Lent | None = None) -> Iterator[Opened]:
        """`open_plans`, with what an earlier call has left. `lent` are the weights of the only network."""
        for plan in plans:
            models = {name: pairs for name in plan.models if (pairs := plan.wanted(name))}
            try:
                if models:
                    self._dataset_of(plan.dataset, plan.data_root)
            except (BenchError, OSError) as error:
                if len(plans) == 1:
                    raise
                yield from (Opened(plan, str(name), None, str(error), pairs=pairs) for name, pairs in models.items())
                continue
            for name, pairs in models.items():
                yield self._open(plan, name, pairs, len(plans) == 1, lent)

    def _open(self, plan: Plan, name: str | Handed, pairs: Sequence[Wanted], alone: bool, lent: Lent | None) -> Opened:
        ruler, problem, weights = None, "", lent or plan.weights
        try:
            ruler = self._ruler_of(name, plan.dataset, plan.data_root, weights, plan.image_size, plan.device)
        except SpoiledProcess:  # no other model can be measured either
            raise
        except BenchError as error:
            if alone and len(plan.models) == 1:
                raise
            problem = f"{name if alone else f'{name} on {plan.dataset}'}: {error}"
        opened = at_points(plan, name, ruler) if ruler and plan.at else None
        return opened or Opened(plan, str(name), ruler, problem, pairs=pairs)
