"""Which trials have their batch-norm statistics re-estimated, from what, and how records and boards tell."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas
import pytest
import torch
from pandas import DataFrame
from torch import nn

from bench import Dataset, Lab, Method, Pixels, Recipe
from bench.encodings import artifact
from bench.leaderboard.across import compare_methods
from bench.leaderboard.grouping import last_measured
from bench.leaderboard.summary import summarise
from bench.plugins import setting
from bench.plugins.setting import parse
from bench.records.record import Record
from bench.records.store import Store
from bench.training.loop import take
from bench.training.recalibration import recalibrate
from bench.trials import run as harness
from bench.trials.baseline import load_task
from bench.trials.plan import Plan
from bench.trials.recalibration import BATCHES, settle
from bench.trials.ruler import Ruler
from bench.trials.trial import PROTOCOL

pytestmark = pytest.mark.usefixtures("quick_timing")
Say = Callable[..., Any]
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Rounds(Method):
    """Trains, and rounds the weights when nobody looks any more."""

    name = "rounds"

    def compress(self, model: nn.Module, lab: Lab) -> nn.Module:
        lab.fit(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_((8 * parameter).round() / 8)
        return model


@pytest.fixture(autouse=True)
def rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**setting.methods(), "rounds": Rounds}
    monkeypatch.setattr(setting, "methods", lambda: known)


class Grey(Dataset):
    """Random images of 16x16 pixels, 45 batches of 8 to train on."""

    name = "grey"
    title = "grey"
    classes = ("a", "b")
    input_shape = (1, 16, 16)
    mean, std = (0.5,), (0.25,)
    recipe = Recipe(epochs=1, batch_size=8)

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Grey:
        return cls()

    def load(self, part: Literal["train", "test"]) -> Pixels:
        generator = torch.Generator().manual_seed(len(part))
        count = 394 if part == "train" else 20
        pixels = torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)
        return Pixels(pixels, torch.arange(count) % 2)


@pytest.fixture
def plan(image_folder: Path) -> Plan:
    return Plan(
        settings=parse("none,l1"), models=["resnet20"], dataset=f"folder:{image_folder}", weights="scratch", epochs=0
    )


def run(plan: Plan, root: Path, **changes: Any) -> dict[str, Record]:
    return {record.setting: record for record in harness.run(replace(plan, **changes), Store(root)).records}


@pytest.mark.parametrize("seed", [0, 1])
def test_all_methods_get_the_first_batches_of_the_seeds_order(seed: int) -> None:
    ruler = Ruler(load_task("resnet20", Grey(), "scratch", CPU), CPU)
    assert ruler.steps == 45 and BATCHES == 30
    batches = list(take(ruler._feed("train"), torch.Generator().manual_seed(seed), 30))
    for name in ("none", "l1", "tic(k=4)", "taylor"):
        lab = ruler.lab(0.2 if name == "taylor" else 0, seed)
        model = parse(name)[0].compress(ruler.fresh_model(), lab)
        expected = parse(name)[0].compress(ruler.fresh_model(), ruler.lab(lab.budget, seed))
        recalibrate(expected, batches)
        done = settle(model, lab, ruler, seed, wanted=True)
        assert (done.norm_statistics, done.recalibration_batches) == ("recalibrated", 30)
        assert done.epochs == pytest.approx(30 / 45)
        theirs = expected.state_dict()
        assert all(torch.equal(theirs[key], value) for key, value in model.state_dict().items()), name


@pytest.mark.parametrize(("steps", "outcome"), [(29, "recalibrated"), (30, "trained")])
def test_a_training_shorter_than_the_estimate_settles_no_statistics(steps: int, outcome: str) -> None:
    ruler = Ruler(load_task("resnet20", Grey(), "scratch", CPU), CPU)
    lab, model = ruler.lab(1, 0), ruler.fresh_model()
    lab.fit(model, steps / 45)
    assert settle(model, lab, ruler, 0, wanted=True).norm_statistics == outcome


def test_who_trained_last_is_left_alone_and_who_changed_weights_afterwards_is_not(plan: Plan, tmp_path: Path) -> None:
    records = run(plan, tmp_path, settings=parse("none,l1,none(train=True),rounds"), epochs=2)
    found = {name: (record.norm_statistics, record.recalibration_batches) for name, record in records.items()}
    assert found == {
        "none": ("recalibrated", 1),
        "l1(rate=0.5)": ("trained", 0),
        "none(train=True)": ("trained", 0),
        "rounds": ("recalibrated", 1),
    }
    assert [record.epochs_spent for record in records.values()] == [1, 2, 2, 3]
    plain = "batch-norm statistics re-estimated from 1 training batch"
    assert records["none"].notes == [plain], "paid from the budget"
    assert records["rounds"].notes[0] == f"{plain}; 1 epochs of it go beyond the budget of 2"


def test_without_a_budget_every_trial_is_granted_the_same(plan: Plan, tmp_path: Path) -> None:
    records = run(plan, tmp_path).values()
    assert {(record.norm_statistics, record.epochs_spent, record.budget_epochs) for record in records} == {
        ("recalibrated", 1, 0)
    }
    none = next(record for record in records if record.method == "none")
    assert none.top1_dense != none.top1 or none.agreement < 1, "random weights had statistics of 0 and 1"
    dense = load_task("resnet20", setting_dataset(plan), "scratch", CPU).model
    kept = artifact.load(Store(tmp_path).folder(none.fingerprint) / "model.safetensors")
    assert not torch.equal(kept.bn1.running_mean, dense.bn1.running_mean)  # type: ignore[union-attr,arg-type]
    assert torch.equal(kept.conv1.weight, dense.conv1.weight)  # type: ignore[union-attr,arg-type]


def setting_dataset(plan: Plan) -> Dataset:
    from bench.plugins.registry import open_dataset

    return open_dataset(plan.dataset)


def test_the_papers_protocol_is_told_in_records_and_never_ranked_with_the_other(plan: Plan, tmp_path: Path) -> None:
    ours, papers = run(plan, tmp_path), run(plan, tmp_path, recalibrate=False)
    none = papers["none"]
    assert (none.recalibrate, none.norm_statistics, none.recalibration_batches) == (False, "kept", 0)
    assert (none.top1, none.agreement, none.epochs_spent, none.notes) == (none.top1_dense, 1, 0, [])
    assert none.config["recalibrate"] is False and "--no-recalibrate" in shlex.split(none.config["repeat"])
    assert ours["none"].recalibrate is True and "recalibrate" not in ours["none"].config["repeat"]
    assert ours["none"].fingerprint != none.fingerprint

    frame = pandas.DataFrame([asdict(record) for record in (*ours.values(), *papers.values())])
    summary = summarise(frame)
    assert dict(summary.groupby("weights")["recalibrate"].agg(list)) == {
        "scratch": [True, True],
        "scratch, not recalibrated": [False, False],
    }
    assert list(summarise(last_measured(frame))["weights"]) == list(summary["weights"]), "told once"
    assert tasks_compared(frame) == {"scratch"}, "one mean holds one protocol"


def tasks_compared(records: DataFrame) -> set[str]:
    """The weights of the tasks in the comparison across tasks, where every task is there a second time."""
    other = records.assign(dataset="other", fingerprint=records["fingerprint"] + "o")
    (block,) = compare_methods(summarise(pandas.concat([records, other], ignore_index=True)))
    assert block.board["tasks"].eq(2).all()
    return {weights for _, _, weights in block.tasks}


def test_an_older_protocol_has_boards_of_its_own(plan: Plan, tmp_path: Path) -> None:
    new = run(plan, tmp_path).values()
    old = [
        replace(record, fingerprint=f"{record.method}{seed}", seed=seed, recalibrate=None, norm_statistics=None,
                config={**record.config, "protocol": 1, "recalibrate": None}, top1=0.0)
        for record in new for seed in (0, 1)
    ]  # fmt: skip
    both = pandas.DataFrame([asdict(record) for record in (*new, *old)])
    summary = summarise(both)
    assert PROTOCOL == 2
    assert dict(summary.groupby("weights")["protocol"].agg(list)) == {
        "scratch": [2, 2],
        "scratch (protocol 1)": [1, 1],
    }
    assert summary[summary["weights"] == "scratch"]["seeds"].tolist() == [1, 1], "no mean of two protocols"
    assert tasks_compared(both) == {"scratch"}
    alone = pandas.DataFrame([asdict(record) for record in old])
    assert set(summarise(alone)["weights"]) == tasks_compared(alone) == {"scratch"}


def test_a_dataset_without_training_images_says_what_could_not_be_done(
    plan: Plan, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(image_folder / "test", tmp_path / "data" / "test")
    records = run(plan, tmp_path / "runs", dataset=f"folder:{tmp_path / 'data'}")
    reason = (
        "the dataset has no training images, so the batch-norm statistics cannot be re-estimated; those of the dense "
        "network are used"
    )
    for record in records.values():
        assert record.status == "ok" and reason in record.notes
        assert (record.norm_statistics, record.recalibration_batches, record.epochs_spent) == ("kept", 0, 0)
    assert records["none"].agreement == 1 and capsys.readouterr().err.count(f"warning: {reason}") == 2


def test_a_network_without_batch_norm_is_left_alone(plan: Plan, tmp_path: Path) -> None:
    (record,) = run(plan, tmp_path, models=["test_nfnet"], settings=parse("none")).values()
    assert (record.norm_statistics, record.epochs_spent, record.agreement) == ("none", 0, 1)


def test_command_suite_and_dry_run_know_the_papers_protocol(
    image_folder: Path, tmp_path: Path, bench_command: Say
) -> None:
    task = ("--models", "resnet20", "--dataset", f"folder:{image_folder}", "--weights", "scratch", "--epochs", 0)
    dry = ("--store", tmp_path / "runs", "--no-tracking", "--dry-run")
    said = bench_command("run", *task, "--methods", "none", "--no-recalibrate", *dry)
    assert said.code == 0 and said.out.splitlines()[-1] == "1 to run"
    path = tmp_path / "suite.yaml"
    run = {"models": "resnet20", "methods": "none", "dataset": f"folder:{image_folder}", "weights": "scratch"}
    both = {"defaults": {"epochs": 0}, "runs": [run | {"recalibrate": False}, run]}
    path.write_text(json.dumps(both))
    said = bench_command("run", "--suite", path, *dry)
    assert said.code == 0 and said.out.splitlines()[-2] == "2 to run", "two trials, not one"
    assert "--no-recalibrate with --suite" in bench_command("run", "--suite", path, "--no-recalibrate", *dry).mistake
    path.write_text(json.dumps({"runs": [run | {"recalibrate": "no"}]}))
    assert "recalibrate 'no': expected true or false" in bench_command("run", "--suite", path, *dry).mistake
