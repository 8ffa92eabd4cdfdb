"""Trials do not affect each other: whatever a method changes in the process is named, put back, and fails its trial."""

from __future__ import annotations

import gc
import locale
import logging
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.isolation import leftovers
from bench.isolation.snapshot import SpoiledProcess, require_intact
from bench.measuring import rounds
from bench.trials.ruler import Ruler

from .poisoned_trials import clean, kept, poison
from .poisoned_trials import intact as intact
from .poisoned_trials import ruler as ruler
from .poisoned_trials import untouched as untouched


class FunctionMode(TorchFunctionMode):
    pass


class DispatchMode(TorchDispatchMode):
    pass


def keep(context: Any) -> None:
    kept.append(context)
    context.__enter__()


def change_directory(tmp: Path) -> None:
    (tmp / "elsewhere").mkdir()
    os.chdir(tmp / "elsewhere")
    (tmp / "elsewhere").rmdir()


def replace(owner: Any, name: str, value: Any = None) -> Callable[[], None]:
    return lambda: setattr(owner, name, value or (lambda *_, **__: None))


DEEDS: dict[str, tuple[Callable[[], object], str]] = {
    "a function of torch": (replace(torch, "relu"), "torch.relu"),
    "a function of torch.nn.functional": (replace(F, "relu", torch.sigmoid), "torch.nn.functional.relu"),
    "the code of a function": (
        replace(F.relu, "__code__", (lambda input, inplace=False: input).__code__),
        "the code of torch.nn.functional.relu",
    ),
    "the root logger's level": (lambda: logging.basicConfig(level=logging.DEBUG, force=True), "the root logger"),
    "a handler of the root logger": (lambda: logging.getLogger().addHandler(logging.NullHandler()), "the root logger"),
    "logging off": (lambda: logging.disable(logging.CRITICAL), "the root logger"),
    "a thread that ends": (
        lambda: threading.Thread(target=time.sleep, args=(1.5,), name="mine").start(), "the running threads (mine)"
    ),
    "a process": (
        lambda: kept.append(subprocess.Popen(["sleep", "600"])), "the child processes (sleep)"
    ),
    "a process of multiprocessing": (
        lambda: kept.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()),
        "the child processes (p",
    ),
    "a function of timm": (replace(timm.layers, "drop_path"), "timm.layers.drop_path"),
    "a function of Python": (replace(time, "perf_counter_ns", lambda: 1), "time.perf_counter_ns"),
    "a built-in function": (replace(math, "isfinite", lambda _: True), "math.isfinite"),
    "a constant of the harness": (replace(rounds, "ROUNDS", 99), "bench.measuring.rounds.ROUNDS"),
    "a method": (replace(nn.Conv2d, "forward", lambda self, images: images), "Conv2d.forward"),
    "a method where none was": (replace(nn.Conv2d, "__call__", lambda self, images: images), "Conv2d.__call__"),
    "the step of the optimiser": (replace(torch.optim.SGD, "step"), "SGD.step"),
    "an operator of tensors": (replace(Tensor, "mean"), "Tensor.mean"),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), "torch.float32 → torch.float64"),
    "default tensor type": (lambda: torch.set_default_tensor_type(torch.DoubleTensor), "default dtype"),
    "default device": (lambda: torch.set_default_device("meta"), "default device (None → meta)"),
    "a device entered": (lambda: keep(torch.device("meta")), "torch function modes"),
    "a function mode": (lambda: keep(FunctionMode()), "torch function modes (none → FunctionMode)"),
    "a dispatch mode": (lambda: keep(DispatchMode()), "torch dispatch modes (none → DispatchMode)"),
    "gradients off": (lambda: torch.set_grad_enabled(False), "gradient mode (True → False)"),
    "inference mode": (lambda: keep(torch.inference_mode()), "inference mode"),
    "anomaly detection": (lambda: torch.autograd.set_detect_anomaly(True), "anomaly detection"),
    "autocast": (lambda: torch.set_autocast_enabled("cpu", True), "autocast on cpu"),
    "autocast entered": (lambda: keep(torch.autocast("cpu")), "nesting of autocast (0 → 1)"),
    "threads": (lambda: torch.set_num_threads(2), "number of threads of torch (1 → 2)"),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), "deterministic algorithms"),
    "precision of matmul": (lambda: torch.set_float32_matmul_precision("medium"), "matmul precision"),
    "cudnn": (replace(torch.backends.cudnn, "benchmark", True), "torch.backends.cudnn.benchmark (False → True)"),
    "cudnn deterministic": (replace(torch.backends.cudnn, "deterministic", True), "cudnn.deterministic"),
    "denormals": (lambda: torch.set_flush_denormal(True), "flushing of denormal numbers"),
    "attention": (lambda: torch.backends.cuda.enable_flash_sdp(False), "flash_sdp_enabled"),
    "a forward hook": (
        lambda: nn.modules.module.register_module_forward_hook(lambda *_: None), "hooks in torch.nn.modules.module"
    ),
    "a hook of optimisers": (
        lambda: register_optimizer_step_post_hook(lambda *_: None), "hooks in torch.optim"
    ),
    "a cache of parametrizations": (lambda: keep(parametrize.cached()), "cache of parametrizations"),
    "NumPy's errors": (lambda: np.seterr(all="raise"), "NumPy's handling of floating-point errors"),
    "an environment variable": (lambda: os.environ.update(OMP_WAIT="x"), "environment variables (OMP_WAIT)"),
    "a missing variable": (lambda: os.environ.pop("OMP_NUM_THREADS"), "environment variables (OMP_NUM_THREADS)"),
    "sys.path": (lambda: sys.path.insert(0, "/nowhere"), "sys.path"),
    "standard output": (lambda: setattr(sys, "stdout", StringIO()), "sys.stdout"),
    "umask": (lambda: os.umask(0o777), "umask"),
    "warnings": (lambda: warnings.simplefilter("ignore"), "warnings filters"),
    "showwarning": (replace(warnings, "showwarning"), "warnings.showwarning"),
    "a signal handler": (lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN), "signal handlers (15)"),
    "an alarm": (lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 9999), "alarm timers"),
    "recursion": (lambda: sys.setrecursionlimit(5000), "recursion limit"),
    "garbage": (gc.disable, "garbage collection"),
    "locale": (lambda: locale.setlocale(locale.LC_NUMERIC, "C.UTF-8"), "locale"),
    "start method": (lambda: multiprocessing.set_start_method("spawn", force=True), "start method"),
    "a processor": (lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}), "processors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEEDS)
