"""The cache: trained baselines, downloads and unpacked archives, all of which can be made again."""

import os
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "BENCH_CACHE"
"""The environment variable that names another folder."""


def cache_dir() -> Path:
    """`$BENCH_CACHE`, or the user's cache folder of this operating system. It need not exist."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("cnn-compression-bench")


def explained(error: OSError) -> str:
    """The error in one line; if it concerns the cache, with the variable that names another folder."""
    reason, path = error.strerror or str(error), error.filename
    if not isinstance(path, (str, os.PathLike)):
        return str(error)
    where = Path(path)
    if where.absolute().is_relative_to(cache_dir().absolute()):
        return f"cache {where}: {reason}; set {VARIABLE} to a folder that can be written"
    return f"{where}: {reason}"
