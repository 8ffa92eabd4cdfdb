"""The peak memory of a runtime that runs a network: measured in a process of its own, which does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.deploying import runtimes
from bench.encodings import artifact

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory_mb(file: Path, content: bytes | None, runtime: str, images: Tensor) -> float | None:
    """Memory that a network takes, in MB (10^6 bytes): a process's peak during a pass, less what it held before it
    loaded the network. `content` is the file that the runtime loads; without one, torch runs the artifact.

    None if the system does not tell (only Linux does), or if the process fails.
    """
    if not (STATUS.exists() and CLEAR.exists()):
        return None
    with tempfile.TemporaryDirectory() as folder:
        if content is not None:
            file = Path(folder) / "model.onnx"
            file.write_bytes(content)
        np.save(f"{folder}/images.npy", images.contiguous().numpy())
        facts = {"file": str(file.absolute()), "runtime": runtime, "images": f"{folder}/images.npy"}
        job = json.dumps(facts | {"threads": torch.get_num_threads()})
        command = [sys.executable, "-m", "bench.deploying.memory", job]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        return None
    return float(done.stdout.splitlines()[-1]) / 1000


def _kilobytes(name: str) -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 // 1000


def _measure(job: dict[str, Any]) -> int:
    runtime = job["runtime"]
    torch.set_num_threads(job["threads"])
    images = torch.from_numpy(np.load(job["images"]))
    runtimes.import_packages(runtime)
    before = _kilobytes("VmRSS")
    if runtime in runtimes.LOADERS:
        run = runtimes.LOADERS[runtime](Path(job["file"]).read_bytes(), job["threads"])
    else:
        run = runtimes.prepare(artifact.load(job["file"], allow_download=True), runtime, images).run
    run(images)
    CLEAR.write_text("5")  # resets the peak
    run(images)
    return _kilobytes("VmHWM") - before


if __name__ == "__main__":
    print(_measure(json.loads(sys.argv[1])))
