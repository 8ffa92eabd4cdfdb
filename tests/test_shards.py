"""`bench run --shard`: each trial is in one shard, everywhere the same, and a shard's board has the dense network."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bench
from bench.plugins.setting import parse, with_dense
from bench.records.store import Store
from bench.system.errors import BadArgument
from bench.trials.plan import Plan
from bench.trials.points import parse_points
from bench.trials.shards import WHOLE, Shard, parse_shard

Say = Callable[..., Any]
Named = tuple[str, str, float, str, int]

pytestmark = pytest.mark.usefixtures("quick_timing")

MANY = Plan(
    settings=with_dense(parse("tic(k=8..64/8), l1(rate=0.1..0.9/0.1), magnitude(rate=0.1..0.9/0.1)+quantize(bits=8)")),
    models=["resnet20", "resnet56"],
    epochs=2,
    seeds=range(3),
)


def trials(plan: Plan) -> list[Named]:
    return [
        (str(model), plan.dataset, plan.epochs, str(each), seed)
        for model in plan.models
        for each, seed in plan.wanted(model)
    ]


def shards(plan: Plan, count: int) -> list[list[Named]]:
    return [trials(replace(plan, shard=Shard(index, count))) for index in range(1, count + 1)]


def without_dense(named: list[Named]) -> list[Named]:
    return [trial for trial in named if trial[3] != "none"]


@pytest.mark.parametrize("count", [2, 3, 7, 16])
def test_the_shards_are_disjoint_and_together_everything(count: int) -> None:
    parts = shards(MANY, count)
    assert sorted(trial for part in parts for trial in without_dense(part)) == sorted(without_dense(trials(MANY)))
    assert {trial for part in parts for trial in part} == set(trials(MANY))


@pytest.mark.parametrize("count", [2, 4, 8])
def test_the_shards_are_about_equally_large(count: int) -> None:
    """Binomial sizes lie within four standard deviations; the seeds of a setting go to different shards."""
    sizes = [len(without_dense(part)) for part in shards(MANY, count)]
    mean = sum(sizes) / count
    assert all(abs(size - mean) < 4 * mean**0.5 for size in sizes) and mean > 15
    for part in shards(MANY, count)[:1]:
        seeds = Counter((model, setting) for model, _, _, setting, _ in without_dense(part))
        assert max(seeds.values()) <= -(-len(MANY.seeds) // count)


@given(st.permutations(range(6)), st.integers(1, 5))
def test_order_and_company_change_nothing(order: list[int], count: int) -> None:
    settings = parse("tic(k=[8,16,32]), l1(rate=[0.3,0.5]), kse")
    plan = replace(MANY, settings=settings, models=["resnet20"])
    other = replace(plan, settings=[settings[index] for index in order[:count]])
    for index in (1, 2, 3):
        whole, part = (set(trials(replace(each, shard=Shard(index, 3)))) for each in (plan, other))
        assert part == whole & set(trials(other))


def test_the_device_and_the_places_of_files_change_nothing(tmp_path: Path) -> None:
    here = replace(MANY, models=["nets.py:Net"], dataset="folder:photos", data_root=None)
    there = replace(
        MANY, models=["/home/me/code/nets.py:Net"], dataset="folder:/scratch/photos/", weights="/w.pth",
        runtimes=("torch", "compile"), command="other", suite="a.yaml", device=torch.device("meta"),
    )  # fmt: skip
    for index in (1, 2, 3):
        ours, theirs = (
            [(str(each), seed) for each, seed in replace(plan, shard=Shard(index, 3)).wanted(plan.models[0])]
            for plan in (here, there)
        )
        assert ours == theirs
    assert shards(replace(MANY, dataset="cifar10"), 2)[0] != shards(MANY, 2)[0]


def test_another_process_splits_the_same_way() -> None:
    code = (
        "from bench.trials.shards import Shard; import sys\n"
        "print(*[[Shard(i, 5).holds('resnet20', 'cifar10', f'tic(k={k})', 1, 0) for i in range(1, 6)].index(True)"
        " for k in range(40)])"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    # Fixed: a release that splits otherwise would have the stores of two releases overlap.
    assert found == {FIXED}


FIXED = "0 0 2 4 0 3 4 0 3 2 0 2 3 3 3 3 3 0 1 4 0 4 0 4 2 2 4 4 4 1 3 3 0 3 1 4 2 0 0 0\n"


def test_the_dense_network_goes_with_whatever_else_a_shard_has() -> None:
    for index, part in enumerate(shards(MANY, 5), 1):
        for model in MANY.models:
            settings = [setting for name, _, _, setting, _ in part if name == model]
            assert settings.count("none") == 1 and len(settings) > 1, index
    alone = replace(MANY, settings=parse("none"), models=["resnet20"])
    assert sorted(map(len, shards(alone, 5))) == [0, 0, 0, 0, 1]
    few = replace(MANY, settings=with_dense(parse("tic")), models=["resnet20"], seeds=(0,))
    assert Counter(trial[3] for part in shards(few, 9) for trial in part) == {"none": 1, "tic(k=64)": 1}


def test_operating_points_are_split_before_they_are_searched() -> None:
    plan = replace(MANY, settings=with_dense(parse("tic,l1,magnitude")), at=parse_points(["size=2,4,8"]))
    parts = shards(plan, 3)
    together = [trial for part in parts for trial in without_dense(part)]
    assert len(together) == len(set(together)) == 2 * 3 * 3 * 3
    assert all("at size=" in trial[3] for trial in together)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0/3", "there is no part 0; expected 1/3 to 3/3"),
        ("4/3", "there is no part 4; expected 1/3 to 3/3"),
        ("1/0", "there are 0 parts; expected I/N, as in 2/8: part I of N, counted from 1"),
        ("a/b", "expected I/N, as in 2/8: part I of N, counted from 1"),
        ("1", "expected I/N, as in 2/8: part I of N, counted from 1"),
        ("-1/3", "expected I/N"),
        ("1/3/5", "expected I/N"),
        ("1.5/3", "expected I/N"),
        ("", "expected I/N"),
        ("²/3", "expected I/N"),
        ("1/" + "9" * 5000, "expected I/N"),
        ("1/999999999", "there are 999999999 parts; expected I/N"),
    ],
)
def test_what_is_no_shard_is_one_line(text: str, told: str, bench_command: Say, tmp_path: Path) -> None:
    said = bench_command("run", "--methods", "tic", "--shard", text, "--store", tmp_path / "runs").mistake
    assert said.startswith("--shard ") and f": {told}" in said and len(said) < 400
    with pytest.raises(BadArgument, match="^shard="):
        parse_shard(text)


def test_one_part_of_one_is_everything() -> None:
    assert parse_shard(" 1 / 1 ") == WHOLE and trials(replace(MANY, shard=parse_shard("1/1"))) == trials(MANY)


def test_shards_of_a_run_and_of_a_suite_do_the_work_once(
    bench_command: Say, image_folder: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "some.yaml"
    suite.write_text(
        "runs: [{models: resnet20, weights: scratch, epochs: 0, methods: 'magnitude(rate=[0.2,0.4]),quantize(bits=8)', "
        f"dataset: 'folder:{image_folder}'}}]"
    )
    words = ["run", "--suite", suite, "--no-tracking", "--store"]
    whole = bench_command(*words, tmp_path / "one", "--dry-run")
    assert "4 to run" in whole.out
    settings: list[str] = []
    for index in (1, 2, 3):
        place = tmp_path / f"{index}"
        listed = bench_command(*words, place, "--shard", f"{index}/3", "--dry-run")
        ran = bench_command(*words, place, "--shard", f"{index}/3")
        assert (listed.code, ran.code) == (0, 0), ran
        found = [record.setting for record in Store(place).records()]
        assert sum(line.endswith("to run") for line in listed.out.splitlines()[1:-2]) == len(found)
        assert ("none" in found and "dense" in ran.out) if found else ("no trial belongs to this shard" in ran.err)
        settings += [setting for setting in found if setting != "none"]
    assert sorted(settings) == ["magnitude(rate=0.2)", "magnitude(rate=0.4)", "quantize(bits=8)"]


def test_a_shard_in_python(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = [
        bench.run("quantize(bits=8)", "resnet20", image_folder, weights="scratch", epochs=0, shard=f"{index}/2")
        for index in (1, 2)
    ]
    assert sorted(len(frame) for frame in frames) in ([0, 2], [1, 2])
    assert {setting for frame in frames for setting in frame["setting"]} == {"none", "quantize(bits=8)"}
