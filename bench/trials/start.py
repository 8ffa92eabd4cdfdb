"""What the training of a baseline starts from: random weights, published ones, or those of a file.

If the weights are for another number of classes, all of them are kept but the classifier's, which get new random
values. The whole network is then trained with the recipe's learning rate for fine-tuning (`finetune_lr`), on one
schedule. With `freeze`, only the classifier is trained in the first fifth of the passes, with the learning rate of
baselines (`lr`) and its own schedule; all other weights and the batch-norm statistics stay fixed. The other four
fifths train the whole network as without `freeze`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from bench.networks import zoo
from bench.networks.layers import is_classifier, weighted_layers
from bench.networks.state_dicts import digest, load_but, new_layers, read_state_dict, split_key
from bench.system.errors import BadArgument
from bench.system.text import listed
from bench.trials.task import SCRATCH, Subject

PRETRAINED = "pretrained"
FROZEN_SHARE = 0.2


@dataclass(frozen=True)
class Start:
    """A network ready to be trained, and the `weights` that were asked for.

    `digest` is that of the network's tensors, including a new classifier.
    """

    model: nn.Module
    weights: str
    digest: str
    source_digest: str = ""
    """That of the given weights, before the classifier was replaced; empty for published ones."""
    new: tuple[str, ...] = ()
    """The layers with new random weights."""
    frozen: tuple[nn.Module, ...] = ()
    """The layers that are trained alone first; empty if everything is trained from the beginning."""

    @property
    def told(self) -> str:
        """What the training starts from, in words."""
        if self.weights == SCRATCH:
            return ""
        source = "the published weights" if self.weights == PRETRAINED else self.weights
        new = f" with a new classifier ({listed(self.new)})" if self.new else ""
        return f", from {source}{new}" + (", the classifier first" if self.frozen else "")

    @property
    def options(self) -> str:
        """The options of `bench train` for this start."""
        return "" if self.weights == SCRATCH else f" --weights {self.weights}" + (" --freeze" if self.frozen else "")

    @property
    def origin(self) -> dict[str, Any]:
        """For the description of a baseline; empty for random weights."""
        if self.weights == SCRATCH:
            return {}
        origin = {"weights": self.weights, "digest": self.source_digest, "new_layers": list(self.new)}
        return origin | ({"classifier_first": FROZEN_SHARE} if self.frozen else {})


def start_of(subject: Subject, weights: str, *, freeze: bool = False) -> Start:
    """The network with these weights: `scratch`, `pretrained`, a file, or FILE#KEY.

    Raises BadArgument for weights that do not exist or fit, and for a classifier that cannot be trained alone.
    """
    if weights == SCRATCH:
        if freeze:
            raise BadArgument("freeze", True, "random weights cannot be frozen; name weights to start from")
        model = subject.build()
        return Start(model, weights, digest(model.state_dict()))
    source, new = "", list[str]()
    if weights == PRETRAINED:
        model = published(subject)
        if not zoo.has_pretrained(subject.name, len(subject.dataset.classes)):
            new = classifiers(model)
    else:
        model = subject.build()
        path, key = split_key(weights)
        tensors = read_state_dict(path, model.state_dict().keys(), key)
        new, source = new_layers(model, tensors), digest(tensors)
        load_but(model, tensors, new, weights)
    frozen = tuple(model.get_submodule(name) for name in new or classifiers(model)) if freeze else ()
    if freeze and not frozen:
        raise BadArgument("freeze", True, f"no layer of {subject.name} is known to be its classifier")
    return Start(model, weights, digest(model.state_dict()), source, tuple(new), frozen)


def published(subject: Subject) -> nn.Module:
    """The network with its published weights. BadArgument if there are none."""
    if not zoo.has_pretrained(subject.name):
        problem = f"there are no published weights for '{subject.name}'; expected a file or scratch"
        raise BadArgument("weights", PRETRAINED, problem)
    return subject.build(pretrained=True)


def classifiers(model: nn.Module) -> list[str]:
    """The names of the layers that give the outputs for the classes."""
    return [name for name, layer in weighted_layers(model).items() if is_classifier(model, layer)]
