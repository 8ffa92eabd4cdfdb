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
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import psutil
import pytest
import timm.layers
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.data.dataset import Dataset, Pixels, Recipe
from bench.isolation import leftovers, snapshot
from bench.isolation.snapshot import Snapshot, SpoiledProcess, require_intact
from bench.measuring import latency, rounds
from bench.plugins import registry
from bench.plugins.method import Method
from bench.plugins.setting import Pipeline, parse
from bench.records.record import Record
from bench.records.store import PREDICTIONS, Store
from bench.trials import run as harness
from bench.trials.baseline import load_task
from bench.trials.plan import Plan
from bench.trials.ruler import Ruler
from bench.trials.trial import Trial, run_trial

CPU = torch.device("cpu")
TIMES = ("latency", "throughput", "other_load", "compress_seconds", "fit_seconds", "started_at", "duration_seconds")

Deed = Callable[["Poison", nn.Module, Any], object]
kept: list[Any] = []
"""Keeps modes and contexts alive that a method entered and never left."""


@dataclass(frozen=True, kw_only=True)
class Poison(Method):
    """Does something to the process, and returns the model as it is."""

    name: ClassVar[str] = "poison"
    control: ClassVar[bool] = True
    deeds: ClassVar[list[Deed]] = []

    def compress(self, model: nn.Module, lab: Any) -> nn.Module:
        self.deeds[-1](self, model, lab)
        return model


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


class Noise(Dataset):
    """Images without a meaning: 24 to train on, of which 2 are held out, and 8 to test."""

    name: ClassVar[str] = "noise"
    title, classes = "noise", ("a", "b", "c")
    input_shape, mean, std, recipe = (3, 16, 16), (0.5,) * 3, (0.25,) * 3, Recipe(epochs=1, batch_size=8)

    @classmethod
    def open(cls, argument: str | None, root: Path | None) -> Self:
        return cls()

    def load(self, part: str) -> Pixels:
        count, generator = 24 if part == "train" else 8, torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return Pixels(images, torch.arange(count) % 3)


def new_ruler() -> Ruler:
    return Ruler(load_task("resnet20", Noise(), "scratch", CPU), CPU)


@pytest.fixture(scope="module")
def ruler() -> Ruler:
    return new_ruler()


