"""What the harness lends a method: images, the training loop, a seeded generator; and what it charges for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.data.feed import Batch, Feed
from bench.system.errors import BenchError, BudgetExceeded
from bench.system.progress import bar
from bench.training import loop as training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDING = 1e-6
UNLIKE = 1 << 32
"""Keeps a method's random numbers apart from those of the data order."""


class Lab:
    """One trial's laboratory. A method never sees a device, a logger or the test set; it sees this.

    The budget is in passes over the training images: `fit` and `batches` both spend it.
    """

    def __init__(self, feed: Feed, *, epochs: float, seed: int, tuning: Feed | None = None) -> None:
        self._feed = feed
        self._tuning = tuning
        self._limit = epochs
        self._schedule: tuple[float, float] | None = None
        self._order = torch.Generator().manual_seed(seed)
        self.budget = epochs
        self.spent = 0.0
        self.fit_seconds = 0.0
        self.generator = torch.Generator().manual_seed(seed + UNLIKE)
        """The only source of a method's random numbers (on the CPU); every method starts it from the trial's seed."""
        self.notes: dict[str, str] = {}
        self.pictures: dict[str, Figure] = {}
        self.loss = nn.CrossEntropyLoss()
        self.example_input: Tensor = torch.zeros(1, *feed.preprocessing.size, device=feed.device)
        """Zeros [1, C, H, W] where the network is, for tracing."""

    @property
    def remaining(self) -> float:
        """Passes over the training images that may still be spent."""
        return max(0.0, self._limit - self.spent)

    @property
    def remaining_batches(self) -> int:
        """Whole training batches that may still be drawn, to train on or to rank by."""
        return int(self.remaining * self._feed.steps + ROUNDING)

    def fit(
        self,
        model: nn.Module,
        epochs: float | None = None,
        penalty: training.Penalty | None = None,
        after_step: training.AfterStep | None = None,
        *,
        from_scratch: bool = False,
    ) -> None:
        """Train in place, by the recipe that is everybody's, for `epochs` passes (None: all that remain).

        `penalty(model)` joins the loss; `after_step(step, steps)` follows each update. Whole steps are made and
        charged; where none remains, nothing happens. `from_scratch`, for weights that are random, takes the learning
        rate that baselines are trained with in place of the smaller one for fine-tuning. Raises BudgetExceeded.
        """
        steps = int((self.remaining if epochs is None else epochs) * self._feed.steps + ROUNDING)
        if steps < 1:
            return
        span = self._span(steps)
        self._charge(steps)
        started = time.monotonic()
        training.fit(
            model,
            self._feed,
            steps / self._feed.steps,
            lr=self._feed.recipe.lr if from_scratch else self._feed.recipe.finetune_lr,
            generator=self._order,
            penalty=penalty,
            after_step=after_step,
            span=span,
            description="training from scratch" if from_scratch else "fine-tuning",
        )
        self.fit_seconds += time.monotonic() - started

    def batches(self, count: int) -> Iterator[Batch]:
        """`count` augmented training batches, float [B, C, H, W] and int64 [B], charged as `fit` is."""
        self._charge(count)
        with bar("training batches", count) as advance:
            for batch in training.take(self._feed, self._order, count):
                yield batch
                advance(1)

    def held_out(self) -> Iterator[Batch]:
        """The tuning images once, in order, as they are: for choices made on the way. They cost nothing of the budget.

        They are cut from the training images and in no training batch. Raises BenchError where a dataset has none.
        """
        if self._tuning is None:
            raise BenchError("the dataset has no training images, so none are held out from them")
        return self._tuning.once()

    def note(self, layer: str, text: str) -> None:
        """Say why a layer was left as it was; the per-layer table shows it."""
        self.notes[layer] = text

    def picture(self, name: str, figure: Figure) -> None:
        """Keep a drawing with the record, as `name`.png; pictures of encodings are made without being asked for."""
        self.pictures[name] = figure

    @contextmanager
    def share(self, part: float) -> Iterator[None]:
        """Within this block only `part` of what remains may be spent."""
        outer = self._limit
        self._limit = self.spent + part * self.remaining
        try:
            yield
        finally:
            self._limit = outer

    @contextmanager
    def one_schedule(self) -> Iterator[None]:
        """Within this block all trainings are parts of one schedule of the learning rate, which ends with the budget.

        For a network that changes its structure in the middle of its training: each part has an optimiser of its own.
        """
        outer, self._schedule = self._schedule, (self.spent, self._limit)
        try:
            yield
        finally:
            self._schedule = outer

    def _span(self, steps: int) -> tuple[float, float]:
        """Which part of its schedule a training of so many steps is, from 0 to 1."""
        if self._schedule is None:
            return 0.0, 1.0
        begin, end = self._schedule
        whole = int((end - begin) * self._feed.steps + ROUNDING)
        done = round((self.spent - begin) * self._feed.steps)
        return done / whole, (done + steps) / whole

    def _charge(self, steps: int) -> None:
        if steps > self.remaining * self._feed.steps + ROUNDING:
            raise BudgetExceeded(
                f"{steps / self._feed.steps:g} epochs wanted, {self.remaining:g} of the budget of {self.budget:g} "
                "remain; raise --epochs"
            )
        self.spent += steps / self._feed.steps