def test_a_change_is_named_and_the_next_trial_is_as_if_alone(
    kind: str, ruler: Ruler, untouched: dict[str, Any], tmp_path: Path
) -> None:
    deed, named = DEEDS[kind]

    def do(*_: Any) -> None:
        deed()
        raise RuntimeError("nothing needs to be measured")

    record = poison(ruler, tmp_path / "poison", do)
    assert record.status == "failed" and record.top1 is None
    assert record.error and record.error.startswith("poison changed what other trials share: ")
    assert named in record.error and "changed and put back" in record.error
    assert named in (tmp_path / "poison" / "traceback.txt").read_text()
    assert clean(ruler, tmp_path / "clean") == untouched


def test_a_thread_that_goes_on_ends_the_run(ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SECONDS_TO_END", 0.1)
    end = threading.Event()
    record = poison(ruler, tmp_path / "poison", lambda *_: threading.Thread(target=end.wait, name="mine").start())
    end.set()
    assert "the running threads (mine) changed for good" in (record.error or "") and record.config["spoiled"]
    with pytest.raises(SpoiledProcess):
        require_intact()


def test_a_process_that_ignores_the_request_is_made_to_end(
    ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "SECONDS_TO_END", 0.5)
    started: list[subprocess.Popen[bytes]] = []

    def deed(*_: Any) -> None:
        process = subprocess.Popen(
            ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"\n"

    record = poison(ruler, tmp_path / "poison", deed)
    assert "the child processes (sh) changed and put back" in (record.error or "")
    with started[0] as process:
        assert not psutil.pid_exists(process.pid)


def test_what_libraries_start_is_not_blamed_on_a_trial(ruler: Ruler, tmp_path: Path) -> None:
    """The workers of a loader that a method still holds, a process that has ended, and daemon threads."""
    loaders: list[Any] = []

    def deed(*_: Any) -> None:
        loaders.append(iter(torch.utils.data.DataLoader(list(range(8)), num_workers=1, timeout=60)))
        next(loaders[0])
        loaders.append(subprocess.Popen(["true"]))
        threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
        logging.getLogger().handlers or logging.warning("the first line that is logged installs a handler")

    record = poison(ruler, tmp_path / "poison", deed)
    assert record.status == "ok", record.error
    assert loaders[1].wait() == 0


def test_a_directory_that_is_gone(ruler: Ruler, tmp_path: Path) -> None:
    before = os.getcwd()
    record = poison(ruler, tmp_path / "poison", lambda *_: change_directory(tmp_path))
    assert "working directory" in (record.error or "") and os.getcwd() == before


def test_a_trial_that_fails_and_changes_something_says_both(ruler: Ruler, tmp_path: Path) -> None:
    def deed(*_: Any) -> None:
        torch.set_grad_enabled(False)
        raise RuntimeError("no luck")

    record = poison(ruler, tmp_path / "poison", deed)
    assert "gradient mode (True → False)" in (record.error or "") and "RuntimeError: no luck" in (record.error or "")
    assert torch.is_grad_enabled()


def test_random_numbers_of_one_trial_have_no_effect_on_the_next(ruler: Ruler, tmp_path: Path) -> None:
    drawn = []

    def deed(*_: Any) -> None:
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))

    for name in ("a", "b"):
        assert poison(ruler, tmp_path / name, deed).status == "ok"
    assert drawn[0] == drawn[1]
    states = random.getstate(), torch.get_rng_state()
    poison(ruler, tmp_path / "c", deed)
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
