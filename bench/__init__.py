"""A benchmark harness and leaderboard for CNN compression methods.

What a method or a dataset needs is here: `from bench import Method, Lab, ...`. Names load on first use, so that the
command line answers before torch is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.clustering.few_points import FewPoints as FewPoints
    from bench.clustering.kmeans import KMeans as KMeans
    from bench.clustering.kmeans import kmeans as kmeans
    from bench.data.dataset import Dataset as Dataset
    from bench.data.dataset import Files as Files
    from bench.data.dataset import Pixels as Pixels
    from bench.data.dataset import Recipe as Recipe
    from bench.encodings import ChannelKernels as ChannelKernels
    from bench.encodings import Mask as Mask
    from bench.encodings import ScaledKernels as ScaledKernels
    from bench.encodings import SharedFilters as SharedFilters
    from bench.encodings import dihedral as dihedral
    from bench.encodings.artifact import load as load
    from bench.encodings.base import Codebook as Codebook
    from bench.encodings.base import Encoding as Encoding
    from bench.encodings.base import Work as Work
    from bench.encodings.base import encodable as encodable
    from bench.encodings.base import encode as encode
    from bench.encodings.base import encoding_of as encoding_of
    from bench.leaderboard import load_records as load_records
    from bench.networks.layers import convolutions as convolutions
    from bench.networks.layers import image_readers as image_readers
    from bench.networks.layers import is_classifier as is_classifier
    from bench.networks.layers import is_depthwise as is_depthwise
    from bench.networks.zoo import imagenet_synsets as imagenet_synsets
    from bench.plugins.method import Method as Method
    from bench.plugins.setting import SettingText as SettingText
    from bench.pruning.criteria import Criterion as Criterion
    from bench.pruning.criteria import filter_macs as filter_macs
    from bench.pruning.criteria import group_scores as group_scores
    from bench.pruning.criteria import rank_filters as rank_filters
    from bench.pruning.filters import filter_groups as filter_groups
    from bench.pruning.filters import remove_chosen as remove_chosen
    from bench.pruning.filters import remove_filters as remove_filters
    from bench.pruning.filters import remove_lowest as remove_lowest
    from bench.pruning.filters import remove_lowest_overall as remove_lowest_overall
    from bench.pruning.filters import shrink_to as shrink_to
    from bench.pruning.groups import FilterGroup as FilterGroup
    from bench.pruning.masks import drop_lowest as drop_lowest
    from bench.pruning.masks import keep_highest as keep_highest
    from bench.pruning.masks import keep_highest_overall as keep_highest_overall
    from bench.pruning.rates import LayerRanges as LayerRanges
    from bench.pruning.rates import Layers as Layers
    from bench.pruning.rates import choose_layers as choose_layers
    from bench.pruning.rates import layer_rates as layer_rates
    from bench.system.cache import cache_dir as cache_dir
    from bench.system.errors import BenchError as BenchError
    from bench.system.errors import BudgetExceeded as BudgetExceeded
    from bench.system.progress import bar as bar
    from bench.training.lab import Lab as Lab

_HOMES = {
    "dihedral": "bench.encodings",
    "image_readers": "bench.networks.layers",
    "is_classifier": "bench.networks.layers",
    "is_depthwise": "bench.networks.layers",
    "ChannelKernels": "bench.encodings",
    "ScaledKernels": "bench.encodings",
    "Codebook": "bench.encodings.base",
    "Mask": "bench.encodings",
    "SharedFilters": "bench.encodings",
    "Work": "bench.encodings.base",
    "drop_lowest": "bench.pruning.masks",
    "encodable": "bench.encodings.base",
    "keep_highest": "bench.pruning.masks",
    "keep_highest_overall": "bench.pruning.masks",
    "BenchError": "bench.system.errors",
    "Criterion": "bench.pruning.criteria",
    "BudgetExceeded": "bench.system.errors",
    "Dataset": "bench.data.dataset",
    "Encoding": "bench.encodings.base",
    "FewPoints": "bench.clustering.few_points",
    "Files": "bench.data.dataset",
    "FilterGroup": "bench.pruning.groups",
    "KMeans": "bench.clustering.kmeans",
    "Lab": "bench.training.lab",
    "LayerRanges": "bench.pruning.rates",
    "Method": "bench.plugins.method",
    "Pixels": "bench.data.dataset",
    "Layers": "bench.pruning.rates",
    "Recipe": "bench.data.dataset",
    "SettingText": "bench.plugins.setting",
    "bar": "bench.system.progress",
    "cache_dir": "bench.system.cache",
    "choose_layers": "bench.pruning.rates",
    "convolutions": "bench.networks.layers",
    "encode": "bench.encodings.base",
    "encoding_of": "bench.encodings.base",
    "filter_groups": "bench.pruning.filters",
    "filter_macs": "bench.pruning.criteria",
    "group_scores": "bench.pruning.criteria",
    "imagenet_synsets": "bench.networks.zoo",
    "kmeans": "bench.clustering.kmeans",
    "layer_rates": "bench.pruning.rates",
    "load": "bench.encodings.artifact",
    "load_records": "bench.leaderboard",
    "rank_filters": "bench.pruning.criteria",
    "remove_chosen": "bench.pruning.filters",
    "remove_filters": "bench.pruning.filters",
    "remove_lowest": "bench.pruning.filters",
    "remove_lowest_overall": "bench.pruning.filters",
    "shrink_to": "bench.pruning.filters",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
