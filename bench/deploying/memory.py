"""The peak memory of a runtime that runs a network. On a CPU it is measured in a process that does nothing else."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from bench.deploying import runtimes
from bench.networks import own_code

LONGEST_SECONDS = 600
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory_mb(network: nn.Module | bytes, runtime: str, images: Tensor) -> float | None:
    """Memory that a network takes to run on `images` [N, C, H, W], its weights included, in MB (10^6 bytes).

    On a CPU: the peak of a process of its own during the second pass, less what it held before it loaded the network,
    when its runtime had run a network of one layer. With CUDA: the most that a pass allocates, and the weights.
    `network` is the file that the runtime loads or, for torch, a network in evaluation mode without encodings.

    None if the system does not tell (on a CPU only Linux does), if the process fails, for instance because it cannot
    import the network's classes, or takes longer than `LONGEST_SECONDS`, and for a compiled network with CUDA. Call it
    within `bench.measuring.exclusive.alone`, because the process would disturb the timings of others.
    """
    if images.is_cuda:
        return _cuda_memory_mb(network, images) if isinstance(network, nn.Module) and runtime == "torch" else None
    if not (STATUS.exists() and CLEAR.exists()):
        return None
    modules = () if isinstance(network, bytes) else {type(module).__module__ for module in network.modules()}
    files = {name: own_code.file_of(name) for name in modules}
    job = {"runtime": runtime, "threads": torch.get_num_threads(), "modules": files}
    command = [sys.executable, "-P", "-m", "bench.deploying.memory", json.dumps(job)]
    try:
        sent = b"".join(map(pickle.dumps, (images, _smallest(runtime), network)))
    except Exception:  # whatever a network raises that cannot be copied
        return None
    try:
        done = subprocess.run(command, input=sent, capture_output=True, timeout=LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else float(done.stdout.split()[-1]) / 1000


@torch.inference_mode()
def _cuda_memory_mb(network: nn.Module, images: Tensor) -> float:
    tensors = [*network.parameters(), *network.buffers()]
    before = torch.cuda.memory_allocated(images.device)
    torch.cuda.reset_peak_memory_stats(images.device)
    network(images)
    activations = torch.cuda.max_memory_allocated(images.device) - before
    return (activations + sum(tensor.numel() * tensor.element_size() for tensor in tensors)) / 1e6


def _kilobytes(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 // 1000


@lru_cache
def _smallest(runtime: str) -> bytes | nn.Module:
    """A network of one layer, which makes a runtime load all of its own code."""
    return runtimes.prepare(nn.Conv2d(3, 8, 3), runtime, torch.zeros(2, 3, 8, 8)).loaded


@torch.inference_mode()
def _measure(job: dict[str, Any], parent: BinaryIO) -> int:
    """Kilobytes. Images and networks come through a pipe from the process that started this one, as they would with
    `multiprocessing`, whose processes would also run a user's script a second time."""
    torch.set_num_threads(job["threads"])
    sys.path.append(str(Path.cwd()))  # last, as where the network was imported
    for name, file in job["modules"].items():
        own_code.from_file(name, file) if file else import_module(name)
    images = pickle.load(parent)
    _started(pickle.load(parent), job)(torch.zeros(2, 3, 8, 8))
    before = _kilobytes("VmRSS")
    run = _started(pickle.load(parent), job)
    run(images)
    CLEAR.write_text("5")  # resets the peak
    run(images)
    return _kilobytes("VmHWM") - before


def _started(network: Any, job: dict[str, Any]) -> runtimes.Network:
    runtime = job["runtime"]
    if runtime in runtimes.LOADERS:
        return runtimes.LOADERS[runtime](network, job["threads"])
    made: runtimes.Network = runtimes.compiled(network) if runtime == "compile" else network
    return made


if __name__ == "__main__":
    print(_measure(json.loads(sys.argv[1]), sys.stdin.buffer))
