"""A benchmark harness and leaderboard for CNN compression methods.

What a script, a method or a dataset needs is here: `from bench import Method, Lab`.

**Run and read**: `run`, `compress`, `Compressed`, `load`, `save`, `executable`, `load_records`, `cache_dir`.

**Write a method**: `Method`, `Lab`, `Strength`, `SettingText`, `bar`, `listed`. Its layers: `convolutions`,
`weighted_layers`, `image_readers`, `is_classifier`, `is_depthwise`, `choose_layers`, `Layers`, `LayerRanges`.

**Prune**: filters are removed by `remove_lowest`, `remove_lowest_overall`, `remove_filters` and `remove_chosen`, in
groups from `filter_groups` (`FilterGroup`), scored by `rank_filters` or `group_scores` (`Criterion`, `filter_macs`).
Kernels and weights are set to zero by `drop_lowest`, or by `keep_highest` and `keep_highest_overall`. Rates and widths:
`layer_rates`, `Rate`, `Rates`, `Skip`, `Tied`, `RoundTo`, `KeepAtLeast`, `fewest`. `shrink_to` rebuilds a
smaller network.

**Store weights differently**: `Encoding`, `encodable`, `encode`, `encoding_of`, `Codebook`, `Work`, `stored_bits`,
`stored_tensors`. Those that are there: `ScaledKernels`, `ChannelKernels`, `SharedFilters`, `SharedWeights`, `Mask`,
`Quantized`, `Plain`; `dihedral`. Clustering: `kmeans`, `KMeans`, `FewPoints`.

**Bring a dataset**: `Dataset`, `Pixels`, `Files`, `Recipe`, `open_image`, `upright`, `imagenet_synsets`.

**Errors**: `BenchError`, `BadArgument`, `BudgetExceeded`, `MethodFault`.
"""

# The names stand in `__init__.pyi`, which type checkers read too. Each is imported on first use, so that the command
# line answers before torch is imported.

import lazy_loader

from bench.system.threads import sleep_when_idle

sleep_when_idle()  # here, because OpenMP reads its settings when torch is imported
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
