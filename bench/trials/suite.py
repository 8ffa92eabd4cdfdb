"""Suites: YAML files that name many trials.

    defaults: {dataset: fashion-mnist, epochs: 0.05}
    runs:
      - models: resnet20
        methods: [tic(k=64), kse(G=4), l1(rate=0.5)+tic(k=128)]
      - models: [resnet56, vgg16_cifar]
        dataset: [cifar10, cifar100]
        methods: tic(k=64), kse
        seeds: 3

Each run holds the options of one `bench run` by name; models, methods and datasets are one name or a list. Methods may
be sweeps, such as `l1(rate=0.1..0.9/0.2)`; those with square brackets need quotes in a list of YAML's own:
`['tic(k=[16, 32])', kse]`. `epochs` is a number, a range such as `0..8/2`, or a list of them. Options that a run leaves
out come from `defaults`, or else from the defaults of the command line; models and methods have no such default. Paths
are relative to the folder in which `bench` is started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench.data.held_out import PREFIX
from bench.networks import zoo
from bench.plugins.ranges import read_range
from bench.plugins.registry import datasets, look_up
from bench.plugins.setting import parse, with_dense
from bench.plugins.sweeps import MOST
from bench.records.rules import AttackDistance, AttackImages, Epochs, ImageSize, SeedCount
from bench.system.errors import BadArgument, BenchError
from bench.system.text import did_you_mean, has_surrogate, shown
from bench.trials.plan import Plan
from bench.trials.points import parse_points
from bench.trials.suite_file import SuiteFile


def _usable(text: str) -> str:
    """A name or path without a NUL character and without lone surrogates."""
    if "\0" in text or has_surrogate(text):
        raise ValueError("expected text without a NUL character and without a lone surrogate (half a character)")
    return text


def _budgets(value: object) -> object:
    """A list of numbers, with those of each range."""
    each: list[object] = []
    for item in value if isinstance(value, list) else [value]:
        found = read_range(item) if isinstance(item, str) else None
        if found is not None and found.count > MOST:
            raise ValueError(f"{found.count:,} budgets, at most {MOST:,} are taken; widen the step")
        each += [item] if found is None else map(float, found.values)
    return each


Text = Annotated[str, AfterValidator(_usable)]
OneOrMore = Annotated[list[Text], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Budgets = Annotated[list[Epochs], Field(min_length=1), BeforeValidator(_budgets)]
EXPECTED = {
    "model_type": "expected names with values, as in 'models: resnet20'",
    "list_type": "expected a list",
    "too_short": "expected at least one",
    "string_type": "expected text",
    "float_type": "expected a number, as in 0.05",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "missing": "there is none",
}
"""Messages by pydantic's type of error. They replace pydantic's own, which are meant for programmers."""


class Run(BaseModel):
    """The options of one `bench run`, by their names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    methods: OneOrMore = []
    models: OneOrMore = []
    at: OneOrMore = []
    dataset: OneOrMore = [Plan.dataset]
    data_root: Text | None = None
    weights: Text = Plan.weights
    image_size: ImageSize | None = None
    epochs: Budgets = [Plan.epochs]
    seeds: SeedCount = len(Plan.seeds)
    attack: AttackImages = Plan.attack
    attack_distance: AttackDistance = Plan.attack_distance
    recalibrate: bool = Plan.recalibrate


class Suite(BaseModel):
    """The content of a suite file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    defaults: Run = Run()
    runs: Annotated[list[Run], Field(min_length=1)]


def load_suite(
    path: Path,
    *,
    device: torch.device,
    data_root: Path | None = None,
    command: str = "",
    runtimes: Sequence[str] = Plan.runtimes,
) -> list[Plan]:
    """One plan for each run and dataset, each with the dense network. A BenchError names the line of a mistake.

    A `data_root` given here replaces the file's, because the place of the data depends on the machine. So do the
    `runtimes`, which a file does not set.
    """
    file = SuiteFile(path)
    suite = _checked(file)
    return [
        replace(
            plan,
            device=device,
            data_root=data_root or plan.data_root,
            command=command,
            suite=path.name,
            runtimes=runtimes,
        )
        for index, run in enumerate(suite.runs)
        for plan in _plans(file, suite.defaults, run, index)
    ]


def _plans(file: SuiteFile, defaults: Run, run: Run, index: int) -> list[Plan]:
    merged = defaults.model_copy(update={name: getattr(run, name) for name in run.model_fields_set})

    def place(name: str) -> str:
        return file.place(("runs", index, name) if name in run.model_fields_set else ("defaults", name))

    for name in ("methods", "models", "dataset"):
        if not getattr(merged, name):
            raise BenchError(f"{file.place(('runs', index))}: neither this run nor the defaults name any {name}")
    for model in merged.models:
        zoo.check_name(model, place("models"))
    for spec in merged.dataset:
        look_up(spec.removeprefix(f"{PREFIX}:").partition(":")[0], datasets(), "dataset", place("dataset"))
    try:
        points = parse_points(merged.at)
    except BadArgument as error:
        raise BenchError(f"{place('at')}: {error.value}: {error.problem}") from None
    plan = Plan(
        # Joined again, because YAML splits [tic(k=64, transforms=8)] at the comma.
        settings=with_dense(parse(", ".join(merged.methods), place("methods"))),
        models=list(dict.fromkeys(merged.models)),
        data_root=Path(merged.data_root) if merged.data_root else None,
        weights=merged.weights,
        image_size=merged.image_size,
        seeds=range(merged.seeds),
        at=points,
        attack=merged.attack,
        attack_distance=merged.attack_distance,
        recalibrate=merged.recalibrate,
    )
    epochs = list(dict.fromkeys(merged.epochs))
    # With several budgets, each model is a plan of its own, so that it is opened once for all of them.
    models = [plan.models] if len(epochs) == 1 else [[model] for model in plan.models]
    return [
        replace(plan, dataset=spec, models=some, epochs=budget)
        for spec in dict.fromkeys(merged.dataset)
        for some in models
        for budget in epochs
    ]


def _checked(file: SuiteFile) -> Suite:
    """The file's content as a suite. Raises BenchError with the first mistake in it."""
    try:
        return Suite.model_validate(file.content)
    except ValidationError as error:
        # An unknown name comes before a missing one, because it is often a misspelling of it.
        first = min(error.errors(), key=lambda item: item["type"] == "missing")
        raise BenchError(f"{file.place(first['loc'])}: {_reason(first)}") from None


def _reason(error: Any) -> str:
    """What is wrong, in one line."""
    names = [step for step in error["loc"] if isinstance(step, str)]
    if error["type"] in ("extra_forbidden", "invalid_key"):
        name, known = str(error["loc"][-1]), (Suite if len(error["loc"]) == 1 else Run).model_fields
        return f"there is no {shown(name)}{did_you_mean(name, known)}"
    value = "" if error["type"] == "missing" else f" {shown(error['input'])}"
    message = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"{names[-1] if names else 'a name'}{value}: {EXPECTED.get(error['type'], message.splitlines()[0])}"
