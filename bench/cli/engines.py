"""What runs the trials of a command: this process, several processes, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from bench.system.errors import BadArgument, BenchError

if TYPE_CHECKING:
    from bench.trials.units import Engine


@contextmanager
def engine_of(jobs: int, ray: str | None, device: str, *, idle: bool = False) -> Iterator[Engine | None]:
    """The engine of `--jobs` or `--ray`, None without them. A Ray cluster is left when the block ends; for a command
    that runs nothing (`idle`) there is none.

    Enter it before plans are made: the number of threads, which identifies a trial, is set here.
    """
    if ray is not None:
        check_ray(jobs, ray)
    if ray is not None and not idle:
        from bench.system.environment import select_device
        from bench.trials.ray_cluster import RayCluster

        with RayCluster(ray, gpu=select_device(device).type == "cuda") as cluster:
            yield cluster
    elif jobs > 1:
        from bench.trials.processes import sharing_threads

        yield sharing_threads(jobs, spread_gpus=device in ("auto", "cuda"))
    else:
        yield None


def check_ray(jobs: int, ray: str) -> None:
    """BenchError where Ray is not installed, and for `--jobs` beside it."""
    if jobs > 1:
        raise BenchError(f"--jobs {jobs} with --ray: Ray runs as many trials as there is room for; use one of the two")
    if find_spec("ray") is None:
        raise BadArgument("ray", ray, "Ray is not installed; it is the extra [ray]: pip install '.[ray]' in the clone")
