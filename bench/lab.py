"""What the harness lends a method: images, the training loop, a seeded generator; and what it charges for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bench import training
from bench.errors import BudgetExceeded
from bench.loading import Batch, Feed
from bench.progress import bar

ROUNDING = 1e-6


class Lab:
    """One trial's laboratory. A method never sees a device, a logger or the test set; it sees this.

    The budget is in passes over the training images: `fit` and `batches` both spend it.
    """

    def __init__(self, feed: Feed, *, epochs: float, seed: int) -> None:
        self._feed = feed
        self._limit = epochs
        self._order = torch.Generator().manual_seed(seed)
        self.budget = epochs
        self.spent = 0.0
        self.fit_seconds = 0.0
        self.generator = torch.Generator().manual_seed(seed)
        """The only source of a method's random numbers (on the CPU); every method starts it from the trial's seed."""
        self.notes: dict[str, str] = {}
        self.loss = nn.CrossEntropyLoss()
        self.example_input: Tensor = torch.zeros(1, *feed.preprocessing.size, device=feed.device)
        """Zeros [1, C, H, W] where the network is, for tracing."""

    @property
    def remaining(self) -> float:
        """Passes over the training images that may still be spent."""
        return max(0.0, self._limit - self.spent)

    def fit(
        self,
        model: nn.Module,
        epochs: float | None = None,
        penalty: training.Penalty | None = None,
        after_step: training.AfterStep | None = None,
    ) -> None:
        """Train in place, by the recipe that is everybody's, for `epochs` passes (None: all that remain).

        `penalty(model)` joins the loss; `after_step(step, steps)` follows each update. Nothing happens when nothing
        remains and `epochs` is None. Raises BudgetExceeded.
        """
        epochs = self.remaining if epochs is None else epochs
        if epochs <= 0:
            return
        self._charge(epochs)
        started = time.monotonic()
        training.fit(
            model,
            self._feed,
            epochs,
            lr=self._feed.recipe.finetune_lr,
            generator=self._order,
            penalty=penalty,
            after_step=after_step,
            description="fine-tuning",
        )
        self.fit_seconds += time.monotonic() - started

    def batches(self, count: int) -> Iterator[Batch]:
        """`count` augmented training batches, float [B, C, H, W] and int64 [B], charged as `fit` is."""
        self._charge(count / self._feed.steps)
        with bar("training batches", count) as advance:
            for batch in training.take(self._feed, self._order, count):
                yield batch
                advance(1)

    def note(self, layer: str, text: str) -> None:
        """Say why a layer was left as it was; the per-layer table shows it."""
        self.notes[layer] = text

    @contextmanager
    def share(self, part: float) -> Iterator[None]:
        """Within this block only `part` of what remains may be spent."""
        outer = self._limit
        self._limit = self.spent + part * self.remaining
        try:
            yield
        finally:
            self._limit = outer

    def _charge(self, epochs: float) -> None:
        if epochs > self.remaining + ROUNDING:
            raise BudgetExceeded(
                f"{epochs:g} epochs wanted, {self.remaining:g} of the budget of {self.budget:g} remain; raise --epochs"
            )
        self.spent += epochs
