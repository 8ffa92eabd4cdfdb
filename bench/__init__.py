"""A benchmark harness and leaderboard for CNN compression methods.

What a method or a dataset needs is here: `from bench import Method, Lab, ...`. Names load on first use, so that the
command line answers before torch is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.artifact import load as load
    from bench.cache import cache_dir as cache_dir
    from bench.clustering import KMeans as KMeans
    from bench.clustering import kmeans as kmeans
    from bench.dataset import Dataset as Dataset
    from bench.dataset import Files as Files
    from bench.dataset import Pixels as Pixels
    from bench.dataset import Recipe as Recipe
    from bench.dependencies import FilterGroup as FilterGroup
    from bench.encoding import Codebook as Codebook
    from bench.encoding import Encoding as Encoding
    from bench.encoding import Work as Work
    from bench.encoding import encodable as encodable
    from bench.encoding import encode as encode
    from bench.encoding import encoding_of as encoding_of
    from bench.encodings import ChannelKernels as ChannelKernels
    from bench.encodings import Mask as Mask
    from bench.encodings import ScaledKernels as ScaledKernels
    from bench.encodings import SharedFilters as SharedFilters
    from bench.encodings import dihedral as dihedral
    from bench.errors import BenchError as BenchError
    from bench.errors import BudgetExceeded as BudgetExceeded
    from bench.few_points import FewPoints as FewPoints
    from bench.lab import Lab as Lab
    from bench.layers import convolutions as convolutions
    from bench.layers import image_readers as image_readers
    from bench.layers import is_classifier as is_classifier
    from bench.layers import is_depthwise as is_depthwise
    from bench.leaderboard import load_records as load_records
    from bench.masks import drop_lowest as drop_lowest
    from bench.masks import keep_highest as keep_highest
    from bench.masks import keep_highest_overall as keep_highest_overall
    from bench.method import Method as Method
    from bench.progress import bar as bar
    from bench.ranking import Criterion as Criterion
    from bench.ranking import filter_macs as filter_macs
    from bench.ranking import group_scores as group_scores
    from bench.ranking import rank_filters as rank_filters
    from bench.rates import LayerRanges as LayerRanges
    from bench.rates import Layers as Layers
    from bench.rates import choose_layers as choose_layers
    from bench.rates import layer_rates as layer_rates
    from bench.removal import filter_groups as filter_groups
    from bench.removal import remove_chosen as remove_chosen
    from bench.removal import remove_filters as remove_filters
    from bench.removal import remove_lowest as remove_lowest
    from bench.removal import remove_lowest_overall as remove_lowest_overall
    from bench.removal import shrink_to as shrink_to
    from bench.setting import SettingText as SettingText
    from bench.zoo import imagenet_synsets as imagenet_synsets

_HOMES = {
    "dihedral": "bench.encodings",
    "image_readers": "bench.layers",
    "is_classifier": "bench.layers",
    "is_depthwise": "bench.layers",
    "ChannelKernels": "bench.encodings",
    "ScaledKernels": "bench.encodings",
    "Codebook": "bench.encoding",
    "Mask": "bench.encodings",
    "SharedFilters": "bench.encodings",
    "Work": "bench.encoding",
    "drop_lowest": "bench.masks",
    "encodable": "bench.encoding",
    "keep_highest": "bench.masks",
    "keep_highest_overall": "bench.masks",
    "BenchError": "bench.errors",
    "Criterion": "bench.ranking",
    "BudgetExceeded": "bench.errors",
    "Dataset": "bench.dataset",
    "Encoding": "bench.encoding",
    "FewPoints": "bench.few_points",
    "Files": "bench.dataset",
    "FilterGroup": "bench.dependencies",
    "KMeans": "bench.clustering",
    "Lab": "bench.lab",
    "LayerRanges": "bench.rates",
    "Method": "bench.method",
    "Pixels": "bench.dataset",
    "Layers": "bench.rates",
    "Recipe": "bench.dataset",
    "SettingText": "bench.setting",
    "bar": "bench.progress",
    "cache_dir": "bench.cache",
    "choose_layers": "bench.rates",
    "convolutions": "bench.layers",
    "encode": "bench.encoding",
    "encoding_of": "bench.encoding",
    "filter_groups": "bench.removal",
    "filter_macs": "bench.ranking",
    "group_scores": "bench.ranking",
    "imagenet_synsets": "bench.zoo",
    "kmeans": "bench.clustering",
    "layer_rates": "bench.rates",
    "load": "bench.artifact",
    "load_records": "bench.leaderboard",
    "rank_filters": "bench.ranking",
    "remove_chosen": "bench.removal",
    "remove_filters": "bench.removal",
    "remove_lowest": "bench.removal",
    "remove_lowest_overall": "bench.removal",
    "shrink_to": "bench.removal",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
