"""A fingerprint follows from what a record keeps of its trial."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measuring.robustness import Attack
from bench.plugins.registry import open_dataset
from bench.plugins.setting import parse
from bench.records.identity import OPTIONAL, PARTS, fingerprint_of, identity_in
from bench.records.record import Record
from bench.trials.baseline import load_task
from bench.trials.trial import Trial

CPU = torch.device("cpu")


@pytest.fixture
def trial(image_folder: Path) -> Trial:
    task = load_task("resnet20", open_dataset(f"folder:{image_folder}"), "scratch", CPU)
    return Trial(task, parse("l1(skip=(1, 2))+scratch(of=tic(k=4))")[0], 0, 0.1, CPU)


@pytest.mark.parametrize("changes", [{}, {"attack": Attack(4)}, {"runtime": "compile"}])
def test_every_part_of_it_is_known_and_a_record_gives_it_again(changes: dict[str, Any], trial: Trial) -> None:
    trial = replace(trial, **changes)
    assert trial.identity.keys() <= set(PARTS) and set(PARTS) - set(OPTIONAL) <= trial.identity.keys()
    record = Record.from_json(trial.blank("bench run").to_json())
    assert fingerprint_of(identity_in(record.config)) == record.fingerprint == trial.fingerprint
    assert identity_in(record.config) == json.loads(json.dumps(trial.identity, default=str))


def test_committed_fingerprints_follow_from_their_records() -> None:
    paths = list((Path(__file__).parents[1] / "results").glob("*/records/*/record.json"))
    assert paths
    for path in paths:
        record = Record.from_json(path.read_text())
        assert fingerprint_of(identity_in(record.config)) == record.fingerprint == path.parent.name
