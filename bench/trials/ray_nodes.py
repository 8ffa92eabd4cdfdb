"""The nodes of a Ray cluster: which of them can run trials, of what kind they are, and what they lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bench.system.errors import BenchError
from bench.system.progress import say
from bench.system.text import listed
from bench.trials.cluster_address import first_line
from bench.trials.kinds import Kind
from bench.trials.remote import Home, Needs

PACKAGE = "cnn-compression-bench"
ANSWER_SECONDS = 120.0
"""A node that does not answer for so long, because it is starting or overloaded, is not waited for."""

Node = Mapping[str, Any]
"""A node as Ray describes it."""


def resources(home: Home, gpu: bool) -> dict[str, int]:
    """What a trial takes: one GPU, or as many CPUs as it has threads."""
    return {"num_cpus": 1, "num_gpus": 1} if gpu else {"num_cpus": home.threads, "num_gpus": 0}


def kinds_of_nodes(home: Home, needs: Needs, gpu: bool) -> list[Kind]:
    """The kinds of the nodes that can run trials. BenchError where there is none, or one that lacks something."""
    nodes = [node for node in _nodes() if node["Alive"]]
    able = [node for node in nodes if _has_room(node["Resources"], resources(home, gpu))]
    if not able:
        raise BenchError(_no_room(nodes, home, gpu))
    if not gpu and any(node["Resources"].get("GPU") for node in nodes):
        say("note: the cluster has GPUs, which this run does not use: its device is the CPU")
    kinds, lacking = _look_at(able, home, needs, gpu)
    if lacking:
        raise BenchError(f"{'; '.join(lacking[:4])}; every node needs what there is here")
    if len(kinds) > 1:
        devices = "; ".join(sorted(kind.device for kind in kinds))
        say(f"note: the nodes are of {len(kinds)} kinds, which boards keep apart: {devices}")
    return kinds


def _look_at(nodes: Sequence[Node], home: Home, needs: Needs, gpu: bool) -> tuple[list[Kind], list[str]]:
    """The kinds of these nodes, and what some lack. A node that is lost meanwhile, or starts slowly, is passed over."""
    words = (version(PACKAGE), asdict(home), asdict(needs), "cuda" if gpu else "cpu")
    ask = ray.remote(num_cpus=0, max_calls=1 if gpu else 0)(_asked())
    asked = {ask.options(scheduling_strategy=on_node(node["NodeID"])).remote(*words): node for node in nodes}
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    kinds, lacking = dict[Kind, None](), list[str]()
    for reference in answered:
        try:
            missing, kind = ray.get(reference)
        except RayTaskError as error:
            missing, kind = [told(error)], None
        except RayError:
            continue
        node = asked[reference]
        if missing:
            lacking.append(f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}): {listed(missing, 4)}")
        elif kind is not None:
            kinds[Kind(*kind)] = None
    return list(kinds), lacking


def _nodes() -> list[Node]:
    nodes: list[Node] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _has_room(there: Mapping[str, float], wanted: Mapping[str, int]) -> bool:
    return there.get("CPU", 0) >= wanted["num_cpus"] and there.get("GPU", 0) >= wanted["num_gpus"]


def _no_room(nodes: Sequence[Node], home: Home, gpu: bool) -> str:
    if gpu:
        return "no node of the cluster has a GPU, which a trial takes here; with the device cpu it takes none"
    most = max((node["Resources"].get("CPU", 0) for node in nodes), default=0)
    return (
        f"a trial takes {home.threads} CPUs, as many as torch has threads here, and no node has more than {most:g}; "
        "OMP_NUM_THREADS sets them"
    )


def told(error: RayError) -> str:
    """What went wrong in a process, in one line; an error of the task itself without Ray's report around it."""
    cause = getattr(error, "cause", None)
    return f"{type(cause).__name__}: {first_line(cause)}" if isinstance(cause, Exception) else first_line(error)


def on_node(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _asked() -> Callable[..., tuple[list[str], tuple[str, str] | None]]:
    """What a node is asked; sent by value, because the node may lack this program."""

    def asked(
        expected: str, home: dict[str, Any], needs: dict[str, Any], device: str
    ) -> tuple[list[str], tuple[str, str] | None]:
        import os
        from importlib.metadata import PackageNotFoundError, version

        package = "cnn-compression-bench"
        try:
            there = version(package)
        except PackageNotFoundError:
            return [f"{package} is not installed"], None
        if there != expected:
            return [f"{package} {there} is installed, not {expected}"], None
        if device == "cuda":  # Ray hides the GPUs from a task that asks for none
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        from bench.trials import remote

        return remote.look(remote.Home(**home), remote.Needs(**needs), device)

    return asked


def share_of_cpus() -> int:
    """The threads of a trial that has one of the GPUs of this node."""
    here = ray.get_runtime_context().get_node_id()
    resources = next(node["Resources"] for node in _nodes() if node["NodeID"] == here)
    return max(1, int(resources.get("CPU", 1) / max(1, resources.get("GPU", 1))))
