"""Suites: files of many trials, and what each word in them means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from bench.trials import suite as suites
from bench.trials.run import Plan
from bench.trials.suite import load_suite

from .written_suites import load, settings
from .written_suites import write as write

ROOT = Path(__file__).parents[1]

Write = Callable[[str], Path]

pytestmark = pytest.mark.usefixtures("quick_timing")


def test_every_word_of_a_run_reaches_its_plan(write: Write) -> None:
    path = write("""
        runs:
          - models: [resnet56, vgg16_cifar]
            dataset: [cifar10, "folder:/data/a, b"]
            data_root: /data
            methods: [tic(k=64), l1(rate=0.5)+tic]
            weights: scratch
            epochs: 2.5
            seeds: 3
            attack: 200
    """)
    first, second = load(path)
    assert (first.dataset, second.dataset) == ("cifar10", "folder:/data/a, b")
    for plan in (first, second):
        assert settings(plan) == ["none", "tic(k=64)", "l1(rate=0.5)+tic(k=64)"]
        assert plan.models == ["resnet56", "vgg16_cifar"] and plan.data_root == Path("/data")
        assert (plan.weights, plan.epochs, list(plan.seeds), plan.attack) == ("scratch", 2.5, [0, 1, 2], 200)
        assert (plan.suite, plan.command) == ("some.yaml", "bench run --suite some.yaml")


def test_what_is_left_out_is_as_on_the_command_line(write: Write) -> None:
    (plan,) = load(write("runs: [{models: resnet20, methods: tic}]"))
    plain = Plan(settings=plan.settings, models=["resnet20"])
    names = ("dataset", "data_root", "weights", "epochs", "attack", "models")
    assert all(getattr(plan, name) == getattr(plain, name) for name in names)
    assert list(plan.seeds) == list(plain.seeds) == [0]


def test_a_run_goes_before_the_defaults(write: Write) -> None:
    path = write("""
        defaults: {models: resnet20, methods: tic, epochs: 0.05, seeds: 2, data_root: /data}
        runs:
          - {}
          - {methods: kse, epochs: 0, data_root: null}
          - {models: [resnet32, resnet32]}
    """)
    first, second, third = load(path)
    assert settings(first) == ["none", "tic(k=64)"] and settings(second) == ["none", "kse(G=4)"]
    assert (first.epochs, second.epochs, third.epochs) == (0.05, 0, 0.05)
    assert (first.data_root, second.data_root) == (Path("/data"), None)
    assert third.models == ["resnet32"] and len(third.seeds) == 2


@pytest.mark.parametrize(
    "methods",
    [
        "[tic(k=64, transforms=4), kse, l1(rate=0.5)+tic(k=8, transforms=1)]",
        "tic(k=64, transforms=4), kse, l1(rate=0.5)+tic(k=8, transforms=1)",
        "\n  - tic(k=64, transforms=4)\n  - kse, l1(rate=0.5)+tic(k=8, transforms=1)",
        "['tic(k=64, transforms=4)', kse(), none, 'l1(rate=0.5) + tic(k=8, transforms=1)']",
    ],
)
def test_settings_are_written_as_on_the_command_line(methods: str, write: Write) -> None:
    (plan,) = load(write(f"runs:\n- models: resnet20\n  methods: {methods}"))
    expected = ["tic(k=64, transforms=4)", "kse(G=4)", "l1(rate=0.5)+tic(k=8, transforms=1)"]
    assert settings(plan) == ["none", *expected]


def test_where_data_lies_is_the_machines_affair(write: Write) -> None:
    path = write("runs: [{models: resnet20, methods: tic}, {models: resnet20, methods: tic, data_root: /data}]")
    plans = load_suite(path, device=torch.device("cpu"), data_root=Path("/mnt"))
    assert [plan.data_root for plan in plans] == [Path("/mnt")] * 2
    assert [plan.data_root for plan in load(path)] == [None, Path("/data")]


def test_the_suite_of_continuous_integration_names_every_method_that_there_is() -> None:
    from bench.plugins.registry import methods

    plans = load(ROOT / "results" / "ci.yaml")
    named = {stage.name for plan in plans for setting in plan.settings for stage in setting.stages}
    assert named == {name for name, kind in methods().items() if kind.__module__.startswith("bench_methods")}
    assert {plan.dataset for plan in plans} == {"fashion-mnist"}
    assert {name for plan in plans for name in plan.models} == {"resnet20"}, "its weights are shipped"


def test_the_example_in_the_documentation_loads(write: Write) -> None:
    example = "\n".join(line[4:] for line in suites.__doc__.splitlines() if line.startswith("    "))
    assert len(yaml.safe_load(example)["runs"]) == 2
    plans = load(write(example))
    assert [(plan.dataset, len(plan.models), len(plan.seeds)) for plan in plans] == [
        ("fashion-mnist", 1, 1), ("cifar10", 2, 3), ("cifar100", 2, 3),
    ]  # fmt: skip
    assert settings(plans[0])[-1] == "l1(rate=0.5)+tic(k=128)" and settings(plans[1]) == [
        "none",
        "tic(k=64)",
        "kse(G=4)",
    ]
