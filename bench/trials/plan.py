"""Plans: which trials to run; and their parts, each opened when its turn comes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
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
from bench.trials.points import Point, Search, aims_of
from bench.trials.ruler import Ruler
from bench.trials.task import Task
from bench.trials.trial import Trial


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
    device: torch.device = torch.device("cpu")
    command: str = ""
    suite: str = ""
    """The name of the suite file that the plan comes from, if any."""
    at: Sequence[Point] = ()
    """Operating points. Each setting is run once for each of them, with the strength that reaches it."""
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

    @property
    def expected(self) -> list[tuple[str, int]]:
        """The title and the seed of each trial of one model, before settings for operating points are chosen."""
        if not self.at:
            named = [(str(setting), seed) for setting, seed in self.pairs]
        else:
            named = [("none", self.seeds[0]) for setting in self.settings if str(setting) == "none"]
            named += [(str(aim), seed) for aim in aims_of(self.settings, self.at) for seed in self.seeds]
        return [each for each in named for _ in dict.fromkeys((DEFAULT, *self.runtimes))]

    @property
    def pairs(self) -> list[tuple[Pipeline, int]]:
        """Every setting with every seed.

        The dense network that is not trained gets only one seed, because the seed decides nothing but which images its
        statistics are re-estimated from.
        """
        return [
            (setting, seed)
            for setting in self.settings
            for seed in (self.seeds[:1] if str(setting) == "none" else self.seeds)
        ]

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
        return shlex.join(["bench", "run", *words, *([] if self.recalibrate else ["--no-recalibrate"])])

    def trials(self, task: Task) -> list[Trial]:
        """Every pair of setting and seed on one model. An attack on more test images than there are takes all."""
        images = min(self.attack, len(task.dataset.split("test"))) if self.attack else 0
        attack = Attack(images, self.attack_distance) if images else None
        return [
            Trial(task, setting, seed, self.epochs, self.device, attack, self.recalibrate, runtime)
            for setting, seed in self.pairs
            for runtime in dict.fromkeys((DEFAULT, *self.runtimes))
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

    @property
    def trials(self) -> list[Trial]:
        return self.plan.trials(self.ruler.task) if self.ruler else []


def check_models(plans: Sequence[Plan]) -> None:
    """BenchError for a model name that no network has."""
    for plan in plans:
        for name in plan.models:
            if not isinstance(name, Handed):
                zoo.check_name(name)


def at_points(plan: Plan, ruler: Ruler) -> Opened:
    """The plan in which each operating point is replaced by the setting that reaches it, each setting once."""
    search, settings = Search(ruler), {str(setting): setting for setting in plan.settings if str(setting) == "none"}
    families, missed, errors = {}, [], []
    for aim in aims_of(plan.settings, plan.at):
        try:
            answer = search.find(aim)
        except SpoiledProcess:
            raise
        except BenchError as error:
            errors.append(f"{aim}: {error}")
            continue
        if answer.missed:
            missed.append(answer.missed)
        else:
            settings.setdefault(answer.setting, parse(answer.setting)[0])
            families[answer.setting] = aim.family
    concrete = replace(plan, settings=list(settings.values()), families=families, at=()) if settings else None
    return Opened(concrete or plan, ruler.task.name, ruler if concrete else None, missed=missed, errors=errors)


def open_plans(plans: Sequence[Plan], *, train: bool = True) -> Iterator[Opened]:
    """Each model of each plan in turn. What cannot be opened is a `problem`, or is raised if nothing else is asked for.

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
        self, name: str | Handed, spec: str, root: Path | None, weights: str, size: int | None, device: torch.device
    ) -> Ruler | None:
        dataset = self._dataset_of(spec, root)
        if not self._train and needs_training(name, dataset, weights, size):
            return None
        return Ruler(load_task(name, dataset, weights, device, size), device)

    def open(self, plans: Sequence[Plan]) -> Iterator[Opened]:
        """`open_plans`, with what an earlier call has left."""
        for plan in plans:
            try:
                self._dataset_of(plan.dataset, plan.data_root)
            except (BenchError, OSError) as error:
                if len(plans) == 1:
                    raise
                yield from (Opened(plan, str(name), None, str(error)) for name in plan.models)
                continue
            for name in plan.models:
                yield self._open(plan, name, alone=len(plans) == 1)

    def _open(self, plan: Plan, name: str | Handed, alone: bool) -> Opened:
        ruler, problem = None, ""
        try:
            ruler = self._ruler_of(name, plan.dataset, plan.data_root, plan.weights, plan.image_size, plan.device)
        except SpoiledProcess:  # no other model can be measured either
            raise
        except BenchError as error:
            if alone and len(plan.models) == 1:
                raise
            problem = f"{name if alone else f'{name} on {plan.dataset}'}: {error}"
        return at_points(plan, ruler) if ruler and plan.at else Opened(plan, str(name), ruler, problem)
