"""`bench run --ray` on a real cluster: two nodes on this machine, of which one is lost in the middle."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.records.record import Record
from bench.records.store import Store
from tests.ray_nodes import RayNodes, command_of, environment_of
from tests.waiting import until

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

QUICK = """
from bench.execution import choice
from bench.measuring import latency, rounds
rounds.ROUNDS = rounds.WARM_UP_ROUNDS = choice.WARM_UP_ROUNDS = 1
choice.LOOKS, latency.LARGEST_BATCH, latency.Timing.noise = (6,), 2, []
"""
"""Latencies of a few rounds. The file of the network has them too, because processes of the cluster import it."""
NETWORKS = f"""{QUICK}
import os, pathlib, time
from torch import nn

class Tiny(nn.Sequential):
    def __init__(self, num_classes, in_chans=3):
        layers = [nn.Conv2d(in_chans, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Linear(8, num_classes))
"""
BENCH = f"""{QUICK}
from bench.cli.commands import main
main()
"""
SAME = ("top1", "loss", "agreement", "artifact_bytes", "macs", "params", "epochs_spent", "device", "weights")


@pytest.fixture(scope="module")
def folder(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    shutil.copytree(image_folder, folder / "ramps")
    (folder / "nets.py").write_text(NETWORKS)
    (folder / "program.py").write_text(BENCH)
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """With a folder for temporary files of its own, in which the lock of timings is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "BENCH_"))}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return kept | token | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str], folder: Path) -> Iterator[RayNodes]:
    """Nodes with a cache of their own: what was trained where the run starts is not in it."""
    nodes = RayNodes(environment | {"BENCH_CACHE": str(folder / "cache of the nodes")})
    try:
        nodes.start()
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture
def command(folder: Path, environment: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Arguments of `subprocess.run` for `bench run` in the folder."""

    def words(methods: str, *more: str) -> dict[str, Any]:
        given = ["--models", "nets.py:Tiny", "--dataset", "folder:ramps", "--epochs", "0", "--no-tracking"]
        return {
            "args": [sys.executable, "program.py", "run", "--methods", methods, *given, *more],
            "cwd": folder,
            "env": environment | {"BENCH_CACHE": str(folder / "cache")},
            "text": True,
        }

    return words


def records(root: Path) -> dict[str, Record]:
    return {f"{record.setting} {record.seed}": record for record in Store(root).records()}


@pytest.fixture
def own_ray() -> Iterator[Path]:
    """A folder for Ray's files, with a path that is short enough for its sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_node_is_lost_and_no_trial_is(
    command: Callable[..., dict[str, Any]], cluster: RayNodes, folder: Path
) -> None:
    methods = "random(rate=0.3),quantize(bits=8),l1(rate=0.3, skip=99)"
    words = command(methods, "--seeds", "3", "--ray", cluster.address, "--store", "runs")
    with subprocess.Popen(**words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        lost = cluster.nodes[1]
        until(lambda: records(folder / "runs") and lost.processes("ray::_run"))
        lost.kill()
        at_loss = len(records(folder / "runs"))
        out, said = process.communicate()
    assert process.returncode == 2, said  # one setting does not fit
    ours = records(folder / "runs")
    assert at_loss < 10 == len(ours) == len(list((folder / "runs" / "records").iterdir())), said
    assert Counter(record.status for record in ours.values()) == {"ok": 7, "failed": 3}, said
    assert said.count("training the baseline") == 1 and "Traceback" not in said, said
    assert all(
        (Store(folder / "runs").folder(each.fingerprint) / "model.safetensors").is_file()
        for each in ours.values()
        if each.status == "ok"
    )
    assert "raylet" not in said and "Ray" not in said and "nets.py:Tiny on" in out
    assert not list((folder / "runs" / ".partial").glob("*")), "no scratch folder is left"

    again = subprocess.run(
        **command(methods.rpartition(",l1")[0], "--seeds", "3", "--ray", "--store", "runs"), capture_output=True
    )
    assert again.returncode == 0 and "7 of 7 trials were recorded before" in again.stderr, again.stderr
    alone = subprocess.run(**command("random(rate=0.3)", "--seeds", "2", "--store", "alone"), capture_output=True)
    assert alone.returncode == 0, alone.stderr
    for name, record in records(folder / "alone").items():
        assert record.fingerprint == ours[name].fingerprint
        assert all(getattr(record, field) == getattr(ours[name], field) for field in SAME), name


def test_a_node_that_lacks_a_method_is_named(
    command: Callable[..., dict[str, Any]], cluster: RayNodes, folder: Path
) -> None:
    plugin = folder / "plugin" / "mine-1.0.dist-info"
    plugin.mkdir(parents=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text("[bench.methods]\nmine = mine\n")
    (plugin.parent / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom bench import Method\n\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(Method):\n"
        "    name = 'mine'\n    paper = 'none'\n\n    def compress(self, model, lab):\n        return model\n"
    )
    words = command("mine", "--ray", cluster.address, "--store", "lacking")
    words["env"] = words["env"] | {"PYTHONPATH": str(plugin.parent)}
    done = subprocess.run(**words, capture_output=True)
    assert done.returncode == 2 and not done.stdout, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("bench: ")]
    assert "node " in line and "there is no method 'mine'; every node needs what there is here" in line


def test_ctrl_c_leaves_the_cluster_free(
    command: Callable[..., dict[str, Any]], cluster: RayNodes, folder: Path
) -> None:
    words = command("random(rate=0.3)", "--ray", cluster.address, "--store", "interrupted")
    with subprocess.Popen(**words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: cluster.nodes[0].processes("ray::_run"))
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130 and "Traceback" not in said, said
    until(lambda: not cluster.nodes[0].processes("ray::_run"), 20)
    again = subprocess.run(**words, capture_output=True)
    assert again.returncode == 0 and len(records(folder / "interrupted")) == 2, again.stderr


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGKILL])
def test_a_cluster_that_the_run_started_ends_with_it(
    signalled: signal.Signals, command: Callable[..., dict[str, Any]], own_ray: Path, folder: Path
) -> None:
    words = command("random(rate=0.3)", "--ray", "--store", f"local-{signalled.name}")
    words["env"] = words["env"] | {"RAY_TMPDIR": str(own_ray)}

    def of_this_cluster(name: str) -> list[psutil.Process]:
        return [
            each for each in psutil.process_iter() if own_ray.name in environment_of(each) and name in command_of(each)
        ]

    with subprocess.Popen(**words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        until(lambda: of_this_cluster("ray::_run"))
        os.killpg(process.pid, signalled)  # as a terminal does
        said = process.communicate()[1]
    assert process.returncode == (130 if signalled == signal.SIGINT else -signal.SIGKILL), said
    assert "Traceback" not in said, said
    until(lambda: not of_this_cluster(""), 30)
