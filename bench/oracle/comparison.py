"""`bench oracle`: how well each ranking of filters predicts the change of the loss when a filter is removed.

The oracle sets each filter to zero, one at a time, and measures the loss. Each ranking is compared with it by
Spearman's rank correlation, as in section 3.1 of Molchanov et al., ICLR 2017 (https://arxiv.org/abs/1611.06440). There
are three correlations: the mean of those within each layer, that over the filters of all layers together, and the same
with scores divided by their layer's L2 norm. The images are held out of the training set; the test set is not used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from bench.data.feed import Batch
from bench.networks.layers import on_device
from bench.pruning import criteria as ranking
from bench.pruning.feature_maps import FeatureMaps
from bench.system.errors import BenchError

if TYPE_CHECKING:
    from bench.trials.baseline import Task

CRITERIA = ("taylor", "taylor, legacy_signed", "weight", "mean", "std", "zeros", "random")
"""The columns of scores, named as in the options of `taylor`."""


@dataclass(frozen=True)
class Comparison:
    """The scores of every filter, and the change of the loss without it.

    `filters` has one row for each filter: `layer`, `filter`, `oracle` (|C(without the filter) - C|, with the loss C),
    and a column for each of CRITERIA.
    """

    title: str
    filters: pd.DataFrame
    images: int

    @property
    def by_layer(self) -> pd.DataFrame:
        """Spearman's correlation with the oracle by layer (rows) and criterion; NaN if scores are constant."""
        layers = self.filters.groupby("layer", sort=False)
        return pd.DataFrame(
            {
                criterion: {str(layer): spearman(rows[criterion], rows["oracle"]) for layer, rows in layers}
                for criterion in CRITERIA
            }
        )

    @property
    def summary(self) -> pd.DataFrame:
        """By criterion: `per_layer` (the mean of `by_layer`), `all_layers`, and `all_layers_normalised`."""
        oracle, normalised = self.filters["oracle"], self.normalised
        return pd.DataFrame(
            {
                "per_layer": self.by_layer.mean(),
                "all_layers": {name: spearman(self.filters[name], oracle) for name in CRITERIA},
                "all_layers_normalised": {name: spearman(normalised[name], oracle) for name in CRITERIA},
            },
            index=list(CRITERIA),
        )

    @property
    def normalised(self) -> pd.DataFrame:
        """`filters` with each criterion divided by its layer's L2 norm; the oracle stays as it is."""
        norms = self.filters[list(CRITERIA)].pow(2).groupby(self.filters["layer"], sort=False).transform("sum").pow(0.5)
        return self.filters.assign(
            **{name: self.filters[name] / norms[name].where(norms[name] > 0, 1) for name in CRITERIA}
        )


def spearman(scores: pd.Series[float], oracle: pd.Series[float]) -> float:
    """Rank correlation in [-1, 1]; NaN if either is constant."""
    if scores.nunique() < 2 or oracle.nunique() < 2:
        return float("nan")
    return float(stats.spearmanr(scores, oracle).statistic)


def compare(model: nn.Module, example_input: Tensor, batches: Iterable[Batch], title: str = "") -> Comparison:
    """Rank the filters of every convolution by each criterion, and by the oracle, on the same images."""
    batches = list(batches)
    maps = FeatureMaps(model, example_input)
    activations = ranking.activation_scores(maps, batches)
    scores: dict[str, ranking.Scores] = {
        "taylor": ranking.taylor_scores(maps, batches),
        "taylor, legacy_signed": ranking.taylor_scores(maps, batches, signed=True),
        "weight": ranking.weight_scores(maps),
        **activations,
        "random": ranking.random_scores(maps, torch.Generator().manual_seed(0)),
        "oracle": ranking.loss_changes(maps, batches),
    }
    places = [(layer, position) for layer, count in maps.channels.items() for position in range(count)]
    frame = pd.DataFrame(places, columns=["layer", "filter"])
    for name, by_layer in scores.items():
        frame[name] = torch.cat([by_layer[layer] for layer in maps.channels]).numpy()
    return Comparison(title, frame, sum(len(labels) for _, labels in batches))


def compare_task(task: Task, device: torch.device, images: int) -> Comparison:
    """`compare` a task's network on at most `images` images held out from the training set.

    Raises BenchError for a dataset without training images or a network without convolutions.
    """
    held_out = task.dataset.split("tuning")
    feed = task.feed(held_out.subset(torch.arange(min(images, len(held_out)))), device)
    model = on_device(task.model, device).eval()
    example = torch.zeros(1, *task.preprocessing.size, device=device)
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        raise BenchError(f"{task.name} has no convolutions, so there are no filters to rank")
    return compare(model, example, feed.once(), f"{task.name} on {task.dataset.title}, weights {task.weights}")
