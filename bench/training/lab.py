"""What the harness lends a method: images, the training loop and a seeded generator. It charges for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.data.feed import Batch, Feed
from bench.system.clock import working_seconds
from bench.system.errors import BenchError, BudgetExceeded
from bench.system.progress import bar
from bench.training import loop as training
from bench.training import recalibration
from bench.training.halfway import Conditions, Training
from bench.training.resuming import Checkpoints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDING = 1e-6
UNLIKE = 1 << 32
"""Added to the seed, so that a method's random numbers differ from those of the data order."""
KEPT_ELSEWHERE = ("_feed", "_tuning", "_order", "_checkpoints", "generator", "pictures", "fit_seconds")
"""Attributes that checkpoints need not compare: they do not change, or are kept in another way."""


class Lab:
    """Everything that a method sees of its trial. It sees no device, no logger and no test images.

    The budget counts passes over the training images. `fit`, `batches` and `recalibrate` spend it.
    """

    def __init__(
        self,
        feed: Feed,
        *,
        epochs: float,
        seed: int,
        tuning: Feed | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._feed = feed
        self._checkpoints = checkpoints
        self._tuning = tuning
        self._limit = epochs
        self._schedule: tuple[float, float] | None = None
        self._order = torch.Generator().manual_seed(seed)
        self.budget = epochs
        self.spent = 0.0
        self.fit_seconds = 0.0
        self._trained = ("", 0)
        """A digest of the weights that the last training left, and how many steps led to them without other changes."""
        self.generator = torch.Generator().manual_seed(seed + UNLIKE)
        """The source of a method's random numbers, on the CPU, seeded by the trial."""
        self.notes: dict[str, str] = {}
        self.reachable: set[str] = set()
        """Layers that a method made a note about, except for those that it cannot compress."""
        self.pictures: dict[str, Figure] = {}
        self.loss = nn.CrossEntropyLoss()
        self.example_input: Tensor = torch.zeros(1, *feed.preprocessing.size, device=feed.device)
        """Zeros [1, C, H, W] on the device of the network, for tracing."""

    @property
    def remaining(self) -> float:
        """Passes over the training images that are left to spend."""
        return max(0.0, self._limit - self.spent)

    @property
    def remaining_batches(self) -> int:
        """Complete training batches that are left to draw, for training or for ranking."""
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
        """Train `model` in place with the recipe that all methods share, for `epochs` passes (None: all that remain).

        `penalty(model)` is added to the loss. `after_step(step, steps)` is called after each update. Only complete
        steps are made and charged; if less than one remains, nothing happens. `from_scratch` is for random weights: it
        uses the learning rate of baselines instead of the smaller one for fine-tuning. Raises BudgetExceeded if more is
        asked for than remains. When a trial is run again after a kill, the result of a training that was finished is
        loaded without calling the hooks; only where they change nothing but tensors of the network.
        """
        steps = int((self.remaining if epochs is None else epochs) * self._feed.steps + ROUNDING)
        if steps < 1:
            return
        span = self._span(steps)
        self._charge(steps)
        weights, before = self._weights_and_steps(model)
        lr = self._feed.recipe.lr if from_scratch else self._feed.recipe.finetune_lr
        with self._kept(model, steps, (penalty, after_step), {"lr": lr, "span": span, "weights": weights}) as kept:
            if kept is None or not kept.is_finished():
                training.fit(
                    model,
                    self._feed,
                    steps / self._feed.steps,
                    lr=lr,
                    generator=self._order,
                    penalty=penalty,
                    after_step=after_step,
                    snapshot=kept,
                    span=span,
                    description="training from scratch" if from_scratch else "fine-tuning",
                )
        self._trained = recalibration.weights_digest(model), before + steps

    @contextmanager
    def _kept(
        self, model: nn.Module, steps: int, hooks: tuple[object, ...], facts: dict[str, Any]
    ) -> Iterator[Training | None]:
        """Around a training: what keeps its state in the trial's checkpoints, if there are any. Its time counts."""
        started = working_seconds()
        facts |= {"spent": self.spent, "trained": self._trained}
        given = Conditions(self._feed, self._order, self.generator, facts, hooks, self, self._besides)
        keeping = nullcontext() if self._checkpoints is None else self._checkpoints.training(model, steps, given)
        with keeping as kept:
            yield kept
        self.fit_seconds += working_seconds() - started + (kept.earlier_seconds if kept else 0)

    def _besides(self) -> dict[str, Any]:
        """What the hooks of a training may change here."""
        own = {name: value for name, value in vars(self).items() if name not in KEPT_ELSEWHERE}
        return own | {"pictures": list(self.pictures)}

    def recalibrate(self, model: nn.Module, batches: int) -> int:
        """Re-estimate the batch-norm statistics of `model`, in place, from training batches; charged like `fit`.

        Mean and variance of each channel become their averages over `batches` augmented batches, the same images as in
        training. No gradient is computed, and only statistics change; see `bench.training.recalibration`. Returns the
        number of layers with statistics. Without any, nothing is drawn or charged.

        A method needs this only for decisions during compression, because the harness re-estimates every network that
        was not trained after its last change. Raises BudgetExceeded if more is asked for than remains.
        """
        layers = len(recalibration.with_statistics(model))
        if layers:
            recalibration.recalibrate(model, self.batches(batches))
        return layers

    def was_trained(self, model: nn.Module, steps: int) -> bool:
        """Whether the last `steps` changes of the weights of `model`, or more, were steps of `fit`; for the harness."""
        return steps <= self._steps_behind(model)

    def _weights_and_steps(self, model: nn.Module) -> tuple[str, int]:
        """A digest of the weights, and the steps of `fit` that led to them."""
        weights = recalibration.weights_digest(model)
        return weights, self._trained[1] if self._trained[0] == weights else 0

    def _steps_behind(self, model: nn.Module) -> int:
        return self._weights_and_steps(model)[1] if self._trained[1] else 0

    def batches(self, count: int) -> Iterator[Batch]:
        """`count` augmented training batches, images float [B, C, H, W] and labels int64 [B], charged like `fit`."""
        self._charge(count)
        with bar("training batches", count) as advance:
            for batch in training.take(self._feed, self._order, count):
                yield batch
                advance(1)

    def held_out(self) -> Iterator[Batch]:
        """The tuning images once, in order, without augmentation, for decisions during compression. They are free.

        They are split off from the training images and are in no training batch. Raises BenchError for a dataset
        without training images.
        """
        if self._tuning is None:
            raise BenchError("the dataset has no training images, so none are held out from them")
        return self._tuning.once()

    def note(self, layer: str, text: str, *, reachable: bool = True) -> None:
        """Record why a layer was left unchanged; the table of layers shows it.

        `reachable=False` says that the method cannot compress a layer of this kind, so that `reachable_share` does not
        include it. Leave it out if the reason is an option, such as a rate of 0, or the layer's weights.
        """
        self.notes[layer] = text
        if reachable:
            self.reachable.add(layer)

    def picture(self, name: str, figure: Figure) -> None:
        """Store a figure beside the record, as `name`.png. Pictures of encodings are drawn without this."""
        self.pictures[name] = figure

    @contextmanager
    def share(self, part: float) -> Iterator[None]:
        """Within this block only the share `part` of the remaining budget may be spent."""
        outer = self._limit
        self._limit = self.spent + part * self.remaining
        try:
            yield
        finally:
            self._limit = outer

    @contextmanager
    def one_schedule(self) -> Iterator[None]:
        """Within this block all calls of `fit` follow one learning-rate schedule, which ends with the budget.

        For a network whose structure changes during training: each call has its own optimiser.
        """
        outer, self._schedule = self._schedule, (self.spent, self._limit)
        try:
            yield
        finally:
            self._schedule = outer

    def _span(self, steps: int) -> tuple[float, float]:
        """The part of its schedule, from 0 to 1, that a training of `steps` steps covers."""
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
                "remain; allow more epochs"
            )
        self.spent += steps / self._feed.steps
