"""Where things that can be made again are kept: trained baselines, downloads, unpacked archives."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_dir() -> Path:
    """`$BENCH_CACHE`, or the user's cache folder of this operating system."""
    chosen = os.environ.get("BENCH_CACHE")
    return Path(chosen).expanduser() if chosen else user_cache_path("cnn-compression-bench")
