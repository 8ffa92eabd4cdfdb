"""A trial in another runtime: the network of the same trial in torch, timed with the dense one in that runtime."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.deploying.memory import peak_memory_mb
from bench.deploying.runtimes import INT8, LOADERS, Network, Prepared, forget_compiled, prepare
from bench.encodings import artifact
from bench.measuring.exclusive import alone
from bench.measuring.latency import Speed, time_beside
from bench.networks.layers import fold, on_device
from bench.records.record import Record
from bench.records.store import MODEL, PREDICTIONS, RECORD, Store, regular_files
from bench.system.errors import BenchError
from bench.trials.results import failed, of_accuracy, of_speed
from bench.trials.ruler import CHECKED_IMAGES, Ruler
from bench.trials.tables import TIMINGS, write_timings
from bench.trials.trial import Trial

TOLERANCE = 1e-3
"""Largest allowed difference of an output from torch's, as a fraction of the largest output. Kernels add in different
orders."""
CALIBRATION_IMAGES = 256
"""Number of held-out training images on which the ranges of 8-bit activations are measured."""
OF_THE_TRIAL = ("fingerprint", "setting", "runtime", "started_at", "versions", "config")


def run_in_runtime(trial: Trial, ruler: Ruler, store: Store, folder: Path, command: str) -> Record:
    """The record of the trial in torch, with the times of another runtime, whose outputs are compared with torch's.

    A runtime that rounds activations gives outputs of its own, so its accuracy is measured with it. If anything goes
    wrong in the runtime, the record is a failed one that gives the reason.
    """
    blank, started = trial.blank(command), time.monotonic()
    try:
        base = _measured_in_torch(trial, store)
        home = store.folder(base.fingerprint)
        for file in regular_files(home):
            if file.name not in (RECORD, TIMINGS):
                shutil.copy(file, folder / file.name)
        return _timed(trial, ruler, base, blank, folder, started)
    except BenchError as error:
        return failed(blank, str(error), [], time.monotonic() - started)


def _measured_in_torch(trial: Trial, store: Store) -> Record:
    base = store.get(trial.in_torch.fingerprint)
    if base is None:
        raise BenchError("its trial in torch is not recorded yet; run the same command again")
    if base.status != "ok":
        raise BenchError(f"its trial in torch failed: {base.error}")
    if store.missing_files(base):
        raise BenchError("the artifact or the predictions of its trial in torch are missing; delete its folder")
    return base


def _timed(trial: Trial, ruler: Ruler, base: Record, blank: Record, folder: Path, started: float) -> Record:
    network = artifact.load(folder / MODEL, model=ruler.task.unnamed, folded=False, allow_download=True)
    images = _laid_out(ruler.some_images(CHECKED_IMAGES), trial.runtime)
    forget_compiled()
    approximate = trial.runtime == INT8 and str(trial.setting) != "none"
    ours = prepare(network, trial.runtime, images, _calibration(ruler) if approximate else ())
    if not approximate:
        _check_outputs(ours.run, on_device(fold(network), ruler.device), images, trial.runtime)
    agreeing, count = _agreeing(ours.run, ruler, folder)
    speed = _speed(ours, _dense(ruler, trial.runtime), ruler, folder, trial)
    if str(trial.setting) == "none":
        speed = speed.as_dense()
    own = {name: getattr(blank, name) for name in OF_THE_TRIAL}
    checked = {"runtime_check": {"images": count, "agreeing": agreeing}}
    notes = [note for note in base.notes if " is noisy: " not in note] + speed.notes
    if agreeing < count:
        notes.append(f"{trial.runtime} and torch disagree on the class of {count - agreeing} of {count} test images")
    accuracy = of_accuracy(ruler.measure_accuracy(_AsModule(ours.run), folder)) if approximate else {}
    seconds = time.monotonic() - started
    figures = of_speed(speed) | accuracy | {"runtime_agreement": agreeing / count, "duration_seconds": seconds}
    return replace(base, **own | figures | {"config": blank.config | checked, "notes": notes})


def _calibration(ruler: Ruler) -> list[Tensor]:
    """Training images that are held out from training, in batches."""
    held_out = ruler.glancing_lab(CALIBRATION_IMAGES).held_out()
    return [images.cpu().contiguous() for images, _ in held_out]


class _AsModule(nn.Module):
    """What a runtime executes, to be evaluated as networks are."""

    def __init__(self, run: Network) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


def _laid_out(images: Tensor, runtime: str) -> Tensor:
    """Channels first for a runtime that takes NumPy arrays, so that no pass copies them."""
    return images.contiguous() if runtime in LOADERS else images


@lru_cache(maxsize=1)
def _dense(ruler: Ruler, runtime: str) -> Prepared:
    return prepare(ruler.dense, runtime, _laid_out(ruler.some_images(CHECKED_IMAGES), runtime))


@torch.inference_mode()
def _check_outputs(ours: Network, expected: Network, images: Tensor, runtime: str) -> None:
    outputs, wanted = ours(images).cpu(), expected(images).cpu()
    apart = (outputs - wanted).abs().max().item()
    if not apart <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise BenchError(f"{runtime} gives other outputs than torch: they differ by up to {apart:g}")


@torch.inference_mode()
def _agreeing(run: Network, ruler: Ruler, folder: Path) -> tuple[int, int]:
    """On how many test images the runtime predicts the same class as torch, and the number of all test images."""
    known = load_file(folder / PREDICTIONS)["predictions"].long()
    predicted = torch.cat([run(images).cpu().argmax(1) for images, _ in ruler.test_feed.once()])
    return int((predicted == known).sum()), len(known)


def _speed(ours: Prepared, dense: Prepared, ruler: Ruler, folder: Path, trial: Trial) -> Speed:
    batches = [_laid_out(ruler.some_images(count), trial.runtime) for count in (1, ruler.batch)]
    for images in batches:  # some runtimes prepare for each size of a batch
        ours.run(images), dense.run(images)
    with alone() as disturbed:
        one, many = (time_beside(ours.run, dense.run, images, disturbed) for images in batches)
        memory = peak_memory_mb(ours.loaded, trial.runtime, batches[1])
    write_timings([one, many], folder / TIMINGS)
    return Speed(one, many, memory)
