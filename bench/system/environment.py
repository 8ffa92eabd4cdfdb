"""The machine a figure was measured on, and the software that measured it."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bench.system.errors import BadArgument

PACKAGES = (
    "cnn-compression-bench",
    "torch",
    "torchvision",
    "timm",
    "torch-pruning",
    "ptflops",
    "pytorchcv",
    "numpy",
    "pillow",
    "safetensors",
    "zstandard",
)


def select_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first CUDA device, or the CPU. Raises BadArgument if there is none.

    A CUDA device becomes the current one. Convolutions on it are deterministic and in true float32, because figures
    with TensorFloat-32 would depend on the chip.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise BadArgument("device", name, "expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadArgument("device", name, f"this machine has {torch.cuda.device_count()} CUDA devices; use cpu or auto")
    return _prepared(torch.device("cuda", device.index or 0)) if device.type == "cuda" else device


def _prepared(device: torch.device) -> torch.device:
    torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return device


def describe_device(device: torch.device) -> str:
    """The device as records name it: `cuda: NVIDIA H100 80GB HBM3`, `cpu: AMD EPYC 9354 (2 threads)`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"cpu: {_processor()} ({threads} thread{'' if threads == 1 else 's'})"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python, of the installed PACKAGES, and of CUDA and cuDNN if torch was built with them."""
    known = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda:
        known["cuda"] = torch.version.cuda
        known["cudnn"] = str(torch.backends.cudnn.version())
    return known
