"""One training of a trial, as its checkpoints see it: how it began, and how far it has come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.data.feed import Feed
from bench.isolation.randomness import Randomness
from bench.networks.state_dicts import digest
from bench.system.clock import working_seconds
from bench.training.checkpoint import MODEL, MOMENTUM, ORDER, Checkpoint, prefixed
from bench.training.network_state import NetworkState, Stored, load_momenta, momenta, tensors_of
from bench.training.order import Order
from bench.training.outside import described
from bench.training.recalibration import is_statistic

if TYPE_CHECKING:
    from bench.training.resuming import Checkpoints

GENERATOR = "generator"


@dataclass(frozen=True)
class Conditions:
    """What a training depends on beside the network."""

    feed: Feed
    order: torch.Generator
    """Draws the order of the images."""
    generator: torch.Generator
    """The method's source of random numbers."""
    facts: Mapping[str, Any]
    """Plain values, such as the learning rate and a digest of the weights."""
    hooks: tuple[object, ...]
    owner: object
    """What the training belongs to, whose state is not described where hooks hold it."""
    besides: Callable[[], object]
    """What hooks may change of that state, apart from the generators."""


class Training:
    """Keeps the state of one training in the checkpoints of its trial: the `snapshot` of `bench.training.loop.fit`.

    `number` counts the trainings of the trial. It has to be made before the training changes anything.
    """

    def __init__(
        self, checkpoints: Checkpoints, number: int, model: nn.Module, steps: int, conditions: Conditions
    ) -> None:
        self.earlier_seconds = 0.0
        """What the steps took that are not repeated."""
        self._checkpoints, self._number = checkpoints, number
        self._model, self._steps, self._conditions = model, steps, conditions
        self._network = NetworkState(model)
        self._outside = ""
        """What checkpoints do not hold, as it was in the beginning; empty if they would not be enough."""
        try:
            self._beginning = self._describe_beginning()
        except Exception:  # a tensor of an odd kind; the training itself can go on
            self._beginning = ""
        self._started = working_seconds()

    def is_finished(self) -> bool:
        """Whether an earlier attempt finished this training; its result is loaded then."""
        if not self._load(None):
            return False
        self._model.eval()
        return True

    def restore(self, model: nn.Module, optimiser: torch.optim.SGD, order: torch.Generator) -> int:
        """Load the last checkpoint, and return the number of updates made until then; 0 if there is none."""
        self._outside = self._describe_outside()
        step = self._load(optimiser)
        self._checkpoints.tell()
        self._started = working_seconds()
        return step

    def after(self, step: int, model: nn.Module, optimiser: torch.optim.SGD, order: Order) -> None:
        """Keep the result after the last step, and a checkpoint after another one, if it is time to."""
        if step == self._steps:
            if result := self._checkpoint(step, order.generator.get_state(), {}):
                self._checkpoints.keep(self._number, result)
        elif self._checkpoints.is_due:
            if unfinished := self._checkpoint(step, order.place(step), momenta(optimiser)):
                self._checkpoints.write(self._number, unfinished)

    def _describe_beginning(self) -> str:
        """A digest of everything that the result of the training depends on, the code and the images aside."""
        given = self._conditions
        noise = Randomness.now(given.feed.device)
        weights = {name for name in self._model.state_dict() if not is_statistic(name)}  # their digest is given
        rest = {name: tensor for name, tensor in self._network.before.items() if name not in weights}
        tensors = prefixed(MODEL, rest) | noise.tensors
        tensors |= {ORDER: given.order.get_state(), GENERATOR: given.generator.get_state()}
        text = json.dumps([self._steps, dict(given.facts), noise.facts]).encode()
        return digest(tensors | {"facts": torch.frombuffer(bytearray(text), dtype=torch.uint8)})

    def _describe_outside(self) -> str:
        """A digest of everything that checkpoints do not hold; empty if that is not known."""
        given = self._conditions
        known = {"owner": given.owner, ORDER: given.order, GENERATOR: given.generator}
        return described(self._model, tensors_of(self._model), known, *given.hooks, given.besides())

    def _checkpoint(self, step: int, order: Tensor, momentum: Mapping[str, Tensor]) -> Checkpoint | None:
        """The state after a step; None if tensors alone cannot bring it back."""
        if not self._beginning or not self._outside:
            return None
        stored, given = self._network.now(), self._conditions
        if stored is None or self._describe_outside() != self._outside:
            self._outside = ""  # it is not tried again after every step
            return None
        noise = Randomness.now(given.feed.device)
        tensors = prefixed(MODEL, stored.tensors) | prefixed(MOMENTUM, momentum) | noise.tensors
        tensors |= {ORDER: order, GENERATOR: given.generator.get_state()}
        seconds = self.earlier_seconds + working_seconds() - self._started
        facts = {"beginning": self._beginning, "step": step, "seconds": seconds, **noise.facts}
        return Checkpoint.copy(tensors, facts | {"names": stored.names, "replaced": stored.replaced})

    def _load(self, optimiser: torch.optim.SGD | None) -> int:
        """The steps that need not be made because a state after them was loaded; without an optimiser, all or none."""
        finished = optimiser is None
        found = self._checkpoints.read(self._number, self._beginning, finished=finished) if self._beginning else None
        if found is None:
            return 0
        try:
            step, seconds = self._apply(found, optimiser)
        except Exception:  # a file may hold anything
            self._checkpoints.discard(self._number)
            return 0
        self.earlier_seconds = seconds
        self._checkpoints.resumed(step / self._conditions.feed.steps, seconds)
        return step

    def _apply(self, found: Checkpoint, optimiser: torch.optim.SGD | None) -> tuple[int, float]:
        """Load a state. Any exception, before anything is changed, if it does not fit."""
        given, facts = self._conditions, found.facts
        step, seconds = int(facts["step"]), float(facts["seconds"])
        if not (step == self._steps if optimiser is None else 0 < step < self._steps) or not seconds >= 0:
            raise ValueError("another number of steps")
        noise = Randomness.read(given.feed.device, found.tensors, facts)
        for state in (ORDER, GENERATOR):
            torch.Generator().set_state(found.tensors[state])
        stored = Stored(found.part(MODEL), facts["names"], facts["replaced"])
        self._network.check(stored)
        if optimiser is not None:
            load_momenta(optimiser, found.part(MOMENTUM))
        self._network.load(stored)
        given.order.set_state(found.tensors[ORDER])
        given.generator.set_state(found.tensors[GENERATOR])
        noise.restore()
        return step, seconds
