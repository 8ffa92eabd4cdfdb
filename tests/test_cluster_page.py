"""docs/cluster.md and docs/slurm.sh: every command is run, in a folder of their own, with a loop in place of Slurm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.records.record import Record
from bench.records.store import Store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "docs" / "slurm.sh").read_text(encoding="utf-8")
TASKS = re.search(r"^#SBATCH --array=1-(\d+)$", SCRIPT, re.MULTILINE)[1]  # type: ignore[index]

SHARDS = 4
SBATCH = """#!/bin/bash
set -e
tasks=$(seq $SHARDS)
if [[ $1 == --array=* ]]; then tasks=${1#--array=}; shift; fi
for task in $tasks; do SLURM_ARRAY_TASK_ID=$task SLURM_CPUS_PER_TASK=1 bash "$@"; done
"""

BENCH = f"""#!{sys.executable}
from bench.cli.commands import main
from bench.execution import choice
from bench.measuring import latency, rounds
rounds.ROUNDS = rounds.WARM_UP_ROUNDS = choice.WARM_UP_ROUNDS = 1
choice.LOOKS, latency.LARGEST_BATCH, latency.Timing.noise = (6,), 2, []
main()
"""
"""The program, with latencies of a few rounds."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def followed(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    """The folder in which the page was followed, what it printed, and the environment of its commands."""
    folder = tmp_path_factory.mktemp("cluster")
    shutil.copytree(image_folder, folder / "photographs")
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / "suite.yaml").write_text(blocks("yaml")[0])
    (folder / "bin").mkdir()
    for name, text in {"sbatch": SBATCH, "bench": BENCH}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path,
        "BENCH_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "SHARDS": f"{SHARDS}",
    }
    commands = "\n".join(block for block in blocks("bash"))
    # The suite names the weights that the page trains after it has listed the trials.
    train = re.search(r"^bench train .*$", commands, re.MULTILINE)[0]  # type: ignore[index]
    script = f"set -e\n{train}\n{commands.replace(train, '')}"
    ran = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder, ran.stdout, environment


def trials(root: Path) -> dict[tuple[str, float], Record]:
    return {(record.setting, record.budget_epochs): record for record in Store(root).records()}


def test_the_merged_store_has_everything_that_was_asked_for(followed: tuple[Path, str, dict[str, str]]) -> None:
    folder, printed, _ = followed
    merged = trials(folder / "runs")
    assert len(merged) == 2 * 6 == len(Store(folder / "runs").records()) and "12 to run" in printed
    assert {budget for _, budget in merged} == {0, 0.2}
    assert all(record.status == "ok" for record in merged.values())
    shards = [trials(store) for store in sorted((folder / "shards").iterdir())]
    assert len(shards) == SHARDS
    for trial in merged:
        assert sum(trial in shard for shard in shards) == 1 or trial[0] == "none"
    for shard in shards:
        assert {budget for _, budget in shard} == {budget for setting, budget in shard if setting == "none"}
    assert set(trials(folder / "shared")) == set(merged), "several runs on one store"


def test_a_task_that_was_killed_is_submitted_again_alone(followed: tuple[Path, str, dict[str, str]]) -> None:
    folder, _, environment = followed
    task = next(store.name for store in sorted((folder / "shards").iterdir()) if len(Store(store).records()) > 1)
    lost = next(record for record in Store(folder / "shards" / task).records() if record.setting != "none")
    shutil.rmtree(Store(folder / "shards" / task).folder(lost.fingerprint))
    words = ["sbatch", f"--array={task}", "docs/slurm.sh", "suite.yaml"]
    ran = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert Store(folder / "shards" / task).get(lost.fingerprint) is not None
    again = subprocess.run(
        "bench merge shards/* --into runs", shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0 and "12 records, 0 copied" in again.stdout, again.stdout + again.stderr


def test_the_script_says_how_it_is_used() -> None:
    ran = subprocess.run(["bash", str(ROOT / "docs" / "slurm.sh")], capture_output=True, text=True)
    assert ran.returncode != 0 and "usage: sbatch docs/slurm.sh SUITE" in ran.stderr
    assert f"SHARDS=${{SHARDS:-{TASKS}}}" in SCRIPT
