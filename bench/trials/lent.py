"""The weights of a task, lent to processes on machines that lack the file: a baseline, a download, or a user's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bench.networks.state_dicts import load_weights
from bench.trials.task import Subject, Task


@dataclass(frozen=True)
class Lent:
    """The weights that a task was loaded with, and what is known of them; equal where the weights are."""

    weights: str
    digest: str
    tensors: dict[str, Tensor] = field(compare=False, repr=False)
    baseline: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def of(cls, task: Task) -> Lent | None:
        """None for a network that was passed as a module: it goes with its plan."""
        return None if task.handed else cls(task.weights, task.digest, task.model.state_dict(), task.baseline)

    def task(self, subject: Subject) -> Task:
        """The task as it was where the weights were loaded."""
        model = subject.build()
        load_weights(model, self.tensors, self.weights)
        return subject.task(model, self.weights, self.baseline)