@pytest.fixture(autouse=True)
def intact(quick_timing: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test leaves changed would fail the others, so it is put back and fails this one."""
    monkeypatch.setattr(snapshot, "_spoiled", [])
    before = Snapshot.now()
    yield
    changes = before.restore()
    for process in kept:
        if isinstance(process, subprocess.Popen):
            process.wait(10)
    kept.clear()
    assert not changes.lost


def poison(ruler: Ruler, folder: Path, deed: Deed, epochs: float = 0) -> Record:
    folder.mkdir()
    Poison.deeds[:] = [deed]
    return run_trial(Trial(ruler.task, Pipeline((Poison(),)), 0, epochs, CPU), ruler, folder, "")


def clean(ruler: Ruler, folder: Path) -> dict[str, Any]:
    """Everything about a trial that trains, times aside."""
    folder.mkdir()
    record = run_trial(Trial(ruler.task, parse("l1(rate=0.5)")[0], 0, 1, CPU), ruler, folder, "")
    assert record.status == "ok", record.error
    figures = {name: value for name, value in asdict(record).items() if not name.startswith(TIMES)}
    weights = {name: value.tolist() for name, value in load_file(folder / "model.safetensors").items()}
    return figures | {"predictions.safetensors": (folder / PREDICTIONS).read_bytes(), "weights": weights}


@pytest.fixture(scope="module")
def untouched(ruler: Ruler, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "ROUNDS", 1)
        patch.setattr(rounds, "WARM_UP_ROUNDS", 1)
        patch.setattr(latency, "LARGEST_BATCH", 2)
        patch.setattr(latency.Timing, "noise", [])
        return clean(ruler, tmp_path_factory.mktemp("untouched") / "clean")


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


DENSE: dict[str, Callable[[nn.Module], object]] = {
    "weights": lambda dense: dense.conv1.weight.data.zero_(),  # type: ignore[union-attr,operator]
    "weights through NumPy": lambda dense: dense.conv1.weight.detach().numpy().fill(1),  # type: ignore[union-attr,operator]
    "frozen": lambda dense: dense.requires_grad_(False),
    "a hook": lambda dense: dense.register_forward_hook(lambda *_: None),
    "an attribute": lambda dense: setattr(dense, "forward", lambda images: images),
}


@pytest.mark.parametrize("kind", DENSE)
def test_the_shared_dense_network_is_repaired(
    kind: str, ruler: Ruler, untouched: dict[str, Any], tmp_path: Path
) -> None:
    record = poison(ruler, tmp_path / "poison", lambda *_: DENSE[kind](ruler.dense))
    assert record.status == "failed" and "the dense network changed and put back" in (record.error or "")
    assert clean(ruler, tmp_path / "clean") == untouched


def zero_through_numpy(images: Any) -> None:
    images.images.numpy()[0] = 0


def swap_labels(images: Any) -> None:
    images.labels.data[:2] = images.labels.data[:2].flip(0) + 1


@pytest.mark.parametrize("deed", [zero_through_numpy, swap_labels])
def test_images_and_labels_changed_in_place_end_the_run(deed: Callable[[Any], None], tmp_path: Path) -> None:
    ruler = new_ruler()
    record = poison(ruler, tmp_path / "poison", lambda _, __, lab: deed(lab._feed.images), epochs=1)
    assert "the train images or labels changed for good" in (record.error or "") and record.config["spoiled"]
    with pytest.raises(SpoiledProcess, match="the same command goes on in a new process"):
        clean(ruler, tmp_path / "clean")
    with pytest.raises(SpoiledProcess):
        load_task("resnet20", ruler.task.dataset, "scratch", CPU)


def test_batches_are_a_methods_own(ruler: Ruler, untouched: dict[str, Any], tmp_path: Path) -> None:
    def deed(_: Any, __: Any, lab: Any) -> None:
        for images, labels in (*lab.held_out(), *lab.batches(1)):
            images.zero_()
            labels.zero_()

    assert poison(ruler, tmp_path / "poison", deed, epochs=1).status == "ok"
    assert clean(ruler, tmp_path / "clean") == untouched


class OtherTorch:
    """Stands for the module torch, where all but the rectifiers are torch's."""

    def __getattr__(self, name: str) -> Any:
        return (lambda images: images) if name in ("relu", "relu_") else getattr(torch, name)


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Changes what `F.relu` computes in a way that is not looked for: the module in which it looks for its parts."""
    return lambda: monkeypatch.setattr(F, "torch", OtherTorch())


@pytest.mark.filterwarnings("ignore:noise")
def test_what_nothing_else_finds_shows_in_the_outputs_and_ends_the_run(
    rewritten: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed record is written, nothing else is measured; in a new process the others come first."""
    monkeypatch.setattr(registry, "datasets", lambda: {"noise": Noise})
    monkeypatch.setattr("bench.plugins.setting.methods", lambda: {**METHODS, "poison": Poison})
    Poison.deeds[:] = [lambda *_: rewritten()]
    plan = Plan(
        settings=parse("poison,l1(rate=0.5)"),
        models=["resnet20"], dataset="noise", weights="scratch", epochs=0,
    )  # fmt: skip
    store = Store(tmp_path / "runs")
    with pytest.raises(SpoiledProcess, match="what the dense network computes changed for good") as raised:
        harness.run(plan, store)
    assert "\n" not in str(raised.value)
    assert {record.method: record.status for record in store.records()} == {"poison": "failed"}

    monkeypatch.setattr(F, "torch", torch)
    monkeypatch.setattr(snapshot, "_spoiled", [])
    outcome = harness.run(plan, store)
    assert {record.method: record.status for record in outcome.records} == {"poison": "failed", "l1": "ok"}
    with pytest.raises(SpoiledProcess):
        require_intact()


def another_relu(*_: Any) -> None:
    """Its maps have another sign, so the dense network's predictions differ."""
    F.relu = lambda images, inplace=False: -images.clamp(min=0) + torch.arange(images.shape[1])[:, None, None]


def zeros_in_the_dense_network(ruler: Ruler) -> None:
    ruler.dense.conv1.weight.data.zero_()  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("deed", [another_relu, zeros_in_the_dense_network])
def test_what_the_first_trial_measures_of_the_dense_network_is_not_kept(
    deed: Callable[[Ruler], None], untouched: dict[str, Any], tmp_path: Path
) -> None:
    """The change does not raise, so the trial measures the dense network while it computes something else."""
    ruler = new_ruler()
    Poison.deeds[:] = [lambda *_: deed(ruler)]
    setting = Pipeline((Poison(),))
    (tmp_path / "poisoned").mkdir()
    record = run_trial(Trial(ruler.task, setting, 0, 1, CPU), ruler, tmp_path / "poisoned", "")
    assert record.status == "failed" and "changed and put back" in (record.error or "")
    assert clean(ruler, tmp_path / "clean") == untouched


def test_a_check_that_fails_spoils_the_process(ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no version counter")

    monkeypatch.setattr(ruler, "check_shared", fail)
    record = poison(ruler, tmp_path / "poison", lambda *_: None)
    assert record.status == "failed" and record.config["spoiled"] is True
    assert "cannot be checked (RuntimeError: no version counter) changed for good" in (record.error or "")
    with pytest.raises(SpoiledProcess):
        require_intact()


def test_a_spoiled_process_ends_a_run_of_several_models_in_one_line_and_delivers_what_there_is(
    ruler: Ruler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[str] = []

    class Post:
        def send(self, record: Record) -> None: ...

        def finish(self) -> None:
            finished.append("yes")

    def spoilt(*_: Any) -> None:
        raise SpoiledProcess("changed for good")

    monkeypatch.setattr("bench.trials.plan.load_task", spoilt)
    plan = Plan(settings=parse("l1"), models=["resnet20", "resnet32"], epochs=0)
    with pytest.raises(SpoiledProcess, match="^changed for good$"):
        harness.run(plan, Store(tmp_path / "runs"), Post())
    assert finished == ["yes"]


METHODS = registry.methods()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_method_of_ours_changes_anything(name: str, ruler: Ruler, tmp_path: Path) -> None:
    setting = METHODS[name].tested[0] if METHODS[name].tested else name
    record = run_trial(Trial(ruler.task, parse(setting)[0], 0, 1, CPU), ruler, tmp_path, "")
    assert record.status == "ok", record.error
