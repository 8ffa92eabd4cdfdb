"""Suites: YAML files that name many trials.

    defaults: {dataset: fashion-mnist, epochs: 0.05}
    runs:
      - models: resnet20
        methods: [tic(k=64), kse(G=4), l1(rate=0.5)+tic(k=128)]
      - models: [resnet56, vgg16_cifar]
        dataset: [cifar10, cifar100]
        methods: tic(k=64), kse
        seeds: 3

Each run says what one `bench run` would be told, in the words of its options; models, methods and datasets are one or
a list. What a run leaves out is in `defaults`; what both leave out is as on the command line, but models and methods
have to be said. Paths are relative to where `bench` is started, as there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bench.networks import zoo
from bench.plugins.registry import datasets, did_you_mean, look_up
from bench.plugins.setting import parse, with_dense
from bench.records.rules import AttackDistance, AttackImages, Epochs, SeedCount
from bench.system.errors import BenchError
from bench.trials.plan import Plan

Place = tuple[int | str, ...]
OneOrMore = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
EXPECTED = {
    "model_type": "expected names with values, as in 'models: resnet20'",
    "list_type": "expected a list",
    "too_short": "expected at least one",
    "string_type": "expected text",
    "float_type": "expected a number, as in 0.05",
    "int_type": "expected a whole number",
    "missing": "there is none",
}
"""In a user's words, where pydantic's own are a programmer's."""
SYNTAX = (yaml.scanner.ScannerError, yaml.parser.ParserError)


class Run(BaseModel):
    """What one `bench run` would be told; its options' names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    methods: OneOrMore = []
    models: OneOrMore = []
    dataset: OneOrMore = [Plan.dataset]
    data_root: str | None = None
    weights: str = Plan.weights
    epochs: Epochs = Plan.epochs
    seeds: SeedCount = len(Plan.seeds)
    attack: AttackImages = Plan.attack
    attack_distance: AttackDistance = Plan.attack_distance


class Suite(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    defaults: Run = Run()
    runs: Annotated[list[Run], Field(min_length=1)]


def load_suite(path: Path, *, device: torch.device, data_root: Path | None = None, command: str = "") -> list[Plan]:
    """A plan a run and dataset, the dense network in each. BenchError with the line where something is wrong.

    A `data_root` given here goes before the file's: where data lies is a machine's affair.
    """
    file = _File(path)
    suite = file.check()
    return [
        replace(plan, device=device, data_root=data_root or plan.data_root, command=command, suite=path.name)
        for index, run in enumerate(suite.runs)
        for plan in _plans(file, suite.defaults, run, index)
    ]


def _plans(file: _File, defaults: Run, run: Run, index: int) -> list[Plan]:
    merged = defaults.model_copy(update={name: getattr(run, name) for name in run.model_fields_set})

    def place(name: str) -> str:
        return file.place(("runs", index, name) if name in run.model_fields_set else ("defaults", name))

    for name in ("methods", "models", "dataset"):
        if not getattr(merged, name):
            raise BenchError(f"{file.place(('runs', index))}: neither this run nor the defaults name any {name}")
    for model in merged.models:
        zoo.check_name(model, place("models"))
    for spec in merged.dataset:
        look_up(spec.partition(":")[0], datasets(), "dataset", place("dataset"))
    plan = Plan(
        # Joined, for in [tic(k=64, transforms=8)] the comma is YAML's.
        settings=with_dense(parse(", ".join(merged.methods), place("methods"))),
        models=list(dict.fromkeys(merged.models)),
        data_root=Path(merged.data_root) if merged.data_root else None,
        weights=merged.weights,
        epochs=merged.epochs,
        seeds=range(merged.seeds),
        attack=merged.attack,
        attack_distance=merged.attack_distance,
    )
    return [replace(plan, dataset=spec) for spec in dict.fromkeys(merged.dataset)]


class _Loader(yaml.SafeLoader):
    """YAML wants every key of a mapping once; PyYAML would let the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in _entries(node) if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"'{key.value}' is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _File:
    """A YAML file's content, and where in it what stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            self.root = loader.get_single_node()
            self.content = loader.construct_document(self.root) if self.root else None
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            hint = "; text with : # { } [ ] in it wants quotes" if isinstance(error, SYNTAX) else ""
            raise BenchError(f"--suite {path}{line}: {error.problem}{hint}") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise BenchError(f"--suite {path}: cannot be read as YAML ({reason})") from None
        except OSError as error:
            raise BenchError(f"--suite {path}: cannot be read ({error.strerror})") from None

    def check(self) -> Suite:
        """The content as a suite; a BenchError with the first thing that is wrong in it."""
        if not isinstance(self.content, dict):
            raise BenchError(f"--suite {self.path}: no suite; it begins with 'runs:', a list of what to run")
        try:
            return Suite.model_validate(self.content)
        except ValidationError as error:
            # A name that is wrong before one that is missing: often they are the same.
            first = min(error.errors(), key=lambda item: item["type"] == "missing")
            raise BenchError(f"{self.place(first['loc'])}: {_reason(first)}") from None

    def place(self, place: Place) -> str:
        """`--suite FILE, line N`: of the last part of `place` that is there."""
        node, line = self.root, 0
        for step in place:
            found = [(key, value) for key, value in _entries(node) if key.value == step]
            if found:
                line, node = found[0][0].start_mark.line, found[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                line = node.start_mark.line
        return f"--suite {self.path}, line {line + 1}"


def _entries(node: yaml.Node | None) -> Iterable[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _reason(error: Any) -> str:
    """What is wrong, in one line."""
    if error["type"] in ("extra_forbidden", "invalid_key"):
        name, known = str(error["loc"][-1]), (Suite if len(error["loc"]) == 1 else Run).model_fields
        return f"there is no '{name}'{did_you_mean(name, known)}"
    name = [step for step in error["loc"] if isinstance(step, str)][-1]
    value = "" if error["type"] == "missing" else f" {error['input']!r:.40}"
    told = EXPECTED.get(error["type"], error["msg"].removeprefix("Input ").splitlines()[0])
    return f"{name}{value}: {told}"
