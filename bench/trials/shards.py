"""Shards: the parts into which `bench run --shard 2/8` splits its trials, so that several machines share them.

Where a trial belongs depends on the trial alone: on the names of its network and dataset, its setting, its budget and
its seed. It does not depend on the machine, its device, the folders in which data and code lie there, or the other
trials that are asked for. So every machine splits in the same way, and a suite that grows leaves its earlier trials
where they were. The shards are about equally large, as if by throwing dice; the seeds of a setting go to one shard
after another. Under `--at`, what counts is the setting without the value to be found, with its operating point, so that
each machine searches for its own trials only.

The dense network is measured by every shard that measures something else of the same network and dataset at the same
budget, because it is a row of every board, and by no other. It is not trained, and shards on one store share its
record.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from bench.system.errors import BadArgument

MOST = 1_000_000
"""Shards; more digits are no number that somebody meant."""
EXAMPLE = "expected I/N, as in 2/8: part I of N, counted from 1"


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    @property
    def is_whole(self) -> bool:
        return self.count == 1

    def holds(self, model: str, dataset: str, setting: str, epochs: float, seed: int) -> bool:
        """Whether this trial is in the shard. Of paths in names only the last part counts."""
        named = [_last_part(model), _last_part(dataset), setting, float(epochs)]
        digest = hashlib.sha256(json.dumps(named).encode()).digest()
        return (int.from_bytes(digest[:8], "big") + seed) % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard()


def parse_shard(text: str, argument: str = "shard") -> Shard:
    """A shard as `2/8`; BadArgument for other text, and for a part that does not exist."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII) if isinstance(text, str) else None
    if match is None:
        raise BadArgument(argument, text, EXAMPLE)
    index, count = int(match[1]), int(match[2])
    if not 1 <= count <= MOST:
        raise BadArgument(argument, text, f"there are {count} parts; {EXAMPLE}")
    if not 1 <= index <= count:
        raise BadArgument(argument, text, f"there is no part {index}; expected 1/{count} to {count}/{count}")
    return Shard(index, count)


def _last_part(name: str) -> str:
    """`folder:/data/photos/` is `folder:photos`, and `/home/me/nets.py:Net` is `nets.py:Net`."""
    return re.sub(r"[^:/\\]*[/\\]+", "", name.rstrip("/\\"))
