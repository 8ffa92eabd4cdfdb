"""Whether an exported file gives the outputs of its artifact, in a clean process without this package."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.deploying import clean_process
from bench.system.errors import BenchError

TOLERANCE = 1e-4
"""Largest allowed difference of an output."""


@dataclass(frozen=True)
class Comparison:
    """The largest difference of an output over a number of images, the number of images whose predicted class is the
    same, and what loaded the file, if that is known."""

    apart: float
    images: int
    agreeing: int
    loaded_by: str = ""


def compare(network: nn.Module, batches: Sequence[Tensor], job: dict[str, Any], *, exact: bool = True) -> Comparison:
    """Run the file of `job` in a clean process (see `clean_process`) and the network here, on the same images.

    BenchError if the file does not run there, or, unless it is not meant to be `exact`, if its outputs differ.
    """
    images = torch.cat(list(batches))
    with torch.inference_mode():
        expected = torch.cat([network(batch) for batch in batches]).numpy()
    with tempfile.TemporaryDirectory() as folder:
        outputs, told = _run(job, images, Path(folder))
    if outputs.shape != expected.shape:
        raise BenchError(f"the exported file gives outputs of shape {outputs.shape}, the artifact {expected.shape}")
    apart = float(np.abs(outputs - expected).max())
    if exact and not apart <= TOLERANCE:
        raise BenchError(
            f"the exported file gives other outputs than the artifact: on {len(images)} images they differ by up to "
            f"{apart:g}, more than {TOLERANCE:g}; nothing was written"
        )
    agreeing = int((outputs.argmax(1) == expected.argmax(1)).sum())
    return Comparison(apart, len(images), agreeing, told.get("loaded_by", ""))


def _run(job: dict[str, Any], images: Tensor, folder: Path) -> tuple[Any, dict[str, Any]]:
    job = job | {"images": str(folder / "images.npy"), "outputs": str(folder / "outputs.npy")}
    np.save(job["images"], images.numpy())
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-I", clean_process.__file__, str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise BenchError(f"the exported file does not run in a clean process: {lines[-1]}; nothing was written")
    return np.load(job["outputs"]), json.loads(done.stdout.splitlines()[-1])
