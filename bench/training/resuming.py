"""Checkpoints of a trial: a killed trial that is run again does not repeat the training that it had done.

A method keeps what it likes between two trainings, so its `compress` is run again from the beginning. It is seeded, and
comes to each training with the network and the random generators as they were before. Where they are, to the last bit,
a training that was finished is not repeated: its result is loaded, and one that was not finished goes on after its last
checkpoint. Where they are not, that training starts anew, and so do all that follow.

A training that changed more than tensors (see `outside`) has no checkpoints, and is repeated from its own beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import nn

from bench.system.clock import working_seconds
from bench.system.progress import say
from bench.training.checkpoint import Checkpoint
from bench.training.halfway import Conditions, Training

SECONDS = 60.0
"""Seconds of training between two checkpoints. A trial that trains for less has none."""
MOST_BYTES = 256_000_000
"""Bytes of finished trainings that wait in memory for the next checkpoint."""


class Checkpoints:
    """The checkpoints of one trial, in `folder`: a file for each training that is finished, and one for the next.

    `key` identifies the trial and the code that runs it; files with another key are not used. `title` is for
    messages.
    """

    def __init__(self, folder: Path, key: str, title: str) -> None:
        self.folder = folder
        self.resumed_passes = 0.0
        """Passes over the training images that were not repeated."""
        self.earlier_seconds = 0.0
        """What these passes took."""
        self._key, self._title = key, title
        self._trainings = 0
        self._began: float | None = None
        self._trained = self._saved = 0.0
        self._waiting: dict[Path, Checkpoint] = {}
        self._usable, self._told, self._failed = folder.is_dir(), False, False

    @contextmanager
    def training(self, model: nn.Module, steps: int, conditions: Conditions) -> Iterator[Training | None]:
        """Around one training: what keeps its state. None for a training within another."""
        if self._began is not None:
            yield None
            return
        self._trainings, self._began = self._trainings + 1, working_seconds()
        try:
            yield Training(self, self._trainings, model, steps, conditions)
        finally:
            self._trained, self._began = self._seconds, None

    @property
    def _seconds(self) -> float:
        """What all training in this process has taken so far."""
        return self._trained + (0 if self._began is None else working_seconds() - self._began)

    @property
    def is_due(self) -> bool:
        return self._seconds - self._saved >= SECONDS

    def close(self) -> None:
        """Write what waits in memory, if the trial has trained for long: its measurements may take long, too."""
        self.tell()
        if self._trained >= SECONDS or self.folder.is_dir():
            self._write_waiting()

    def remark(self) -> list[str]:
        """A note for the record, if the trial went on from a checkpoint."""
        return [f"resumed after {self._passes}"] if self.resumed_passes else []

    def tell(self) -> None:
        """Say that the trial goes on from a checkpoint, if it does; called where it begins to train."""
        if self.resumed_passes and not self._told:
            say(f"{self._title}: going on from a checkpoint, after {self._passes} of training")
            self._told = True

    @property
    def _passes(self) -> str:
        count = f"{self.resumed_passes:.3g}"
        return f"{count} epoch{'' if count == '1' else 's'}"

    def read(self, training: int, beginning: str, *, finished: bool) -> Checkpoint | None:
        """What is left of a training that began like this. Where another is left, no file is used from there on."""
        path = self._path(training, finished)
        if not self._usable or not path.exists():
            return None
        found = Checkpoint.read(path, self._key)
        if found is None or found.facts.get("beginning") != beginning:
            self.discard(training)
            return None
        return found

    def discard(self, training: int) -> None:
        """Use no file of this training or of a later one, and say so."""
        self._usable = False
        say(
            f"note: {self._title}: the checkpoint in {self.folder} is damaged, or other code or another machine wrote "
            "it; the training starts anew"
        )
        for path in self.folder.glob("*.safetensors"):
            number = path.stem.partition("-")[0]
            if number.isdecimal() and int(number) >= training:
                with suppress(OSError):
                    path.unlink()

    def resumed(self, passes: float, seconds: float) -> None:
        """Count training that is not repeated."""
        self.resumed_passes += passes
        self.earlier_seconds += seconds

    def write(self, training: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint of the training that is running, and what waits in memory."""
        self._write_waiting()
        self._write(self._path(training, False), checkpoint)

    def keep(self, training: int, result: Checkpoint) -> None:
        """Keep the result of a training; in memory, if no checkpoint is due."""
        self._waiting[self._path(training, True)] = result
        if self.is_due or sum(each.nbytes for each in self._waiting.values()) > MOST_BYTES:
            self._write_waiting()

    def _path(self, training: int, finished: bool) -> Path:
        return self.folder / f"{training}{'' if finished else '-unfinished'}.safetensors"

    def _write_waiting(self) -> None:
        for path, checkpoint in self._waiting.items():
            if self._write(path, checkpoint):
                with suppress(OSError):
                    path.with_stem(f"{path.stem}-unfinished").unlink(missing_ok=True)
        self._waiting.clear()  # also what could not be written, because memory is not endless either

    def _write(self, path: Path, checkpoint: Checkpoint) -> bool:
        self._saved = self._seconds
        try:
            checkpoint.write(path, self._key)
        except Exception as error:  # whatever it is, the trial itself can go on
            reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
            if not self._failed:
                where = f"no checkpoint could be written to {self.folder} ({reason})"
                say(f"note: {self._title}: {where}; the trial goes on without")
            self._failed = True
            return False
        return True
