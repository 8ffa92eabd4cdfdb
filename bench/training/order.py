"""The order in which a training sees the images: pass after pass, and where it is in a pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.data.feed import Batch, Feed


class Order:
    """Draws augmented batches from `feed`, pass after pass, with the random numbers of `generator`."""

    def __init__(self, feed: Feed, generator: torch.Generator) -> None:
        self.feed, self.generator = feed, generator
        self._began = generator.get_state()

    @property
    def steps(self) -> int:
        """Batches in a pass."""
        return self.feed.steps

    def take(self, steps: int, done: int = 0) -> Iterator[Batch]:
        """The batches of `steps` steps, of which the first `done` were taken earlier.

        For these, the generator has to be as `place(done)` was then.
        """
        left, skip = steps - done, done % self.steps
        while left > 0:
            self._began = self.generator.get_state()
            for batch in self.feed.epoch(self.generator, skip):
                yield batch
                left -= 1
                if left == 0:
                    return
            skip = 0

    def place(self, step: int) -> Tensor:
        """The state of the generator at the beginning of the pass in which the next step after `step` lies."""
        return self._began if step % self.steps else self.generator.get_state()
